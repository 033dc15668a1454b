//! Cuts the stream of tokens into shards: training and held out, fixed-width, little-endian.
//!
//! On the way of the data this stands between the tokenizer and the store. The invariant: what is written depends on
//! the sequence of tokens and the rule alone, never on how the tokens arrived, and at most one unfinished shard of
//! either part is in memory.

use templar_manifest::{BlobId, HeldOut, Shard};
use templar_store::MemoryBlobs;

/// The most bytes a shard may have; a manifest that lists longer ones is refused before anything is read.
pub const MAX_SHARD_BYTES: u64 = 256 << 20;

/// Bytes could not be kept, with the cause.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Where an import leaves its blobs: every shard, and the tokenizer. A blob is its BLAKE3 hash, so what an import that
/// failed half-way has left is harmless.
pub trait ShardSink {
    /// Keeps `bytes` and gives their hash.
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError>;
}

impl ShardSink for MemoryBlobs {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        Ok(BlobId::new(self.insert(bytes)))
    }
}

/// Tokens of the `total` of a stream that [`HeldOut`] sets aside.
pub(crate) fn held_out_tokens(rule: &HeldOut, total: u64) -> u64 {
    let blocks = total / rule.block_tokens;
    let last = total % rule.block_tokens;
    let whole = (blocks / rule.every) * rule.block_tokens;
    if blocks % rule.every == rule.every - 1 { whole + last } else { whole }
}

/// The tokens of a shard's bytes; the caller has checked the length and the width.
pub(crate) fn decode_tokens(bytes: &[u8], token_bytes: u32) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(token_bytes as usize).map(|token| match *token {
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => u32::MAX,
    })
}

/// One part of the stream on its way into shards.
#[derive(Default)]
struct Part {
    buffer: Vec<u8>,
    shards: Vec<Shard>,
}

/// Deals tokens out to the two parts and cuts each into shards of equal size.
pub(crate) struct ShardWriter<'a> {
    sink: &'a mut dyn ShardSink,
    rule: HeldOut,
    shard_tokens: u64,
    token_bytes: u32,
    /// Tokens seen so far.
    position: u64,
    training: Part,
    validation: Part,
}

impl<'a> ShardWriter<'a> {
    /// A writer for shards of `shard_tokens` tokens of `token_bytes` bytes each. `rule` has `block_tokens > 0` and
    /// `every > 1`.
    pub(crate) fn new(sink: &'a mut dyn ShardSink, rule: HeldOut, shard_tokens: u64, token_bytes: u32) -> Self {
        let (training, validation) = Default::default();
        Self { sink, rule, shard_tokens, token_bytes, position: 0, training, validation }
    }

    /// Appends `tokens` to the stream.
    pub(crate) fn push(&mut self, mut tokens: &[u32]) -> Result<(), SinkError> {
        while !tokens.is_empty() {
            let block = self.position / self.rule.block_tokens;
            let room = self.rule.block_tokens - self.position % self.rule.block_tokens;
            let taken = usize::try_from(room).map_or(tokens.len(), |room| room.min(tokens.len()));
            let (now, later) = tokens.split_at(taken);
            let held_out = block % self.rule.every == self.rule.every - 1;
            self.append(held_out, now)?;
            self.position += now.len() as u64;
            tokens = later;
        }
        Ok(())
    }

    /// Writes what is left and gives the shards to train on and those held out.
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

fn flush(part: &mut Part, token_bytes: u32, sink: &mut dyn ShardSink) -> Result<(), SinkError> {
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
    use templar_store::BlobSource;

    use super::*;

    fn stored(blobs: &MemoryBlobs, shards: &[Shard], token_bytes: u32) -> Vec<u32> {
        let read = |shard: &Shard| blobs.read(&shard.blob.hash(), MAX_SHARD_BYTES).unwrap();
        shards.iter().flat_map(|shard| decode_tokens(&read(shard), token_bytes).collect::<Vec<_>>()).collect()
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
