//! The reasons for which no GGUF file is written.

use std::io;
use std::path::PathBuf;

use templar_model::ConfigError;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The model's specification is refused.
    #[error("the model's specification is refused")]
    Config(#[from] ConfigError),
    /// The parameter vector is not the model's.
    #[error("{found} parameters, the model has {expected}")]
    Length {
        /// Parameters of the model.
        expected: usize,
        /// Parameters that were passed.
        found: usize,
    },
    /// A weight is too large for the type that is written.
    #[error("tensor {tensor} has a weight that f16 cannot hold")]
    TooLarge {
        /// The name of the tensor.
        tensor: String,
    },
    /// The tokenizer has tokens that the model has no rows for.
    #[error("the tokenizer has {tokens} tokens, the model {rows} rows")]
    Rows {
        /// Tokens of the tokenizer.
        tokens: u64,
        /// Rows of the embedding.
        rows: u32,
    },
    /// llama.cpp has no name for what the tokenizer does.
    #[error("the tokenizer cannot be written so that llama.cpp gives the same tokens: {reason}")]
    Tokenizer {
        /// What it does.
        reason: String,
    },
    /// The file is there already.
    #[error("{} is already there", path.display())]
    Exists {
        /// The file that exists.
        path: PathBuf,
    },
    /// The file system fails.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}
