//! A benchmark over a list of questions: the requests that it makes, and what their scores mean.

use std::collections::BTreeMap;

use templar_data::Record;

use crate::examples::{Examples, ExamplesError, Source};
use crate::request::{EncodeError, Encoder, Request};
use crate::scoring::Score;
use crate::task::{Item, RowError, Task};

/// A row is no question of its task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {fault}")]
pub struct BadRow {
    /// The row or line, counted from 1.
    pub row: u64,
    /// The field that is wrong.
    pub fault: RowError,
}

/// Reads the rows of a file as items of a task.
///
/// # Errors
/// The first row that is none, and the field of it that is wrong.
pub fn sources(task: Task, records: Vec<Record>) -> Result<Vec<Source>, BadRow> {
    let source = |Record { row, fields }| match task.item(&fields) {
        Ok(item) => Ok(Source { fields, item }),
        Err(fault) => Err(BadRow { row, fault }),
    };
    records.into_iter().map(source).collect()
}

/// A question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Its examples cannot be chosen.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// It cannot be encoded.
    #[error("question {question} cannot be asked")]
    Encode {
        /// The number of the question, counted from 1.
        question: usize,
        /// Why.
        source: EncodeError,
    },
}

/// The questions of a task, and their requests.
#[derive(Debug)]
pub struct Benchmark {
    task: Task,
    questions: Vec<Item>,
    requests: Vec<Request>,
}

/// What the model chose in a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The score of each answer.
    pub scores: Vec<Score>,
    /// The right answer, counted from 0.
    pub gold: usize,
    /// The answer with the largest sum.
    pub chosen: usize,
    /// The answer with the largest sum by character, where the task has such a score.
    pub chosen_normalised: Option<usize>,
    /// Whether the model was right: it chose the right answer, or of a last word each token was the likeliest.
    pub is_correct: bool,
}

/// The counts of a benchmark.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Questions.
    pub questions: u64,
    /// Questions that were answered correctly.
    pub correct: u64,
    /// The same by the normalised score, where the task has one.
    pub correct_normalised: Option<u64>,
    /// Questions and correct ones of each subject, where the task has subjects.
    pub subjects: BTreeMap<String, (u64, u64)>,
    /// The sum of the log-likelihoods of the right answers in nats, added in f64 in the order of the questions.
    pub log_likelihood: f64,
}

impl Benchmark {
    /// The questions of a task, each behind `shots` examples out of `pool`.
    ///
    /// # Errors
    /// [`QuestionError`]
    pub fn new(
        task: Task,
        questions: &[Source],
        (shots, pool): (usize, &[Source]),
        encoder: &mut Encoder<'_>,
    ) -> Result<Self, QuestionError> {
        let mut examples = Examples::new(task, shots, pool);
        let mut requests = Vec::new();
        for (number, question) in questions.iter().enumerate() {
            let before = examples.before(question)?;
            for ask in question.item.asks(&before) {
                let request = encoder.ask(&ask);
                requests.push(request.map_err(|source| QuestionError::Encode { question: number + 1, source })?);
            }
        }
        Ok(Self { task, questions: questions.iter().map(|question| question.item.clone()).collect(), requests })
    }

    /// The requests of all questions, in order.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// What the scores of the requests say of each question.
    ///
    /// # Panics
    /// There are not as many scores as requests.
    pub fn outcomes(&self, scores: &[Score]) -> Vec<Outcome> {
        assert_eq!(scores.len(), self.requests.len(), "a score for each request");
        let mut rest = scores;
        let outcome = |item: &Item| {
            let (scores, others) = rest.split_at(item.answers());
            rest = others;
            self.outcome(item, scores)
        };
        self.questions.iter().map(outcome).collect()
    }

    fn outcome(&self, item: &Item, scores: &[Score]) -> Outcome {
        let sums: Vec<f64> = scores.iter().map(|score| score.log_likelihood).collect();
        let chosen = largest(&sums);
        let chosen_normalised = self.task.has_normalised_score().then(|| {
            let by_character = sums.iter().zip(item.characters()).map(|(sum, characters)| sum / characters as f64);
            largest(&by_character.collect::<Vec<f64>>())
        });
        let is_correct = if self.task.is_last_word() { scores[0].is_greedy } else { chosen == item.gold };
        Outcome { scores: scores.to_vec(), gold: item.gold, chosen, chosen_normalised, is_correct }
    }

    /// The counts of outcomes.
    pub fn tally(&self, outcomes: &[Outcome]) -> Tally {
        let mut tally = Tally { correct_normalised: self.task.has_normalised_score().then_some(0), ..Tally::default() };
        for (item, outcome) in self.questions.iter().zip(outcomes) {
            tally.questions += 1;
            tally.correct += u64::from(outcome.is_correct);
            if let Some(correct) = &mut tally.correct_normalised {
                *correct += u64::from(outcome.chosen_normalised == Some(outcome.gold));
            }
            if let Some(subject) = &item.subject {
                let (questions, correct) = tally.subjects.entry(subject.clone()).or_default();
                *questions += 1;
                *correct += u64::from(outcome.is_correct);
            }
            tally.log_likelihood += outcome.scores[outcome.gold].log_likelihood;
        }
        tally
    }
}

/// The place of the largest number as numpy's `argmax` finds it: the first of equal ones, and a NaN before all.
fn largest(numbers: &[f64]) -> usize {
    let mut best = 0;
    for (place, number) in numbers.iter().enumerate() {
        if numbers[best].is_nan() {
            break;
        }
        if number.is_nan() || *number > numbers[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn the_largest_is_numpys() {
        // numpy.argmax of each list.
        let cases: [(&[f64], usize); 5] = [
            (&[-3.0, -1.0, -1.0], 1),
            (&[-0.0, 0.0], 0),
            (&[-1.0, f64::NAN, 5.0, f64::NAN], 1),
            (&[f64::NEG_INFINITY, f64::NEG_INFINITY], 0),
            (&[f64::NAN, 1.0], 0),
        ];
        for (numbers, expected) in cases {
            assert_eq!(largest(numbers), expected, "{numbers:?}");
        }
    }
}
