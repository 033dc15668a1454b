//! The trait through which audits and trainers read: synchronous, verified reads of whole blobs.

use std::sync::Arc;

use bytes::Bytes;
use templar_manifest::Hash;

use crate::ReadError;

/// A place that gives whole blobs by name, read synchronously and verified.
///
/// Invariant: the bytes that [`read`](Self::read) returns hash to the name asked for, and are no longer than asked for.
/// A recomputation needs no more than this, so the same audit runs from an open store, through a node that has one, or
/// from memory.
pub trait BlobSource: Send + Sync {
    /// Reads the bytes of a blob of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] where the blob or a part of it is missing, [`ReadError::TooLarge`] where it is
    /// longer than `max_bytes`, and one of the errors of [damage](ReadError::is_damage) where the source has lost
    /// bytes that it had. The length in `TooLarge` is verified like the bytes: a damaged source never gives that error.
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError>;

    /// Tells whether the whole blob is here. A later [`read`](Self::read) may still find it corrupt.
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
