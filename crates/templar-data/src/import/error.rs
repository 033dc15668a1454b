//! Everything that can go wrong with an import, each with the file and the row or line where it did.
//!
//! Files come from strangers: whatever they hold, an import ends in one of these and never in a panic.

use std::io;
use std::path::{Path, PathBuf};

use crate::shard::SinkError;
use crate::tokenizer::TokenizerError;

/// Why an import failed. Rows and lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No file was named.
    #[error("nothing to import: no source was named")]
    NoSources,
    /// A source is not there.
    #[error("{path} does not exist")]
    Missing {
        /// The source.
        path: PathBuf,
    },
    /// A source cannot be read.
    #[error("{path} cannot be read")]
    Io {
        /// The source.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A source is of no known kind.
    #[error("{path} is of no known kind: expected .parquet, .jsonl or .txt")]
    Unsupported {
        /// The source.
        path: PathBuf,
    },
    /// A folder holds nothing to import.
    #[error("folder {path} holds no .parquet, .jsonl or .txt file")]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder nests too deep, perhaps through a link to itself.
    #[error("folder {path} is nested more than {max_depth} deep")]
    TooDeep {
        /// The folder.
        path: PathBuf,
        /// The limit.
        max_depth: usize,
    },
    /// A file is no parquet, or damaged, or compressed in a way that is not read here (zstd and snappy are).
    #[error("{path} is not a parquet file that can be read: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A parquet file has no top-level string column `text`.
    #[error("{path} has no column `text` of strings; its columns: {}", columns.join(", "))]
    NoTextColumn {
        /// The file.
        path: PathBuf,
        /// The first columns that it has.
        columns: Vec<String>,
    },
    /// A row or line is not UTF-8.
    #[error("{path}, row {row}: not UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
    },
    /// A row has no text: the field is absent or null.
    #[error("{path}, row {row}: no text")]
    NoText {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
    },
    /// A line is no JSON object with a string `text`.
    #[error("{path}, line {row}: {reason}")]
    BadJson {
        /// The file.
        path: PathBuf,
        /// The line.
        row: u64,
        /// What the parser says.
        reason: String,
    },
    /// A document is too long to be held in memory.
    #[error("{path}, row {row}: longer than the limit of {max_bytes} bytes for a document")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
        /// The limit.
        max_bytes: usize,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A document cannot be tokenised.
    #[error("{path}, row {row}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
        /// The tokenizer's reason.
        source: TokenizerError,
    },
    /// The options contradict themselves or the manifest's rules.
    #[error("bad import option: {0}")]
    Options(String),
    /// The sources hold no text at all.
    #[error("the sources hold no text")]
    Empty,
    /// Too little text to hold some of it out.
    #[error("{tokens} tokens are too few: the held-out rule needs more than {needed}")]
    TooShort {
        /// Tokens found.
        tokens: u64,
        /// Tokens before the first held-out one.
        needed: u64,
    },
    /// A shard cannot be kept.
    #[error("a shard cannot be stored")]
    Sink(#[from] SinkError),
}

impl ImportError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
