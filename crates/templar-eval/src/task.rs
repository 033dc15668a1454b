//! The benchmarks: from a row of a published file to a question, as lm-evaluation-harness 0.4.13 defines it.
//!
//! A task is data and pure functions. [`Task::item`] reads a row into an [`Item`]: what stands before the answer, the
//! possible answers, and the right one. [`Item::asks`] makes the texts whose likelihoods decide, and [`Item::example`]
//! the text by which the item shows other questions how to answer. Nothing here knows a model or a tokenizer.

mod item;
mod names;
mod python;
mod row;
mod rows;

use serde_json::Value;

pub use item::{Ask, Form, Item};
pub use names::{Choice, Task, UnknownTask};
pub(crate) use python::split_trailing_space;
pub use row::RowError;

impl Task {
    /// Reads a row of a published file: an object with its fields.
    ///
    /// # Errors
    /// The field that is missing or of another shape.
    pub fn item(self, fields: &Value) -> Result<Item, RowError> {
        rows::item(self, fields)
    }

    /// The text that stands before all examples of an item.
    pub fn description(self, item: &Item) -> String {
        match (self, &item.subject) {
            (Self::Mmlu, Some(subject)) => format!(
                "The following are multiple choice questions (with answers) about {}.\n\n",
                subject.replace('_', " ")
            ),
            _ => String::new(),
        }
    }
}
