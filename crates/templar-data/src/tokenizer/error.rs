//! The reasons for which a tokenizer is refused, or fails on a text.

use std::fmt;

use templar_manifest::BlobId;

use super::limits::{MAX_TOKENIZER_BYTES, MAX_VOCABULARY};

/// A tokenizer cannot be used, or cannot turn a text into tokens or tokens into text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is longer than [`MAX_TOKENIZER_BYTES`].
    #[error("tokenizer of {bytes} bytes is over the limit of {MAX_TOKENIZER_BYTES}")]
    TooLarge {
        /// The length of the file, in bytes.
        bytes: usize,
    },
    /// The file is a pointer of Git LFS, which stands where the tokenizer was not downloaded.
    #[error("tokenizer is a Git LFS pointer, not the file itself")]
    LfsPointer,
    /// The file is not a valid `tokenizer.json`.
    #[error("tokenizer does not parse: {0}")]
    Parse(String),
    /// The vocabulary is empty or larger than [`MAX_VOCABULARY`].
    #[error("tokenizer has a vocabulary of {size} tokens: expected 1 to {MAX_VOCABULARY}")]
    Vocabulary {
        /// One more than the highest id.
        size: u64,
    },
    /// No token was named, and no special token has a name that customarily ends a document.
    #[error("tokenizer has no end token of a customary name{}; its special tokens: {special}", ordinary_pieces(.ordinary))]
    NoEndToken {
        /// Customary names that are ordinary tokens here, which a text can contain.
        ordinary: Vec<String>,
        /// The special tokens of the file.
        special: SpecialTokens,
    },
    /// A token that was named is not in the vocabulary.
    #[error("tokenizer has no token {name:?}; its special tokens: {special}")]
    UnknownToken {
        /// The name.
        name: String,
        /// The special tokens of the file.
        special: SpecialTokens,
    },
    /// One token was named for both places, so there would be twice as many ends as documents.
    #[error("the start token {name:?} is the end token already, and stands between documents")]
    StartIsEnd {
        /// The name of the token.
        name: String,
    },
    /// The file asks for merge dropout, which makes tokens random.
    #[error("tokenizer drops merges at random (dropout): the same text would give different tokens")]
    Random,
    /// The text cannot be tokenised.
    #[error("text cannot be tokenised: {0}")]
    Encode(String),
    /// The tokens cannot be turned into text.
    #[error("tokens cannot be decoded: {0}")]
    Decode(String),
    /// The file is not the one that a dataset names, or does not fit what the dataset says of it.
    #[error("tokenizer {tokenizer} does not fit the dataset: {reason}")]
    Mismatch {
        /// The hash of the file.
        tokenizer: BlobId,
        /// The difference that was found.
        reason: String,
    },
}

fn ordinary_pieces(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" ({} is an ordinary token here, which a text can contain)", quoted(names)),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// The names of special tokens, by id. An error lists the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens(pub Vec<String>);

impl fmt::Display for SpecialTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        match &self.0[..] {
            [] => f.write_str("none"),
            names if names.len() <= SHOWN => f.write_str(&quoted(names)),
            names => write!(f, "{}, and {} more", quoted(&names[..SHOWN]), names.len() - SHOWN),
        }
    }
}
