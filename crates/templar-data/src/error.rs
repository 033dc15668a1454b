//! The errors of an import. Each names the file, and the row or line at fault.
//!
//! Files come from strangers. An import of any bytes ends in one of these errors and never in a panic.

use std::io;
use std::path::{Path, PathBuf};

use crate::shard::SinkError;
use crate::source::fault::{FileFault, RowFault};
use crate::tokenizer::TokenizerError;

/// An import failed. Rows and lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The list of sources is empty.
    #[error("nothing to import: no source was named")]
    NoSources,
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
        /// What is wrong with it.
        fault: RowFault,
    },
    /// A file cannot be read, or not to its end.
    #[error("{path} {fault}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A folder holds nothing to import.
    #[error("folder {path} holds no file of a known kind")]
    EmptyFolder {
        /// The path of the folder.
        path: PathBuf,
    },
    /// A folder nests too deep, perhaps because of a link to itself.
    #[error("folder {path} is nested more than {max_depth} deep")]
    TooDeep {
        /// The path of the folder.
        path: PathBuf,
        /// The limit, in levels.
        max_depth: usize,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
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

    pub(crate) fn file(path: &Path, fault: FileFault) -> Self {
        match fault {
            FileFault::Io(source) => Self::io(path, source),
            fault => Self::File { path: path.to_owned(), fault },
        }
    }
}
