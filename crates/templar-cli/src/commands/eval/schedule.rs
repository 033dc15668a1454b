//! What is measured on a schedule: a file in TOML of a person's own, or the benchmarks of a genesis.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;
use templar_blob::BlobSource;
use templar_data::words;
use templar_eval::{Table, Task, file_id, read_text};
use templar_home::files::read_small;
use templar_manifest::{BenchmarkSpec, BlobId, MAX_BENCHMARK_BYTES, Measures, QuestionsSpec};

use super::measure::Subject;
use super::result_files::Inputs;
use crate::error::{Code, CommandError};
use crate::printer::shown;

/// What is measured, and how often: a file in TOML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFile {
    /// The model after every so many windows.
    #[serde(default = "one")]
    every: u64,
    /// The measurements.
    measure: Vec<Measurement>,
}

fn one() -> u64 {
    1
}

/// One measurement: a benchmark, or a text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    task: Option<String>,
    #[serde(default)]
    file: Vec<PathBuf>,
    #[serde(default)]
    fewshot: u32,
    #[serde(default)]
    fewshot_from: Vec<PathBuf>,
    limit: Option<u64>,
    text: Option<PathBuf>,
}

/// What is measured, checked.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    every: u64,
    pub(crate) measurements: Vec<(Subject, Inputs)>,
}

