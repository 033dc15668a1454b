//! Pages: the sequences of a dataset that training reads.
//!
//! With sequences of T tokens, page `p` of a part of the stream is its tokens `p·T` to `p·T + T`, both
//! included. These T + 1 tokens give T inputs and, shifted by one, T targets. So neighbouring pages share one
//! token. A page may lie across two or more shards.
//!
//! Invariant: a page comes only from shards that have the length that the manifest states and hold no token outside its
//! vocabulary. So the id of the dataset, T and `p` decide the page.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::{BlobId, Dataset, Payload, Shard, page_count};

use crate::shard::{MAX_SHARD_BYTES, decode_tokens};

/// The number of shards that a [`PageReader`] keeps. A page that lies across shards needs two.
const CACHED_SHARDS: usize = 4;

/// The longest sequence that pages are made of, in tokens.
const MAX_SEQUENCE_LENGTH: u32 = 1 << 24;

/// The two parts of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// The part that miners train on.
    Training,
    /// The part that is held out to measure the loss.
    Validation,
}

impl Split {
    /// The shards of the part, in order.
    pub fn shards(self, dataset: &Dataset) -> &[Shard] {
        match self {
            Self::Training => &dataset.training,
            Self::Validation => &dataset.validation,
        }
    }

    /// The number of tokens in the part.
    pub fn tokens(self, dataset: &Dataset) -> u64 {
        match self {
            Self::Training => dataset.training_tokens(),
            Self::Validation => dataset.validation_tokens(),
        }
    }
}

/// A page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The manifest contradicts itself.
    #[error("dataset manifest is not sound: {0}")]
    Manifest(String),
    /// No page can have sequences of this length.
    #[error("sequence length {0} is not in 1..={MAX_SEQUENCE_LENGTH}")]
    SequenceLength(u32),
    /// The dataset has no page of this number.
    #[error("page {page} does not exist: there are {count}")]
    OutOfRange {
        /// The number that was asked for.
        page: u64,
        /// The number of pages, which are counted from 0.
        count: u64,
    },
    /// A shard cannot be read.
    #[error("shard {blob} cannot be read")]
    Read {
        /// The name of the shard.
        blob: BlobId,
        /// The error of the blob source.
        source: ReadError,
    },
    /// A shard has another length than its manifest says.
    #[error("shard {blob} has {actual} bytes where the manifest says {expected}")]
    Length {
        /// The name of the shard.
        blob: BlobId,
        /// The length that the manifest states, in bytes.
        expected: u64,
        /// The length that was found, in bytes.
        actual: u64,
    },
    /// A shard holds a token that the vocabulary does not have.
    #[error("shard {blob} holds token {token} at {position}, outside the vocabulary of {vocab_size}")]
    Token {
        /// The name of the shard.
        blob: BlobId,
        /// The position in the shard, in tokens.
        position: u64,
        /// The token that was found.
        token: u32,
        /// The size of the vocabulary.
        vocab_size: u32,
    },
}

/// The pages that an inner step of a window takes: of the pages assigned to the slot, those from `step ·
/// batch_pages` up to `(step + 1) · batch_pages`, in their order. Steps are counted from 0. It is `None` where
/// the assignment does not fill the step.
///
/// ```
/// use templar_data::batch;
///
/// let assigned = [7, 3, 9, 1];
/// assert_eq!(batch(&assigned, 1, 2), Some(&[9, 1][..]));
/// assert_eq!(batch(&assigned, 2, 2), None);
/// ```
pub fn batch(pages: &[u64], step: usize, batch_pages: usize) -> Option<&[u64]> {
    let start = step.checked_mul(batch_pages)?;
    pages.get(start..start.checked_add(batch_pages)?)
}

/// Reads one page. To read several, use a [`PageReader`], which keeps the shards.
pub fn read_page(
    source: &dyn BlobSource,
    dataset: &Dataset,
    split: Split,
    sequence_length: u32,
    page: u64,
) -> Result<Vec<u32>, PageError> {
    PageReader::new(source, dataset, split, sequence_length)?.read(page)
}

/// Gives the pages of one part of a dataset, to any number of threads at once.
pub struct PageReader<'a> {
    source: &'a dyn BlobSource,
    dataset: &'a Dataset,
    shards: &'a [Shard],
    sequence_length: u32,
    count: u64,
    /// Checked shards by their index. The one used last is at the end.
    cache: Mutex<Vec<(usize, Bytes)>>,
}

impl<'a> PageReader<'a> {
    /// A reader of the pages of `split` with `sequence_length` predictions each. It reads no blob yet.
    ///
    /// # Errors
    /// [`PageError::Manifest`] or [`PageError::SequenceLength`].
    pub fn new(
        source: &'a dyn BlobSource,
        dataset: &'a Dataset,
        split: Split,
        sequence_length: u32,
    ) -> Result<Self, PageError> {
        check(dataset)?;
        if !(1..=MAX_SEQUENCE_LENGTH).contains(&sequence_length) {
            return Err(PageError::SequenceLength(sequence_length));
        }
        let count = page_count(split.tokens(dataset), sequence_length);
        let shards = split.shards(dataset);
        Ok(Self { source, dataset, shards, sequence_length, count, cache: Mutex::default() })
    }

