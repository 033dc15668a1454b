//! Verification and samples: checks that the stored blobs are the dataset that a manifest names, and shows a
//! page as text.
//!
//! Nothing here trusts the store: every blob is hashed again. All faults are reported and not only the first,
//! so one pass finds every blob that has to be fetched again.

use templar_blob::{BlobSource, ReadError};
use templar_manifest::{BlobId, Dataset, Hash};

use crate::page::{PageError, PageReader, check, read_shard};
use crate::shard::held_out_tokens;
use crate::tokenizer::{MAX_CHAT_TEMPLATE_BYTES, MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};

/// One fault of a stored dataset.
#[derive(Debug, thiserror::Error)]
pub enum DatasetFault {
    /// The manifest contradicts itself, or its counts contradict its rule.
    #[error("dataset manifest is not sound: {0}")]
    Manifest(String),
    /// A shard is missing, of another length, or holds a token that does not exist.
    #[error(transparent)]
    Shard(PageError),
    /// The bytes of a blob have another hash than its name.
    #[error("blob {blob} has the hash {actual}")]
    Hash {
        /// The name of the blob.
        blob: BlobId,
        /// The hash of the bytes.
        actual: Hash,
    },
    /// The tokenizer is missing.
    #[error("tokenizer {blob} cannot be read")]
    ReadTokenizer {
        /// The name of the tokenizer's blob.
        blob: BlobId,
        /// The error of the blob source.
        source: ReadError,
    },
    /// The chat template is missing.
    #[error("chat template {blob} cannot be read")]
    ReadChatTemplate {
        /// The name of the template's blob.
        blob: BlobId,
        /// The error of the blob source.
        source: ReadError,
    },
    /// The tokenizer is not the one that made the tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl DatasetFault {
    /// The blob that could not be read, with the error, if that is the fault.
    pub fn unread(&self) -> Option<(Hash, &ReadError)> {
        match self {
            Self::Shard(PageError::Read { blob, source })
            | Self::ReadTokenizer { blob, source }
            | Self::ReadChatTemplate { blob, source } => Some((blob.hash(), source)),
            Self::Manifest(_) | Self::Shard(_) | Self::Hash { .. } | Self::Tokenizer(_) => None,
        }
    }
}

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verification {
    /// The number of shards that are as the manifest states.
    pub shards: u64,
    /// The number of tokens in these shards.
    pub tokens: u64,
    /// The number of bytes in these shards.
    pub bytes: u64,
    /// All faults, in the order of the manifest.
    pub faults: Vec<DatasetFault>,
}

impl Verification {
    /// Tells whether no fault was found.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Checks every blob of `dataset`: the hash, vocabulary and end token of the tokenizer, the hash
/// of the chat template, and the hash, length
/// and token range of each shard. It also checks that the two parts have the sizes that the held-out rule
/// gives.
pub fn verify(dataset: &Dataset, source: &dyn BlobSource) -> Verification {
    let mut found = Verification::default();
    if let Err(error) = check(dataset) {
        // Lengths and the width of a token cannot be relied on: nothing further can be read.
        found.faults.push(shard_fault(error));
        return found;
    }
    let (training, validation) = (dataset.training_tokens(), dataset.validation_tokens());
    let held_out = held_out_tokens(&dataset.held_out, training.saturating_add(validation));
    if held_out != validation {
        let reason = format!("{validation} tokens are held out where the rule gives {held_out}");
        found.faults.push(DatasetFault::Manifest(reason));
    }
    found.faults.extend(verify_tokenizer(dataset, source).err());
    found.faults.extend(verify_chat_template(dataset, source).err());
    for shard in dataset.training.iter().chain(&dataset.validation) {
        let checked = read_shard(source, dataset, shard).map_err(shard_fault).and_then(|bytes| {
            let actual = Hash::of(&bytes);
            if actual == shard.blob.hash() {
                Ok(bytes.len())
            } else {
                Err(DatasetFault::Hash { blob: shard.blob, actual })
            }
        });
        match checked {
            Ok(bytes) => {
                found.shards += 1;
                found.tokens = found.tokens.saturating_add(shard.tokens);
                found.bytes = found.bytes.saturating_add(bytes as u64);
            }
            Err(fault) => found.faults.push(fault),
        }
    }
    found
}

fn shard_fault(error: PageError) -> DatasetFault {
    match error {
        PageError::Manifest(reason) => DatasetFault::Manifest(reason),
        error => DatasetFault::Shard(error),
    }
}

fn verify_tokenizer(dataset: &Dataset, source: &dyn BlobSource) -> Result<(), DatasetFault> {
    let blob = dataset.tokenizer;
    let json = source
        .read(&blob.hash(), MAX_TOKENIZER_BYTES as u64)
        .map_err(|source| DatasetFault::ReadTokenizer { blob, source })?;
    Tokenizer::for_dataset(json, dataset)?;
    Ok(())
}

fn verify_chat_template(dataset: &Dataset, source: &dyn BlobSource) -> Result<(), DatasetFault> {
    let Some(blob) = dataset.chat_template else { return Ok(()) };
    let text = source
        .read(&blob.hash(), MAX_CHAT_TEMPLATE_BYTES as u64)
        .map_err(|source| DatasetFault::ReadChatTemplate { blob, source })?;
    match Hash::of(&text) {
        actual if actual == blob.hash() => Ok(()),
        actual => Err(DatasetFault::Hash { blob, actual }),
    }
}

/// A page cannot be shown as text.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The page cannot be read.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The tokens of the page cannot be turned into text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A page as text: its `sequence_length + 1` tokens, with the name of the end token wherever a document ends.
///
/// # Errors
/// See [`SampleError`].
pub fn sample(pages: &PageReader<'_>, tokenizer: &Tokenizer, page: u64) -> Result<String, SampleError> {
    Ok(tokenizer.decode(&pages.read(page)?)?)
}
