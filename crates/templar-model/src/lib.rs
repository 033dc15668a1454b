//! The transformer that a run trains: a Llama-style decoder with its forward and backward pass written out.
//!
//! # The model
//!
//! A token's row of the embedding is the start of its residual stream, a vector of `hidden_size` numbers. Each layer adds
//! to it twice: what attention found in the tokens before it, and what a gated feed-forward makes of it. Both read the
//! stream through an RMSNorm. After the last layer one more norm and the output head give a score per token of the
//! vocabulary, and the loss is the cross-entropy of the next token, in nats.
//!
//! # One flat vector
//!
//! Parameters, gradients and the optimizer's two moments are flat vectors of f32 in the order in which a Hugging Face
//! model lists its tensors ([`Model::tensors`]), so they hash, compress and save tensor by tensor, and the body of a
//! `model.safetensors` file is the parameter vector itself.
//!
//! # The same bits everywhere
//!
//! Nothing here is left to automatic differentiation. The backward pass is written out because it *is* the
//! specification: the order of every accumulation can be read from it, and no upgrade of a library changes it. All
//! arithmetic goes through `templar-numerics`; threads only choose which outputs are computed together. A matrix product
//! adds to what its output holds as one chain in ascending order, so several micro-batches accumulate to exactly the
//! gradient that one batch of all their sequences gives (with tied embeddings the order differs, and is as defined: head
//! first, then the embedding's rows, per micro-batch).
//!
//! # The edge
//!
//! [`hf`] reads and writes Hugging Face folders, and [`generate`] lets candle-transformers' Llama continue a prompt.
//! What leaves through that edge never comes back into training.

mod activations;
mod attention;
mod backward;
mod forward;
pub mod generate;
mod head;
mod heads;
pub mod hf;
mod init;
mod layout;
mod linear;
mod model;
mod optimizer;
pub mod sizes;
mod vocabulary;

pub use layout::{ConfigError, tensors};
pub use model::{Model, StepError};
pub use optimizer::{AdamWSettings, step};
