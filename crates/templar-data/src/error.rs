//! The errors of an import. Each names the file, and the row or line at fault.
//!
//! Files come from strangers. An import of any bytes ends in one of these errors and never in a panic.

use std::io;
use std::path::{Path, PathBuf};

use templar_manifest::HeldOut;

use crate::licence::LicenceError;
use crate::listing::ListingError;
use crate::part::PartError;
use crate::shard::{MAX_SHARDS, SinkError};
use crate::source::fault::{FileFault, RowFault};
use crate::tokenizer::{ChatTemplateError, TokenizerError};

/// An import failed. Rows and lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The sources cannot be listed.
    #[error(transparent)]
    List(#[from] ListingError),
    /// A source does not exist.
    #[error("{path} does not exist")]
    Missing {
        /// The path of the source.
        path: PathBuf,
    },
    /// A source cannot be read.
    #[error("{path} cannot be read")]
    Io {
        /// The path of the source.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A row of a file cannot be used.
    #[error("{path}, row {row}: {fault}")]
    Row {
        /// The path of the file.
        path: PathBuf,
        /// The number of the row or line.
        row: u64,
        /// The fault of the row.
        fault: RowFault,
    },
    /// A file cannot be read, or not to its end.
    #[error("{path} {fault}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The fault of the file.
        fault: FileFault,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template that conversations need does not parse.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// A document cannot be tokenised.
    #[error("{path}, row {row}")]
    Encode {
        /// The path of the file.
        path: PathBuf,
        /// The number of the row or line.
        row: u64,
        /// The error of the tokenizer.
        source: TokenizerError,
    },
    /// The licence is no SPDX expression.
    #[error(transparent)]
    Licence(#[from] LicenceError),
    /// A part cannot be written, read or joined with others.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The options contradict themselves or the manifest's rules.
    #[error("bad import option: {0}")]
    Options(String),
    /// The sources hold no text at all.
    #[error("the sources hold no text")]
    Empty,
    /// There is too little text to hold some of it out.
    #[error("{tokens} tokens are too few: the held-out rule needs more than {needed}")]
    TooShort {
        /// The number of tokens found.
        tokens: u64,
        /// The number of tokens before the first held-out one.
        needed: u64,
        /// A rule that would hold some out, unless there is hardly any text.
        fits: Option<HeldOut>,
    },
    /// A manifest cannot name so many shards.
    #[error("shards of {shard_tokens} tokens are too small: a dataset has at most {MAX_SHARDS} of them")]
    TooManyShards {
        /// The number of tokens in a full shard.
        shard_tokens: u64,
    },
    /// The import was asked to stop.
    #[error("interrupted; nothing was imported")]
    Stopped,
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

    pub(crate) fn file(path: &Path, fault: FileFault) -> Self {
        match fault {
            FileFault::Io(source) => Self::io(path, source),
            fault => Self::File { path: path.to_owned(), fault },
        }
    }
}
