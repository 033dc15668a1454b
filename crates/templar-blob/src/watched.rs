//! A source that remembers which of its blobs reads have found damaged.
//!
//! A node repairs these blobs before it tries its work again. An audit that met one of them says so, and signs nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use templar_manifest::Hash;

use crate::{BlobSource, ReadError};

/// The blobs that reads have found damaged, each with the first error. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Damage(Arc<Mutex<BTreeMap<Hash, String>>>);

impl Damage {
    fn found(&self) -> MutexGuard<'_, BTreeMap<Hash, String>> {
        // Nothing panics while the map is held, and it is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the blob of a read, if the error means that this source has lost it.
    pub fn note(&self, id: &Hash, error: &ReadError) {
        if error.is_damage() {
            self.found().entry(*id).or_insert_with(|| error.to_string());
        }
    }

    /// Whether no read has found damage.
    pub fn is_none(&self) -> bool {
        self.found().is_empty()
    }

    /// The damaged blobs so far, each with the first error of a read.
    pub fn so_far(&self) -> BTreeMap<Hash, String> {
        self.found().clone()
    }

    /// The same, and forgets them.
    pub fn take(&self) -> BTreeMap<Hash, String> {
        std::mem::take(&mut *self.found())
    }
}

/// A source of which `damage` remembers the blobs that reads have found damaged.
#[derive(Debug, Clone)]
pub struct Watched<S> {
    /// The source that is read.
    pub blobs: S,
    /// The damage that reads have found.
    pub damage: Damage,
}

impl<S: BlobSource> BlobSource for Watched<S> {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        self.blobs.read(id, max_bytes).inspect_err(|error| self.damage.note(id, error))
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryBlobs;

    #[test]
    fn damaged_blobs_are_remembered_and_missing_ones_are_not() {
        let mut blobs = MemoryBlobs::new();
        let (whole, rotten) = (blobs.insert("whole"), blobs.insert("rotten"));
        blobs.damage(rotten, "rotted");
        let watched = Watched { blobs: &blobs, damage: Damage::default() };
        let _ = [whole, Hash::of(b"absent")].map(|id| watched.read(&id, 2));
        assert!(watched.damage.is_none());
        for _ in 0..2 {
            assert!(watched.read(&rotten, 100).is_err());
        }
        let found = watched.damage.so_far();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&rotten]);
        assert!(found[&rotten].contains("corrupt"), "{found:?}");
        assert_eq!((watched.damage.take(), watched.damage.is_none()), (found, true));
    }
}
