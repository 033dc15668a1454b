//! Cuts the stream of tokens into shards: training and held out, fixed-width, little-endian.
//!
//! On the way of the data this stands between the tokenizer and the store. Invariant: the shards depend only on
//! the sequence of tokens and on the rule, and not on the pieces in which the tokens arrived. At most one
//! unfinished shard of either part is in memory.

use templar_blob::MemoryBlobs;
use templar_manifest::{BlobId, HeldOut, MAX_PAYLOAD_BYTES, Shard};

/// The most bytes that a shard may have. A manifest that lists a longer one is refused before anything is read.
pub const MAX_SHARD_BYTES: u64 = 256 << 20;

/// The most shards of a dataset: the names of so many fit into a manifest.
pub(crate) const MAX_SHARDS: usize = MAX_PAYLOAD_BYTES / 64;

/// A sink could not keep bytes; the cause is inside.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// The receiver of the blobs of an import: of every shard, and of the tokenizer. A blob is named by its BLAKE3
/// hash, so the blobs of an import that failed half-way do no harm.
pub trait ShardSink {
    /// Keeps `bytes` and returns their hash.
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError>;
}

impl ShardSink for MemoryBlobs {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        Ok(BlobId::new(self.insert(bytes)))
    }
}

/// A rule that holds something out of a stream of `total` tokens, for a text that is too short for the usual rule: one
/// block in ten, in blocks as long as leaves about three of them. It is `None` where so few tokens are worth no rule.
pub(crate) fn rule_for(total: u64) -> Option<HeldOut> {
    const EVERY: u64 = 10;
    const BLOCKS: u64 = 3;
    const LEAST_BLOCK: u64 = 4;
    let block_tokens = 1 << (total / (EVERY * BLOCKS)).checked_ilog2()?;
    (block_tokens >= LEAST_BLOCK).then_some(HeldOut { block_tokens, every: EVERY })
}

/// The number of tokens that the rule holds out of a stream of `total` tokens.
pub(crate) fn held_out_tokens(rule: &HeldOut, total: u64) -> u64 {
    let blocks = total / rule.block_tokens;
    let last = total % rule.block_tokens;
    let whole = (blocks / rule.every) * rule.block_tokens;
    if blocks % rule.every == rule.every - 1 { whole + last } else { whole }
}

/// The tokens in the bytes of a shard. The caller has checked the length and the width.
pub(crate) fn decode_tokens(bytes: &[u8], token_bytes: u32) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(token_bytes as usize).map(|token| match *token {
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => u32::MAX,
    })
}

/// The unfinished shard of one part of the stream, and the shards before it.
#[derive(Default)]
struct SplitBuffer {
    buffer: Vec<u8>,
    shards: Vec<Shard>,
}

/// The parts of a dataset in which some tokens lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parts(u8);

impl Parts {
    pub(crate) const TRAINING: Self = Self(1);
    pub(crate) const HELD_OUT: Self = Self(2);

    /// These parts and those.
    pub(crate) fn with(self, parts: Self) -> Self {
        Self(self.0 | parts.0)
    }

    /// The parts as bits: 1 is the training part, and 2 is the held-out part.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }
}

/// Distributes tokens to the two parts, and cuts each part into shards of equal size.
pub(crate) struct ShardWriter<'a> {
    sink: &'a mut dyn ShardSink,
    rule: HeldOut,
    shard_tokens: u64,
    token_bytes: u32,
    /// The number of tokens seen so far.
    position: u64,
    training: SplitBuffer,
    validation: SplitBuffer,
}

impl<'a> ShardWriter<'a> {
    /// A writer for shards of `shard_tokens` tokens of `token_bytes` bytes each. `rule` has `block_tokens > 0` and
    /// `every > 1`.
    pub(crate) fn new(sink: &'a mut dyn ShardSink, rule: HeldOut, shard_tokens: u64, token_bytes: u32) -> Self {
        let (training, validation) = Default::default();
        Self { sink, rule, shard_tokens, token_bytes, position: 0, training, validation }
    }

    /// Appends `tokens` to the stream, and tells in which parts they lie.
    pub(crate) fn push(&mut self, mut tokens: &[u32]) -> Result<Parts, SinkError> {
        let mut parts = Parts::default();
        while !tokens.is_empty() {
            let block = self.position / self.rule.block_tokens;
            let room = self.rule.block_tokens - self.position % self.rule.block_tokens;
            let taken = usize::try_from(room).map_or(tokens.len(), |room| room.min(tokens.len()));
            let (now, later) = tokens.split_at(taken);
            let held_out = block % self.rule.every == self.rule.every - 1;
            self.append(held_out, now)?;
            parts = parts.with(if held_out { Parts::HELD_OUT } else { Parts::TRAINING });
            self.position += now.len() as u64;
            tokens = later;
        }
        Ok(parts)
    }

