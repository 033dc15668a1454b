//! Operations over many ranges of a buffer in one launch: squared norms and hashes.

use std::ops::Range;

use templar_numerics::NORM_BLOCK;

use super::Gpu;
use super::driver::Driver;
use crate::buffer::Buffer;
use crate::device::DeviceError;

/// Chunks of BLAKE3 that a group hashes.
const GROUP_CHUNKS: u64 = 256;
/// Words of a chunk.
const CHUNK_WORDS: u64 = 256;
/// Elements that a group searches.
pub(super) const SEARCH: u64 = 1 << 16;
/// The initial value of BLAKE3, which stands in the place of a key.
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// BLAKE3's flag of a keyed hash.
const KEYED_HASH: u32 = 16;

/// Checks that ranges lie in a buffer.
pub(super) fn check_ranges(x: &Buffer, ranges: &[Range<u64>]) {
    let lies_in = |range: &Range<u64>| range.start <= range.end && range.end <= x.len();
    assert!(ranges.iter().all(lies_in), "ranges of a buffer of {}", x.len());
}

/// The table of ranges that the kernels read, and the number of groups in all.
struct Table<D: Driver> {
    memory: D::Memory,
    /// The groups of each range.
    groups: Vec<Range<u64>>,
    total: u64,
}

impl<D: Driver> Gpu<D> {
    /// Puts ranges into a table, each with as many groups as `groups` gives for its length.
    fn table(&self, ranges: &[Range<u64>], groups: impl Fn(u64) -> u64) -> Result<Table<D>, DeviceError> {
        let (mut words, mut places, mut total) = (Vec::with_capacity(6 * ranges.len()), Vec::new(), 0);
        for range in ranges {
            let len = range.end - range.start;
            let end = total + groups(len);
            words.extend([range.start, len, total].iter().flat_map(|value| [*value as u32, (*value >> 32) as u32]));
            places.push(total..end);
            total = end;
        }
        Ok(Table { memory: self.with_words(&words)?, groups: places, total })
    }

    /// The squared norm of each range: the kernel sums the blocks, the host adds them in order.
    pub(super) fn norms(&self, x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError> {
        check_ranges(x, ranges);
        // A range without elements has a block without elements, so that a search in the table meets every group.
        let table = self.table(ranges, |len| len.div_ceil(NORM_BLOCK as u64).max(1))?;
        let out = self.allocate(2 * table.total)?;
        let launch = self.kernel("squared_norms").memory(self.place(&x.all()).0).memory(&table.memory);
        let launch = launch.size(ranges.len() as u64).u32(NORM_BLOCK as u32).memory(&out);
        launch.groups(table.total, 32);
        let blocks = self.longs(&out, table.total)?;
        let sum = |place: &Range<u64>| {
            let blocks = &blocks[place.start as usize..place.end as usize];
            blocks.iter().fold(0.0, |sum, block| sum + f64::from_bits(*block))
        };
        Ok(table.groups.iter().map(sum).collect())
    }

    /// Reads 64-bit numbers.
    pub(super) fn longs(&self, memory: &D::Memory, count: u64) -> Result<Vec<u64>, DeviceError> {
        let mut words = vec![0; 2 * count as usize];
        self.words(memory, 0, &mut words)?;
        Ok(words.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect())
    }

    /// The hash of each range in up to three buffers.
    pub(super) fn hashes(
        &self,
        parts: &[&Buffer],
        ranges: &[Range<u64>],
        key: Option<&[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, DeviceError> {
        let count = parts.len() as u64;
        let chunks = |len: u64| (len * count).div_ceil(CHUNK_WORDS).max(1);
        let table = self.table(ranges, |len| chunks(len).div_ceil(GROUP_CHUNKS))?;
        let (words, flags) = match key {
            None => (IV, 0),
            Some(key) => (std::array::from_fn(|i| word(&key[4 * i..])), KEYED_HASH),
        };
        let key = self.with_words(&words)?;
        let (values, hashes) = (self.allocate(8 * table.total)?, self.allocate(8 * ranges.len() as u64)?);
        let part = |index: usize| self.place(&parts[index.min(parts.len() - 1)].all()).0;
        let launch = self.kernel("b3_groups").memory(part(0)).memory(part(1)).memory(part(2)).size(count);
        let launch = launch.memory(&table.memory).size(ranges.len() as u64).memory(&key).u32(flags);
        launch.memory(&values).memory(&hashes).groups(table.total, 256);
        if table.total > ranges.len() as u64 {
            let launch = self.kernel("b3_roots").memory(&table.memory).size(count).memory(&key).u32(flags);
            launch.memory(&values).memory(&hashes).groups(ranges.len() as u64, 256);
        }
        let mut words = vec![0; 8 * ranges.len()];
        self.words(&hashes, 0, &mut words)?;
        let hash = |words: &[u32]| {
            let mut hash = [0; 32];
            for (bytes, word) in hash.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            hash
        };
        Ok(words.chunks_exact(8).map(hash).collect())
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
