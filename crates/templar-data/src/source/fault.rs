//! The faults of one row, and those of a whole file.
//!
//! A [`RowFault`] spoils one row: the rows after it can still be read, so `--on-bad-row skip` leaves it out. A
//! [`FileFault`] ends the reading of the file. Neither names the file, which the reader of a format does not know.

use std::io;

use super::format::Format;

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// The text is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The line or the element is no JSON object, or no JSON at all.
    #[error("not a JSON object: {0}")]
    BadJson(String),
    /// The column holds something else here, such as a number.
    #[error("the column holds no text here: {0}")]
    NotText(String),
    /// The column holds no conversation, or one that cannot be joined.
    #[error("not a conversation that can be joined: {0}")]
    BadTurns(String),
    /// A token is none of the tokenizer's.
    #[error("{} is outside the tokenizer's vocabulary of {vocab_size} tokens", token_in_words(.token))]
    NotInVocabulary {
        /// The token; the greatest number stands for all that are negative or longer than four bytes.
        token: u32,
        /// One more than the highest token.
        vocab_size: u32,
    },
    /// A row of a table has another number of fields than its first row.
    #[error("bad table row: {0}")]
    BadTable(String),
    /// The row is longer than a row may be.
    #[error("longer than {max_bytes} bytes, the limit for a row")]
    TooLong {
        /// The limit, in bytes.
        max_bytes: usize,
    },
}

fn token_in_words(token: &u32) -> String {
    if *token == u32::MAX { "a negative number, or one above 32 bits,".to_owned() } else { format!("token {token}") }
}

impl RowFault {
    /// The reason in a few words, under which rows are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not UTF-8",
            Self::BadJson(_) => "not a JSON object",
            Self::NotText(_) => "not text",
            Self::BadTurns(_) => "not a conversation",
            Self::NotInVocabulary { .. } => "outside the vocabulary",
            Self::BadTable(_) => "bad table row",
            Self::TooLong { .. } => "too long a row",
        }
    }
}

/// A file that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The operating system cannot read it.
    #[error("cannot be read")]
    Io(#[source] io::Error),
    /// Neither the name nor the first bytes tell the format.
    #[error("is of no known kind")]
    UnknownKind,
    /// The first bytes belong to something that is no text, or not text that is read here.
    #[error("is {what}")]
    NoText {
        /// The kind of the file, with an article.
        what: &'static str,
        /// The way to mend it.
        hint: &'static str,
    },
    /// The file is not what its format demands: damaged, cut off, or another format.
    #[error("is not {format} that can be read: {reason}")]
    Damaged {
        /// The format or the compression, with an article.
        format: &'static str,
        /// The message of the reader, with the place.
        reason: String,
    },
    /// The file is whole, in a form of its format that is not read.
    #[error("is not {format} that can be read: {reason}")]
    OtherForm {
        /// The format, with an article.
        format: &'static str,
        /// The form that it has.
        reason: String,
        /// The way to read or to write it.
        hint: &'static str,
    },
    /// The file has no such column, or the column holds no text.
    #[error("has no column `{column}` of text; its columns: {}", columns.join(", "))]
    NoColumn {
        /// The column that was asked for.
        column: String,
        /// The first columns of the file, each with its type.
        columns: Vec<String>,
    },
    /// Several columns have the name, or several structs on the way to it.
    #[error("has more than one column `{column}`")]
    SeveralColumns {
        /// The column that was asked for.
        column: String,
    },
    /// The file expands to far more than it has.
    #[error("expands to more than {limit_bytes} bytes, the limit for {taken_bytes} compressed ones")]
    Expands {
        /// The bytes of the compressed file that were taken.
        taken_bytes: u64,
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// The file was written to while it was read.
    #[error("changed while it was read")]
    Changed,
}

impl FileFault {
    pub(super) fn damaged(format: Format, reason: impl Into<String>) -> Self {
        Self::Damaged { format: format.article(), reason: reason.into() }
    }

    pub(super) fn other_form(format: Format, reason: impl Into<String>, hint: &'static str) -> Self {
        Self::OtherForm { format: format.article(), reason: reason.into(), hint }
    }
}

impl From<io::Error> for FileFault {
    /// An error of a reader. Those of this program's own readers travel inside an [`io::Error`].
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<FileFault>()) {
            let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
            return inner.map_or(Self::Changed, |fault| *fault);
        }
        Self::Io(error)
    }
}

impl From<FileFault> for io::Error {
    fn from(fault: FileFault) -> Self {
        Self::other(fault)
    }
}