impl Schedule {
    /// Reads a schedule, and every file that it names once, so that a mistake is found before the node starts. Paths
    /// are relative to the folder of the schedule.
    pub(crate) fn read(path: &Path) -> Result<Self, CommandError> {
        let text = read_small(path)?;
        let wrong = |what: &dyn std::fmt::Display| {
            let error = CommandError::says(Code::Usage, format_args!("{} is no schedule: {what}", shown(path)));
            error.hint("it has lines such as `every = 2`, and for each measurement `[[measure]]`, `task` and `file`")
        };
        let file: ScheduleFile = toml::from_str(&text)
            .map_err(|error: toml::de::Error| wrong(&words::toml(&text, error.span(), error.message())))?;
        if file.every == 0 || file.measure.is_empty() {
            return Err(wrong(&"it measures nothing"));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let measurements = file.measure.into_iter().map(|measurement| measurement.checked(folder, &wrong));
        Ok(Self { every: file.every, measurements: measurements.collect::<Result<_, _>>()? })
    }

    /// The same for a genesis, and the files that it names.
    pub(crate) fn benchmarks(&self) -> Result<(Vec<BenchmarkSpec>, Vec<PathBuf>), CommandError> {
        let mut paths = Vec::new();
        let mut named = |files: &[PathBuf]| -> Result<Vec<BlobId>, CommandError> {
            paths.extend_from_slice(files);
            files.iter().map(|path| bounded(path).and_then(|()| Ok(file_id(path)?))).collect()
        };
        let mut specs = Vec::new();
        for (subject, inputs) in &self.measurements {
            let files = named(&inputs.files)?;
            let measures = match subject {
                Subject::Text => Measures::Text(files[0]),
                Subject::Task { task, shots, limit } => Measures::Questions(QuestionsSpec {
                    task: task.to_string(),
                    files,
                    limit: *limit,
                    shots: *shots,
                    example_files: named(&inputs.example_files)?,
                }),
            };
            specs.push(BenchmarkSpec { every_windows: self.every, measures });
        }
        Ok((specs, paths))
    }

    /// Whether the model after this window is measured.
    pub(crate) fn has(&self, window: u64) -> bool {
        (window + 1).is_multiple_of(self.every)
    }
}

impl Measurement {
    fn checked(
        self,
        folder: &Path,
        wrong: &dyn Fn(&dyn std::fmt::Display) -> CommandError,
    ) -> Result<(Subject, Inputs), CommandError> {
        let beside = |paths: Vec<PathBuf>| paths.into_iter().map(|path| folder.join(path)).collect::<Vec<_>>();
        let subject = match (&self.task, &self.text) {
            (Some(name), None) => {
                let task: Task = name.parse().map_err(|error: templar_eval::UnknownTask| wrong(&error))?;
                Subject::Task { task, shots: self.fewshot, limit: self.limit }
            }
            (None, Some(_)) => Subject::Text,
            _ => return Err(wrong(&"a measurement has a `task` with its `file`, or a `text`")),
        };
        let model = String::new();
        let files = beside(self.text.into_iter().chain(self.file).collect());
        let inputs = Inputs { model, files, example_files: beside(self.fewshot_from) };
        match subject {
            Subject::Text if inputs.files.len() == 1 => drop(read_text(&inputs.files[0])?),
            Subject::Text => return Err(wrong(&"a text has no `file` beside it")),
            Subject::Task { .. } if inputs.files.is_empty() => return Err(wrong(&"a task has a `file`")),
            Subject::Task { shots, .. } if (shots > 0) == inputs.example_files.is_empty() => {
                return Err(wrong(&"`fewshot` and `fewshot_from` belong together"));
            }
            Subject::Task { task, limit, .. } => {
                Table::read(task, &inputs.files, limit)?;
                Table::read(task, &inputs.example_files, None)?;
            }
        }
        Ok((subject, inputs))
    }
}

/// Refuses a file that no home would fetch.
fn bounded(path: &Path) -> Result<(), CommandError> {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if bytes <= MAX_BENCHMARK_BYTES {
        return Ok(());
    }
    let text =
        format_args!("{} has {bytes} bytes; {MAX_BENCHMARK_BYTES} is the limit for a file of a run", shown(path));
    Err(CommandError::says(Code::Usage, text).hint("name fewer questions"))
}

/// A benchmark of a genesis, with its files laid out so that they can be read. They go when this does.
pub(crate) struct LaidOut {
    pub(crate) subject: Subject,
    pub(crate) inputs: Inputs,
    _folder: TempDir,
}

impl LaidOut {
    /// Takes the files out of the store.
    pub(crate) fn new(spec: &BenchmarkSpec, blobs: &dyn BlobSource) -> Result<Self, CommandError> {
        let failed = |error: std::io::Error| CommandError::new(Code::Failed, error);
        let folder = TempDir::new().map_err(failed)?;
        let lay_out = |files: &[BlobId]| -> Result<Vec<PathBuf>, CommandError> {
            let lay = |file: &BlobId| -> Result<PathBuf, CommandError> {
                // Tables of other formats are known by their first bytes.
                let path = folder.path().join(format!("{file}.jsonl"));
                std::fs::write(&path, blobs.read(&file.hash(), MAX_BENCHMARK_BYTES)?).map_err(failed)?;
                Ok(path)
            };
            files.iter().map(lay).collect()
        };
        let (subject, files, example_files) = match &spec.measures {
            Measures::Text(file) => (Subject::Text, lay_out(&[*file])?, Vec::new()),
            Measures::Questions(QuestionsSpec { task, files, limit, shots, example_files }) => {
                let known = task.parse::<Task>().map_err(|error| CommandError::new(Code::Failed, error))?;
                let subject = Subject::Task { task: known, shots: *shots, limit: *limit };
                (subject, lay_out(files)?, lay_out(example_files)?)
            }
        };
        Ok(Self { subject, inputs: Inputs { model: String::new(), files, example_files }, _folder: folder })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schedule, String> {
        let dir = tempfile::tempdir().unwrap();
        let row = r#"{"question": "?", "answerKey": "A", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}"#;
        std::fs::write(dir.path().join("arc.jsonl"), format!("{row}\n{row}\n")).unwrap();
        std::fs::write(dir.path().join("text"), "words").unwrap();
        let path = dir.path().join("schedule.toml");
        std::fs::write(&path, text).unwrap();
        Schedule::read(&path).map_err(|error| error.lines().join(": "))
    }

    #[test]
    fn a_schedule_says_what_and_how_often() {
        let both = "every = 3\n[[measure]]\ntask = \"arc_easy\"\nfile = [\"arc.jsonl\"]\nlimit = 1\n[[measure]]\ntext = \"text\"";
        let schedule = read(both).unwrap();
        assert_eq!((0..7).filter(|window| schedule.has(*window)).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(schedule.measurements.len(), 2);
        assert!(read("[[measure]]\ntext = \"text\"").unwrap().has(0), "every window without a number");
    }

    #[test]
    fn a_mistake_in_a_schedule_is_found_before_the_node_starts() {
        for (text, words) in [
            ("", "at line 1, column 1: the key `measure` is missing"),
            ("every = 0\n[[measure]]\ntext = \"text\"", "measures nothing"),
            ("measure = []", "measures nothing"),
            ("[[measure]]\ntask = \"chess\"\nfile = [\"arc.jsonl\"]", "chess"),
            ("[[measure]]\ntask = \"arc_easy\"", "a task has a `file`"),
            ("[[measure]]\ntask = \"arc_easy\"\nfile = [\"arc.jsonl\"]\nfewshot = 2", "belong together"),
            ("[[measure]]\ntask = \"piqa\"\nfile = [\"arc.jsonl\"]", "`goal` is missing"),
            ("[[measure]]\ntask = \"arc_easy\"\nfile = [\"nowhere\"]", "nowhere"),
            ("[[measure]]\ntext = \"text\"\nfile = [\"arc.jsonl\"]", "no `file`"),
            ("[[measure]]\ntext = \"text\"\nsample = 1", "sample"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(words), "{words} in {said}");
        }
    }
}
