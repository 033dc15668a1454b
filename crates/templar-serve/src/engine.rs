//! The computation of many texts at once: one step after another, each with the next tokens of all texts.
//!
//! [`Scheduler`] is plain code that a test can step through. `worker` is the thread that steps it. What a text becomes
//! depends on its own prompt, settings and seed alone.

mod job;
mod prefixes;
mod scheduler;
mod scores;
mod stops;
mod text;
mod worker;
mod writer;

pub(crate) use job::{Asker, Event, Finish, Job, Wanted};
pub use scheduler::Batching;
pub(crate) use scores::Score;
#[cfg(test)]
pub(crate) use tests::answered;
pub(crate) use worker::{Busy, Worker};
pub(crate) use writer::Detokenizer;

#[cfg(test)]
mod tests;
