//! A model behind the HTTP interface that OpenAI's clients speak.
//!
//! ```text
//! socket → http → api: a request that was understood → engine: texts that go on token by token → api: the answer
//! ```
//!
//! - [`Served`] is a model with its tokenizer, as requests use it. The newest checkpoint of a run can take its place
//!   while requests of the old one are still answered.
//! - `api` understands requests and writes answers. It knows no socket. What it refuses, it refuses by a message that
//!   clients show: [`ApiError`].
//! - `engine` computes. One thread takes a step at a time: the next tokens of all texts that are under way, in shared
//!   products. Nobody's answer depends on who else asks, or on what is kept from earlier texts.
//! - `http` is the shell: limits, time, keys with quotas, metrics, and a stop that ends no answer in the middle.
//! - [`ApiKeys`] are secrets that a file lists, or signed capabilities, which [`issue`] makes and no server has to list.
//!
//! For the architecture that a run trains, every probability has the bits of training
//! ([`templar_model::decoder`]). Its relatives go through candle, one text after another.

mod api;
mod engine;
mod http;
mod keys;
mod metrics;
mod served;
#[cfg(test)]
mod testing;

pub use api::ApiError;
pub use engine::Batching;
pub use http::{Limits, Server, ServerError, ServerSettings};
pub use keys::signed::{IssueError, IssuedKey, KeyTerms, issue};
pub use keys::{Allowance, ApiKeys, KeysError};
pub use metrics::ServeMetrics;
pub use served::{About, Computation, OpenError, Served};
