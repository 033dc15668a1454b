//! The bits of keys, and the hashes of leaves and forks.

use std::sync::LazyLock;

use crate::id::Hash;

/// The most bytes of a key.
pub const MAX_KEY_BYTES: usize = 255;
/// The number of bits of the longest key.
pub(super) const MAX_BITS: u32 = 9 * MAX_KEY_BYTES as u32;

const LEAF_CONTEXT: &str = "templar/1 tree leaf";
const FORK_CONTEXT: &str = "templar/1 tree fork";

// Deriving the key of a context costs as much as hashing an entry, so it is done once.
static LEAF: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(LEAF_CONTEXT));
static FORK: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(FORK_CONTEXT));

/// The bit of a key, as 0 or 1.
pub(super) fn bit_of(key: &[u8], bit: u32) -> usize {
    let (byte, place) = (bit as usize / 9, bit % 9);
    let Some(byte) = key.get(byte) else { return 0 };
    if place == 0 { 1 } else { usize::from(byte >> (8 - place) & 1) }
}

/// The first bit in which two keys differ; `None` for equal keys.
pub(super) fn first_difference(a: &[u8], b: &[u8]) -> Option<u32> {
    let byte = a.iter().zip(b).position(|(a, b)| a != b);
    match byte {
        Some(byte) => Some(9 * byte as u32 + 1 + (a[byte] ^ b[byte]).leading_zeros()),
        None if a.len() == b.len() => None,
        None => Some(9 * a.len().min(b.len()) as u32),
    }
}

/// The root of one entry.
pub(super) fn leaf_hash(key: &[u8], value: &[u8]) -> Hash {
    let mut hasher = LEAF.clone();
    hasher.update(&(key.len() as u32).to_le_bytes()).update(key).update(value);
    hasher.finalize().into()
}

/// The root of two sides that differ first in `bit`.
pub(super) fn fork_hash(bit: u32, left: &Hash, right: &Hash) -> Hash {
    let mut hasher = FORK.clone();
    hasher.update(&bit.to_le_bytes()).update(left.as_bytes()).update(right.as_bytes());
    hasher.finalize().into()
}
