//! The work of a model with text: it continues a prompt, and it is measured on benchmarks and texts.
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
//!
//! # Benchmarks
//!
//! An evaluation is this way: rows of a published file become [`Source`]s ([`sources`]); a [`Benchmark`] puts examples
//! before each question and encodes it ([`Encoder`]) into [`Request`]s; [`Scoring`] sends these through a [`Scorer`];
//! the
//! [`Outcome`]s are counted into a [`Tally`] and an [`Evaluation`], a document that anybody can recompute. Prompts,
//! examples and scores are those of lm-evaluation-harness 0.4.13; `BENCH.md` compares the two question by question.
//!
//! The sums are exact: the forward pass is the one of training (`f32/1`), a token's likelihood is defined in
//! [`templar_model::Likelihood`], and a sum is f64 in token order. So two machines print the same number, whatever the
//! batches, the threads or the instruction set. Models of other architectures go through candle, whose last bits differ
//! between machines; no [`Evaluation`] is made of these.

mod batch;
mod benchmark;
mod evaluation;
mod examples;
mod files;
mod request;
mod scorer;
mod scoring;
mod task;
mod text_model;

pub use benchmark::{BadRow, Benchmark, Outcome, QuestionError, Tally, sources};
pub use evaluation::{Evaluation, EvaluationError, Measured, SubjectResult, TaskResult, TextResult, Witness};
pub use examples::{Examples, ExamplesError, SEED, Source};
pub use files::{FilesError, MAX_TEXT_BYTES, Table, file_id, read_text};
pub use request::{EncodeError, Encoder, Request};
pub use scorer::{ScoreError, Scorer, model_root};
pub use scoring::{Score, Scoring};
pub use task::{Ask, Choice, Form, Item, RowError, Task, UnknownTask};
pub use text_model::{Continuation, ContinueError, Prompt, TextModel};
