//! Blobs of our own that turn out to be corrupt while work reads them are remembered here.
//!
//! Work fails on such a blob like on any that is missing, and is begun again. In between, `gather/heal.rs`
//! repairs it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::Hash;
use templar_store::BlockingStore;

/// The blobs that reads have found corrupt since the last repair.
#[derive(Debug, Clone, Default)]
pub(crate) struct Damage(Arc<Mutex<BTreeSet<Hash>>>);

impl Damage {
    /// Remembers the blob that an error names as corrupt or unreadable.
    pub(crate) fn note(&self, error: &ReadError) {
        // A repair reads again before it changes anything, so a blob that was only busy loses nothing.
        if let ReadError::Corrupt { id, .. } | ReadError::Io { id, .. } = error {
            self.0.lock().insert(*id);
        }
    }

    pub(crate) fn take(&self) -> BTreeSet<Hash> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// A store that remembers which of its blobs reads have found corrupt.
pub(crate) struct Watched {
    pub(crate) blobs: BlockingStore,
    pub(crate) damage: Damage,
}

impl BlobSource for Watched {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        self.blobs.read(id, max_bytes).inspect_err(|error| self.damage.note(error))
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains(id)
    }
}
