//! The examples before a question (few-shot), chosen as lm-evaluation-harness 0.4.13 chooses them.
//!
//! Random examples come from one generator for the whole task, which moves on with each question. So a question has
//! the same examples whether or not the questions after it are asked, and others when those before it are left out.

mod random;

use serde_json::Value;

use crate::task::{Choice, Item, Task};
use random::PythonRandom;

/// The seed that lm-evaluation-harness has unless it is told otherwise.
pub const SEED: u32 = 1234;

/// The examples cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamplesError {
    /// There are fewer rows to choose from than a question needs.
    #[error("a question needs {needed} examples to choose from, and there are {there}{}", of_subject(subject.as_deref()))]
    TooFew {
        /// The rows that are needed. Some tasks need one more than they show, in case it is the question itself.
        needed: usize,
        /// The rows that there are.
        there: usize,
        /// The subject that they must have.
        subject: Option<String>,
    },
}

fn of_subject(subject: Option<&str>) -> String {
    subject.map(|subject| format!(" of the subject {subject}")).unwrap_or_default()
}

/// A row that can be an example: its fields, and the item that it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The fields of the row, by which it is compared with questions.
    pub fields: Value,
    /// The item.
    pub item: Item,
}

/// Chooses the examples of one question after the other.
#[derive(Debug)]
pub struct Examples<'a> {
    task: Task,
    count: usize,
    pool: &'a [Source],
    random: PythonRandom,
}

impl<'a> Examples<'a> {
    /// The examples of a task, `count` for each question, out of `pool`.
    pub fn new(task: Task, count: usize, pool: &'a [Source]) -> Self {
        Self { task, count, pool, random: PythonRandom::new(SEED) }
    }

    /// The text before the next question: the task's description and the examples.
    ///
    /// # Errors
    /// [`ExamplesError`]
    pub fn before(&mut self, question: &Source) -> Result<String, ExamplesError> {
        let mut text = self.task.description(&question.item);
        for example in self.next(question)? {
            text.push_str(&example.item.example());
        }
        Ok(text)
    }

    fn next(&mut self, question: &Source) -> Result<Vec<&'a Source>, ExamplesError> {
        let count = self.count;
        if count == 0 {
            return Ok(Vec::new());
        }
        match self.task.choice() {
            Choice::First => {
                let subject = &question.item.subject;
                let same = |source: &&Source| source.item.subject == *subject;
                let first: Vec<&Source> = self.pool.iter().filter(same).take(count).collect();
                enough(count, first.len(), subject.clone())?;
                Ok(first)
            }
            Choice::Random => {
                enough(count, self.pool.len(), None)?;
                Ok(self.random.sample(self.pool.len(), count).into_iter().map(|place| &self.pool[place]).collect())
            }
            Choice::RandomAndOneMore => {
                enough(count + 1, self.pool.len(), None)?;
                let drawn = self.random.sample(self.pool.len(), count + 1).into_iter().map(|place| &self.pool[place]);
                let others: Vec<&Source> =
                    drawn.filter(|source| source.fields != question.fields).take(count).collect();
                if others.len() == count {
                    return Ok(others);
                }
                // Several rows are equal to the question: examples are drawn again, out of all others.
                let others: Vec<&Source> = self.pool.iter().filter(|other| other.fields != question.fields).collect();
                enough(count, others.len(), None)?;
                Ok(self.random.sample(others.len(), count).into_iter().map(|place| others[place]).collect())
            }
        }
    }
}

fn enough(needed: usize, there: usize, subject: Option<String>) -> Result<(), ExamplesError> {
    if there < needed { Err(ExamplesError::TooFew { needed, there, subject }) } else { Ok(()) }
}
