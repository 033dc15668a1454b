//! What an audit reads from: synchronous, verified reads of whole blobs, wherever the bytes lie.
//!
//! Invariant: the bytes a [`BlobSource`] returns hash to the name asked for and are no longer than asked for. An audit
//! needs no more than this, so it runs from an open store, through a node that has one, or from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use templar_manifest::Hash;
use tokio::runtime::Handle;

use crate::{ReadError, Store};

/// Whole blobs by name, verified, read synchronously.
pub trait BlobSource: Send + Sync {
    /// The bytes of a blob of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::TooLarge`], [`ReadError::Corrupt`] and others.
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError>;

    /// Whether the blob is here; a later [`read`](Self::read) may still find it corrupt.
    fn contains(&self, id: &Hash) -> bool;
}

impl<S: BlobSource + ?Sized> BlobSource for &S {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        (**self).read(id, max_bytes)
    }

    fn contains(&self, id: &Hash) -> bool {
        (**self).contains(id)
    }
}

impl<S: BlobSource + ?Sized> BlobSource for Arc<S> {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        (**self).read(id, max_bytes)
    }

    fn contains(&self, id: &Hash) -> bool {
        (**self).contains(id)
    }
}

/// An open [`Store`] for threads that compute.
///
/// It waits for the store on the calling thread, so it must be used from threads that do not run async tasks (a thread
/// of its own, `spawn_blocking`, a rayon pool): tokio panics when a worker thread blocks on itself.
#[derive(Debug, Clone)]
pub struct BlockingStore {
    store: Store,
    handle: Handle,
}

impl BlockingStore {
    /// Reads from `store`, waiting with the runtime of `handle`.
    pub fn new(store: Store, handle: Handle) -> Self {
        Self { store, handle }
    }

    /// The store underneath.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl BlobSource for BlockingStore {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        self.handle.block_on(self.store.get(id, max_bytes))
    }

    fn contains(&self, id: &Hash) -> bool {
        self.handle.block_on(self.store.has(id)).unwrap_or(false)
    }
}

/// Blobs in memory, for tests and small sets.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs {
    blobs: BTreeMap<Hash, Bytes>,
}

impl MemoryBlobs {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and returns their name.
    pub fn insert(&mut self, bytes: impl Into<Bytes>) -> Hash {
        let bytes = bytes.into();
        let id = Hash::of(&bytes);
        self.blobs.insert(id, bytes);
        id
    }

    /// The names and bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Hash, &Bytes)> {
        self.blobs.iter()
    }
}

impl BlobSource for MemoryBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let bytes = self.blobs.get(id).ok_or(ReadError::NotFound { id: *id })?;
        let size = bytes.len() as u64;
        // Named by their hash when they were inserted.
        if size > max_bytes { Err(ReadError::TooLarge { id: *id, size, max_bytes }) } else { Ok(bytes.clone()) }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains_key(id)
    }
}
