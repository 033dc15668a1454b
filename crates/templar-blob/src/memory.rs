//! Blobs in memory, for tests, simulations and small sets.

use std::collections::BTreeMap;

use bytes::Bytes;
use templar_manifest::Hash;

use crate::{BlobSource, ReadError};

/// A set of blobs in memory. Each is hashed once, when it is inserted, so reads need no further verification.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs {
    blobs: BTreeMap<Hash, Bytes>,
}

impl MemoryBlobs {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and returns their name, the BLAKE3 hash. Inserting the same bytes again changes nothing.
    pub fn insert(&mut self, bytes: impl Into<Bytes>) -> Hash {
        let bytes = bytes.into();
        let id = Hash::of(&bytes);
        self.blobs.insert(id, bytes);
        id
    }

    /// Iterates over names and bytes, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&Hash, &Bytes)> {
        self.blobs.iter()
    }
}

impl BlobSource for MemoryBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let bytes = self.blobs.get(id).ok_or(ReadError::NotFound { id: *id })?;
        let size = bytes.len() as u64;
        if size > max_bytes { Err(ReadError::TooLarge { id: *id, size, max_bytes }) } else { Ok(bytes.clone()) }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains_key(id)
    }
}
