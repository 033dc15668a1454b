//! Verification and samples: is what is stored the dataset that the manifest names, and what does it say?
//!
//! Nothing here trusts the store: every blob is hashed again. All faults are reported, not only the first, so that one
//! pass tells what has to be fetched again.

use templar_manifest::{BlobId, Dataset, Hash};
use templar_store::{BlobSource, ReadError};

use crate::page::{PageError, Split, check, read_page, read_shard};
use crate::shard::held_out_tokens;
use crate::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};

/// One thing that is wrong with a stored dataset.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The manifest contradicts itself, or its counts its rule.
    #[error("dataset manifest is not sound: {0}")]
    Manifest(String),
    /// A shard is missing, of another length, or holds a token that does not exist.
    #[error(transparent)]
    Shard(PageError),
    /// A blob's bytes are not those of its name.
    #[error("blob {blob} has the hash {actual}")]
    Hash {
        /// The name.
        blob: BlobId,
        /// The hash of the bytes.
        actual: Hash,
    },
    /// The tokenizer is missing.
    #[error("tokenizer {blob} cannot be read")]
    ReadTokenizer {
        /// The tokenizer.
        blob: BlobId,
        /// The store's reason.
        source: ReadError,
    },
    /// The tokenizer is not the one that made the tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// What a verification went through, and what it found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Shards that are as the manifest says.
    pub shards: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Everything that is wrong, in the order of the manifest.
    pub faults: Vec<Fault>,
}

impl Verification {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Checks every blob of `dataset`: the tokenizer's hash, vocabulary and end token; each shard's hash, length and token
/// range; and that the two parts have the sizes that the held-out rule gives.
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
        found.faults.push(Fault::Manifest(reason));
    }
    found.faults.extend(verify_tokenizer(dataset, source).err());
    for shard in dataset.training.iter().chain(&dataset.validation) {
        let checked = read_shard(source, dataset, shard).map_err(shard_fault).and_then(|bytes| {
            let actual = Hash::of(&bytes);
            if actual == shard.blob.hash() { Ok(bytes.len()) } else { Err(Fault::Hash { blob: shard.blob, actual }) }
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

fn shard_fault(error: PageError) -> Fault {
    match error {
        PageError::Manifest(reason) => Fault::Manifest(reason),
        error => Fault::Shard(error),
    }
}

fn verify_tokenizer(dataset: &Dataset, source: &dyn BlobSource) -> Result<(), Fault> {
    let blob = dataset.tokenizer;
    let json = source
        .read(&blob.hash(), MAX_TOKENIZER_BYTES as u64)
        .map_err(|source| Fault::ReadTokenizer { blob, source })?;
    Tokenizer::for_dataset(&json, dataset)?;
    Ok(())
}

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The page cannot be had.
    #[error(transparent)]
    Page(#[from] PageError),
    /// Its tokens are no text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A page as text: `sequence_length + 1` tokens, ends of documents shown by the end token's name.
pub fn sample(
    dataset: &Dataset,
    source: &dyn BlobSource,
    tokenizer: &Tokenizer,
    split: Split,
    sequence_length: u32,
    page: u64,
) -> Result<String, SampleError> {
    Ok(tokenizer.decode(&read_page(source, dataset, split, sequence_length, page)?)?)
}
