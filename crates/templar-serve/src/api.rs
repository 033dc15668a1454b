//! Requests as they were understood, and answers as clients read them. Nothing here knows a socket or a clock.

mod answer;
mod chat;
mod completion;
mod error;
mod fields;
mod pieces;
mod request;
mod stream;

pub use error::ApiError;

pub(crate) use answer::{Answer, Label};
pub(crate) use request::Request;
pub(crate) use stream::{Stream, event as stream_event};

#[cfg(test)]
mod tests;
