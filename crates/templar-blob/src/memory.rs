//! Blobs in memory, for tests, simulations and small sets.

use std::collections::BTreeMap;

use bytes::Bytes;
use templar_manifest::Hash;

use crate::{BlobSource, ReadError};

/// A set of blobs in memory. Every read hashes the blob again, as a store on disk does.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs {
    blobs: BTreeMap<Hash, Bytes>,
}

impl MemoryBlobs {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and returns their name, the BLAKE3 hash. Inserting the same bytes again changes nothing, except that
    /// it heals a damaged blob.
    pub fn insert(&mut self, bytes: impl Into<Bytes>) -> Hash {
        let bytes = bytes.into();
        let id = Hash::of(&bytes);
        self.blobs.insert(id, bytes);
        id
    }

    /// Removes a blob. Returns its bytes, or `None` if it was not here.
    pub fn remove(&mut self, id: &Hash) -> Option<Bytes> {
        self.blobs.remove(id)
    }

    /// Puts other bytes under the name of a blob, as a failing disk does. Reads of the blob are errors from then on.
    pub fn damage(&mut self, id: Hash, bytes: impl Into<Bytes>) {
        self.blobs.insert(id, bytes.into());
    }

    /// Iterates over names and bytes, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&Hash, &Bytes)> {
        self.blobs.iter()
    }
}

impl BlobSource for MemoryBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let bytes = self.blobs.get(id).ok_or(ReadError::NotFound { id: *id })?;
        if Hash::of(bytes) != *id {
            return Err(ReadError::Corrupt { id: *id, reason: "its bytes have another hash".to_owned() });
        }
        let size = bytes.len() as u64;
        if size > max_bytes { Err(ReadError::TooLarge { id: *id, size, max_bytes }) } else { Ok(bytes.clone()) }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_an_error_of_its_own_and_can_be_healed() {
        let mut blobs = MemoryBlobs::new();
        let id = blobs.insert("to be, or not to be");
        for bytes in ["to be, or not to bf", "to be", "", "to be, or not to be, that is"] {
            blobs.damage(id, bytes);
            // Also with a limit that the bytes exceed: a length that is not verified is no fact about the blob.
            for limit in [0, 19, 100] {
                let read = blobs.read(&id, limit);
                assert!(matches!(&read, Err(ReadError::Corrupt { .. })), "{bytes}, {limit}: {read:?}");
                assert!(read.is_err_and(|error| error.is_damage()));
            }
            assert!(blobs.contains(&id));
        }
        assert_eq!(blobs.insert("to be, or not to be"), id);
        assert_eq!(blobs.read(&id, 19).unwrap(), "to be, or not to be");
        assert!(blobs.read(&id, 18).is_err_and(|error| !error.is_damage()));
        blobs.remove(&id);
        assert!(blobs.read(&id, 19).is_err_and(|error| !error.is_damage()), "a blob that is not here is no damage");
    }
}
