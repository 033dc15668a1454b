//! The ids of the accepted entries of the open window.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use templar_manifest::Hash;

/// A set of entry ids.
///
/// Every entry is looked up at least once, and a window has many, so this is no tree. Ids are BLAKE3 hashes, and so
/// their first eight bytes need no hashing again. Who wants ids that collide there must search for each, and only so many
/// entries of each signer are accepted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct KnownIds(HashSet<Hash, BuildHasherDefault<FirstBytes>>);

impl KnownIds {
    pub(super) fn contains(&self, id: &Hash) -> bool {
        self.0.contains(id)
    }

    pub(super) fn insert(&mut self, id: Hash) {
        self.0.insert(id);
    }
}

/// Hashes an id to its first eight bytes.
#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    /// The length of the array, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_contained_and_nothing_else() {
        let id = |number: u32| Hash::of(&number.to_le_bytes());
        let mut known = KnownIds::default();
        (0..1000).filter(|number| number % 3 == 0).for_each(|number| known.insert(id(number)));
        assert!((0..1000).all(|number| known.contains(&id(number)) == (number % 3 == 0)));
        // Ids that agree in their first eight bytes are told apart.
        let mut other = *id(0).as_bytes();
        other[31] ^= 1;
        assert!(!known.contains(&Hash::from_bytes(other)));
    }
}
