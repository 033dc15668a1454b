//! Ranges of a blob in BLAKE3's units: chunks of 1 KiB, and groups of 16 chunks, which the store verifies as a
//! whole.
//!
//! Invariant: ranges that are missing, leased or announced begin and end at the border of a group, or at the
//! blob's end. After a crash, the store could not verify a part of a group again.

use std::ops::Range;

use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt};

/// The bytes of one chunk, which is the unit of the hash tree.
pub(crate) const CHUNK: u64 = 1 << 10;

/// The chunks of one group, which is the unit for which the store keeps hashes.
pub(crate) const GROUP: u64 = 16;

/// The bytes of one group.
pub(crate) const GROUP_BYTES: u64 = GROUP * CHUNK;

/// The number of chunks of a blob of `bytes` bytes. The last chunk may be short.
pub(crate) fn chunks(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK)
}

/// The number of bytes in a range of chunks, for a blob of `size` bytes.
pub(crate) fn bytes_of(range: &Range<u64>, size: u64) -> u64 {
    let end = range.end.saturating_mul(CHUNK).min(size);
    end.saturating_sub(range.start.saturating_mul(CHUNK))
}

/// The set of the chunks in one range.
pub(crate) fn set(range: &Range<u64>) -> ChunkRanges {
    if range.is_empty() { ChunkRanges::empty() } else { ChunkRanges::chunks(range.start..range.end) }
}

/// The ranges of a set in ascending order. A range without an end gets the end `u64::MAX`.
pub(crate) fn ranges(set: &ChunkRanges) -> impl Iterator<Item = Range<u64>> + '_ {
    set.boundaries().chunks(2).map(|pair| match pair {
        [start, end] => start.0..end.0,
        [start] => start.0..u64::MAX,
        _ => 0..0,
    })
}

/// The number of bytes in a set of chunks, for a blob of `size` bytes.
pub(crate) fn set_bytes(set: &ChunkRanges, size: u64) -> u64 {
    ranges(set).map(|range| bytes_of(&range, size)).sum()
}

/// The groups that are whole in the set, for a blob of `chunks` chunks. The blob's last group may be short.
pub(crate) fn whole_groups(set: &ChunkRanges, chunks: u64) -> ChunkRanges {
    let mut whole = ChunkRanges::empty();
    for range in ranges(set) {
        let start = range.start.div_ceil(GROUP) * GROUP;
        let end = if range.end >= chunks { chunks } else { range.end / GROUP * GROUP };
        whole |= self::set(&(start..end.max(start)));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_groups_count() {
        let groups = |range: Range<u64>| whole_groups(&set(&range), 100);
        assert_eq!(groups(0..16), set(&(0..16)));
        assert_eq!(groups(1..40), set(&(16..32)));
        assert!(groups(17..31).is_empty());
        assert_eq!(groups(90..100), set(&(96..100)));
        assert_eq!(groups(96..1000), set(&(96..100)), "the last group is short");
        assert_eq!(whole_groups(&ChunkRanges::all(), 100), set(&(0..100)));
    }

    #[test]
    fn bytes_end_where_the_blob_ends() {
        assert_eq!(chunks(0), 0);
        assert_eq!(chunks(1025), 2);
        assert_eq!(bytes_of(&(0..2), 1025), 1025);
        assert_eq!(bytes_of(&(5..9), 1025), 0);
        assert_eq!(set_bytes(&ChunkRanges::all(), 1025), 1025);
        assert_eq!(set_bytes(&(set(&(0..1)) | set(&(3..5))), 4097), 1024 + 1025);
    }
}
