//! An open store as a [`BlobSource`], for threads that compute.

use bytes::Bytes;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::Hash;
use tokio::runtime::Handle;

use crate::Store;

/// An open [`Store`] that is read synchronously.
///
/// It waits for the store on the calling thread. It must therefore be used from threads that do not run async tasks (a
/// thread of its own, `spawn_blocking`, a rayon pool): tokio panics when a worker thread blocks on itself.
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

    /// The asynchronous store that this one reads.
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