    /// The number of shards that were written.
    pub(crate) fn shards(&self) -> usize {
        self.training.shards.len() + self.validation.shards.len()
    }

    /// Writes the unfinished shards, and returns the shards to train on and those held out.
    pub(crate) fn finish(mut self) -> Result<(Vec<Shard>, Vec<Shard>), SinkError> {
        flush(&mut self.training, self.token_bytes, self.sink)?;
        flush(&mut self.validation, self.token_bytes, self.sink)?;
        Ok((self.training.shards, self.validation.shards))
    }

    fn append(&mut self, held_out: bool, mut tokens: &[u32]) -> Result<(), SinkError> {
        let part = if held_out { &mut self.validation } else { &mut self.training };
        let width = self.token_bytes as usize;
        while !tokens.is_empty() {
            let room = self.shard_tokens - (part.buffer.len() / width) as u64;
            let taken = usize::try_from(room).map_or(tokens.len(), |room| room.min(tokens.len()));
            let (now, later) = tokens.split_at(taken);
            for token in now {
                part.buffer.extend_from_slice(&token.to_le_bytes()[..width]);
            }
            if (part.buffer.len() / width) as u64 == self.shard_tokens {
                flush(part, self.token_bytes, self.sink)?;
            }
            tokens = later;
        }
        Ok(())
    }
}

fn flush(part: &mut SplitBuffer, token_bytes: u32, sink: &mut dyn ShardSink) -> Result<(), SinkError> {
    if part.buffer.is_empty() {
        return Ok(());
    }
    let bytes = std::mem::take(&mut part.buffer);
    let tokens = bytes.len() as u64 / u64::from(token_bytes);
    let blob = sink.put(bytes)?;
    part.shards.push(Shard { blob, tokens });
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use templar_blob::BlobSource;

    use super::*;

    fn stored(blobs: &MemoryBlobs, shards: &[Shard], token_bytes: u32) -> Vec<u32> {
        let read = |shard: &Shard| blobs.read(&shard.blob.hash(), MAX_SHARD_BYTES).unwrap();
        shards.iter().flat_map(|shard| decode_tokens(&read(shard), token_bytes).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn the_most_shards_fit_into_a_manifest() {
        let blob = BlobId::of(b"");
        let shards = vec![Shard { blob, tokens: u64::MAX }; MAX_SHARDS / 2];
        let text = "x".repeat(1000);
        let dataset = templar_manifest::Dataset {
            name: text.clone(),
            licence: text.clone(),
            source: text,
            tokenizer: blob,
            vocab_size: u32::MAX,
            end_token: 0,
            start_token: Some(0),
            chat_template: Some(blob),
            token_bytes: 4,
            documents: u64::MAX,
            shard_tokens: u64::MAX,
            held_out: HeldOut { block_tokens: u64::MAX, every: u64::MAX },
            training: shards.clone(),
            validation: shards,
        };
        assert!(templar_manifest::payload::encode(&dataset).len() <= MAX_PAYLOAD_BYTES);
    }

    #[test]
    fn a_short_text_gets_a_rule_that_does() {
        assert_eq!(rule_for(5010), Some(HeldOut { block_tokens: 128, every: 10 }));
        assert_eq!([0, 1, 29, 119].map(rule_for), [None; 4]);
        for total in 120..20_000 {
            let rule = rule_for(total).unwrap();
            assert!(held_out_tokens(&rule, total) >= 3 * rule.block_tokens, "{total}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_what_the_rule_says_however_tokens_arrive(
            pieces in proptest::collection::vec(proptest::collection::vec(0u32..1 << 16, 0..30), 0..12),
            block_tokens in 1u64..9, every in 2u64..5, shard_tokens in 1u64..12, wide in any::<bool>(),
        ) {
            let (rule, token_bytes) = (HeldOut { block_tokens, every }, if wide { 4 } else { 2 });
            let stream: Vec<u32> = pieces.concat();
            let held_out = |at: usize| (at as u64 / block_tokens) % every == every - 1;
            let part = |wanted: bool| -> Vec<u32> {
                (0..stream.len()).filter(|&at| held_out(at) == wanted).map(|at| stream[at]).collect()
            };
            let mut blobs = MemoryBlobs::new();
            let mut writer = ShardWriter::new(&mut blobs, rule, shard_tokens, token_bytes);
            for piece in &pieces {
                writer.push(piece).unwrap();
            }
            let (training, validation) = writer.finish().unwrap();
            prop_assert_eq!(stored(&blobs, &training, token_bytes), part(false));
            prop_assert_eq!(stored(&blobs, &validation, token_bytes), part(true));
            prop_assert_eq!(held_out_tokens(&rule, stream.len() as u64), part(true).len() as u64);
            for shards in [&training, &validation] {
                prop_assert!(shards.iter().rev().skip(1).all(|shard| shard.tokens == shard_tokens));
            }
        }
    }
}
