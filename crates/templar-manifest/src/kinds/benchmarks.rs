//! The measurements of models that a run wants on a schedule.
//!
//! Nothing in the records follows from a measurement. The schedule is in genesis so that everybody measures the same
//! models on the same bytes, and so that a run cannot choose afterwards by what it is judged.

use serde::{Deserialize, Serialize};

use super::rules::{ascii, positive};
use crate::id::BlobId;

/// Most measurements that a genesis lists, and most files of one.
pub const MAX_BENCHMARKS: usize = 64;

/// The longest file that models are measured on, in bytes. It is read as a whole.
pub const MAX_BENCHMARK_BYTES: u64 = 256 << 20;

/// A measurement that the run's nodes make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkSpec {
    /// The model after every so many windows is measured.
    pub every_windows: u64,
    /// What it is measured on.
    pub measures: Measures,
}

/// What a model is measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measures {
    /// The questions of a benchmark.
    Questions(QuestionsSpec),
    /// The loss on a text in UTF-8.
    Text(BlobId),
}

/// The questions of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionsSpec {
    /// The name of the benchmark, such as `arc_easy`.
    pub task: String,
    /// The files with the questions, in order.
    pub files: Vec<BlobId>,
    /// Only so many questions of each subject are asked, the first ones; all where this is null.
    pub limit: Option<u64>,
    /// Examples before each question.
    pub shots: u32,
    /// The files with the examples, in order; none without examples.
    pub example_files: Vec<BlobId>,
}

impl BenchmarkSpec {
    /// Whether the model that `window` leaves is measured.
    pub fn is_due(&self, window: u64) -> bool {
        (window + 1).is_multiple_of(self.every_windows)
    }

    /// The files that are needed for it.
    pub fn files(&self) -> impl Iterator<Item = BlobId> {
        let (text, questions) = match &self.measures {
            Measures::Text(file) => (Some(*file), None),
            Measures::Questions(questions) => (None, Some(questions)),
        };
        let files = questions.into_iter().flat_map(|questions| questions.files.iter().chain(&questions.example_files));
        text.into_iter().chain(files.copied())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        positive("benchmarks.every_windows", self.every_windows)?;
        let Measures::Questions(QuestionsSpec { task, files, limit, shots, example_files }) = &self.measures else {
            return Ok(());
        };
        ascii("benchmarks.task", task, 64)?;
        positive("length of benchmarks.task", task.len() as u64)?;
        if !(1..=MAX_BENCHMARKS).contains(&files.len()) || example_files.len() > MAX_BENCHMARKS {
            return Err(format!(
                "benchmarks.files needs 1 to {MAX_BENCHMARKS} files, and example_files at most as many"
            ));
        }
        limit.map_or(Ok(()), |limit| positive("benchmarks.limit", limit))?;
        if (*shots == 0) != example_files.is_empty() {
            return Err("benchmarks.shots and benchmarks.example_files belong together".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Hash;

    fn file(number: u8) -> BlobId {
        Hash::of(&[number]).into()
    }

    fn questions(shots: u32, example_files: Vec<BlobId>) -> BenchmarkSpec {
        let questions =
            QuestionsSpec { task: "arc_easy".into(), files: vec![file(1), file(2)], limit: None, shots, example_files };
        BenchmarkSpec { every_windows: 3, measures: Measures::Questions(questions) }
    }

    fn altered(change: impl FnOnce(&mut QuestionsSpec)) -> Result<(), String> {
        let mut spec = questions(0, Vec::new());
        if let Measures::Questions(questions) = &mut spec.measures {
            change(questions);
        }
        spec.check()
    }

    #[test]
    fn every_third_window_is_the_third_the_sixth_and_so_on() {
        let spec = questions(2, vec![file(3)]);
        assert_eq!((0..7).filter(|window| spec.is_due(*window)).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(spec.files().collect::<Vec<_>>(), [file(1), file(2), file(3)]);
        let text = BenchmarkSpec { every_windows: 1, measures: Measures::Text(file(4)) };
        assert!(text.is_due(0) && text.files().eq([file(4)]) && text.check().is_ok());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        assert_eq!(questions(2, vec![file(3)]).check(), Ok(()));
        assert_eq!(altered(|_| {}), Ok(()));
        for (spec, word) in [(questions(2, Vec::new()), "together"), (questions(0, vec![file(3)]), "together")] {
            assert!(spec.check().unwrap_err().contains(word));
        }
        assert!(BenchmarkSpec { every_windows: 0, ..questions(0, Vec::new()) }.check().is_err());
        assert!(altered(|questions| questions.task.clear()).is_err());
        assert!(altered(|questions| questions.task.push('\n')).is_err());
        assert!(altered(|questions| questions.files.clear()).is_err());
        assert!(altered(|questions| questions.files = vec![file(1); MAX_BENCHMARKS + 1]).is_err());
        assert!(altered(|questions| questions.limit = Some(0)).is_err());
    }
}
