//! Hugging Face folders in and out: `config.json`, `model.safetensors`, `tokenizer.json` and their companions.
//!
//! A round trip gives back every bit of the parameters. A folder that cannot be represented exactly is refused
//! before any work, and the error names the reason: another architecture, biases, a rotary scaling other than
//! `linear` and `llama3`, dtypes other than f32, bf16 and f16 (whose values are all f32), a tensor too many or
//! too few.

mod config;
mod error;
mod export;
mod import;
mod json;
mod weights;

pub use error::ImportError;
pub use export::{ExportError, export};
pub use import::import;

/// File name of the weights.
const WEIGHTS: &str = "model.safetensors";
/// Where each tensor of weights in several files lies.
const INDEX: &str = "model.safetensors.index.json";
/// File name of the configuration.
const CONFIG: &str = "config.json";
