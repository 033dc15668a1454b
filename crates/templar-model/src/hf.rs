//! Hugging Face folders in and out: `config.json`, `model.safetensors` and their companions.
//!
//! [`import`] reads a model that can be trained, and a round trip through [`export`] gives back every bit of the
//! parameters. [`open`] reads a model that only generates, which relatives of the architecture can, too. A folder
//! that cannot be represented exactly is refused before any work, and the error names the reason: another
//! architecture, a rotary scaling other than `linear` and `llama3`, dtypes other than f32, bf16 and f16 (whose
//! values are all f32), a tensor too many or too few.

mod config;
mod error;
mod export;
mod import;
mod json;
mod lfs;
mod open;
mod rope;
mod weight_files;
mod weights;
mod written;

pub use error::{ExportError, ImportError};
pub use export::{ExportOptions, FolderContents, companions, export, export_with};
pub use import::import;
pub use open::{OpenFolderError, OpenedModel, ends_and_start, open};
pub use weight_files::to_bf16;
pub use written::{SpecialIds, WeightType};

/// File name of the weights.
const WEIGHTS: &str = "model.safetensors";
/// Where each tensor of weights in several files lies.
const INDEX: &str = "model.safetensors.index.json";
/// File name of the configuration.
const CONFIG: &str = "config.json";