    /// The number of pages, which are counted from 0.
    pub fn page_count(&self) -> u64 {
        self.count
    }

    /// The number of predictions of a page, which has one token more.
    pub fn sequence_length(&self) -> u32 {
        self.sequence_length
    }

    /// The tokens of a page: `sequence_length + 1` of them, each below the dataset's `vocab_size`.
    ///
    /// # Errors
    /// [`PageError::OutOfRange`], or an error about one of the shards that hold the page.
    pub fn read(&self, page: u64) -> Result<Vec<u32>, PageError> {
        if page >= self.count {
            return Err(PageError::OutOfRange { page, count: self.count });
        }
        // Below the stream's end, which fits a u64, as page < count.
        let mut position = page * u64::from(self.sequence_length);
        let end = position + u64::from(self.sequence_length) + 1;
        let mut tokens = Vec::with_capacity(self.sequence_length as usize + 1);
        while position < end {
            // Every shard but the last is full, so the index is a division; see `check`.
            let index = (position / self.dataset.shard_tokens) as usize;
            let start = position % self.dataset.shard_tokens;
            let taken = (self.dataset.shard_tokens - start).min(end - position);
            let bytes = self.shard(index)?;
            let width = u64::from(self.dataset.token_bytes);
            // Within the shard: its length was compared with the manifest, and the page with the sum of the lengths.
            let range = (start * width) as usize..((start + taken) * width) as usize;
            tokens.extend(decode_tokens(&bytes[range], self.dataset.token_bytes));
            position += taken;
        }
        Ok(tokens)
    }

    fn shard(&self, index: usize) -> Result<Bytes, PageError> {
        // Nothing panics while it is held, and the cache is whole between any two statements.
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut cache = cache();
            if let Some(at) = cache.iter().position(|(cached, _)| *cached == index) {
                let entry = cache.remove(at);
                let bytes = entry.1.clone();
                cache.push(entry);
                return Ok(bytes);
            }
        }
        // Outside the lock: other threads go on with the shards that are here.
        let bytes = read_shard(self.source, self.dataset, &self.shards[index])?;
        let mut cache = cache();
        if !cache.iter().any(|(cached, _)| *cached == index) {
            if cache.len() == CACHED_SHARDS {
                cache.remove(0);
            }
            cache.push((index, bytes.clone()));
        }
        Ok(bytes)
    }
}

/// The tokens of one shard of a dataset, each below its `vocab_size`.
///
/// # Errors
/// [`PageError::Manifest`], or an error about the shard.
pub fn shard_tokens(source: &dyn BlobSource, dataset: &Dataset, shard: &Shard) -> Result<Vec<u32>, PageError> {
    check(dataset)?;
    let bytes = read_shard(source, dataset, shard)?;
    Ok(decode_tokens(&bytes, dataset.token_bytes).collect())
}

/// Checks the rules that reading relies on. All shards but the last are full, the width of a token fits the
/// vocabulary, and no shard is longer than [`MAX_SHARD_BYTES`].
pub(crate) fn check(dataset: &Dataset) -> Result<(), PageError> {
    dataset.check().map_err(PageError::Manifest)?;
    for shard in dataset.training.iter().chain(&dataset.validation) {
        if shard_bytes(dataset, shard).is_none() {
            let reason = format!("shard {} is longer than {MAX_SHARD_BYTES} bytes", shard.blob);
            return Err(PageError::Manifest(reason));
        }
    }
    Ok(())
}

/// The length of a shard in bytes, or `None` where it is over the limit.
fn shard_bytes(dataset: &Dataset, shard: &Shard) -> Option<u64> {
    shard.tokens.checked_mul(dataset.token_bytes.into()).filter(|&bytes| bytes <= MAX_SHARD_BYTES)
}

/// Reads a shard and checks its length and every token.
pub(crate) fn read_shard(source: &dyn BlobSource, dataset: &Dataset, shard: &Shard) -> Result<Bytes, PageError> {
    let (blob, vocab_size) = (shard.blob, dataset.vocab_size);
    let expected = shard_bytes(dataset, shard).unwrap_or(MAX_SHARD_BYTES);
    let bytes = match source.read(&blob.hash(), expected) {
        Ok(bytes) => bytes,
        Err(ReadError::TooLarge { size, .. }) => return Err(PageError::Length { blob, expected, actual: size }),
        Err(source) => return Err(PageError::Read { blob, source }),
    };
    if bytes.len() as u64 != expected {
        return Err(PageError::Length { blob, expected, actual: bytes.len() as u64 });
    }
    let outside = decode_tokens(&bytes, dataset.token_bytes).zip(0..).find(|&(token, _)| token >= vocab_size);
    match outside {
        Some((token, position)) => Err(PageError::Token { blob, position, token, vocab_size }),
        None => Ok(bytes),
    }
}
