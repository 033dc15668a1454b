//! The work of a model with text: it continues a prompt.
//!
//! `templar-model` computes with tokens and `templar-data` turns text into tokens. This crate joins the two, with
//! the tokenizer by which the text was imported, so a prompt is read as training read its documents.
//!
//! ```
//! use std::sync::Arc;
//!
//! use templar_data::bundled;
//! use templar_device::Cpu;
//! use templar_eval::{Prompt, TextModel};
//! use templar_model::generate::{LanguageModel, Sampling};
//! use templar_model::{Model, sizes};
//!
//! // A model that has learnt nothing yet, with one row for each token of the bundled tokenizer.
//! let tokenizer = bundled::tokenizer()?;
//! let spec = sizes::preset("tiny", tokenizer.vocab_size()).ok_or("a size of the table")?;
//! let parameters = Model::new(&spec, Arc::new(Cpu::best()))?.init(&[1; 32]);
//!
//! let mut model = TextModel::new(LanguageModel::new(&spec, &parameters)?, tokenizer, Vec::new());
//! let prompt = Prompt { text: "HAMLET. ", max_tokens: 5, sampling: Sampling::Greedy };
//! assert!(model.continue_text(&prompt)?.tokens.len() <= 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: the model can only choose tokens that the tokenizer has. Rows beyond the vocabulary, which padded
//! models have, are never chosen.

mod text_model;

pub use text_model::{Continuation, ContinueError, Prompt, TextModel};
