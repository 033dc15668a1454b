//! What an audit reads from: synchronous, verified reads of whole blobs, wherever the bytes lie.
//!
//! Invariant: the bytes a [`BlobSource`] returns hash to the name asked for and are no longer than asked for. An audit
//! needs no more than this, so it runs from an open store, from a folder copied off another machine, or from memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
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

/// A plain folder of files, each named by the 64 hexadecimal digits of its hash: evidence exported for an audit.
#[derive(Debug, Clone)]
pub struct DirBlobs {
    dir: PathBuf,
}

impl DirBlobs {
    /// Reads from `dir`; nothing is opened yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the blob's file is, or would be.
    pub fn path_of(&self, id: &Hash) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn read_file(&self, id: &Hash, max_bytes: u64) -> io::Result<Result<Vec<u8>, u64>> {
        let file = File::open(self.path_of(id))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        let size = metadata.len();
        if size > max_bytes {
            return Ok(Err(size));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
        // The file may grow while it is read: one byte beyond its length is enough to notice.
        file.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Ok(bytes))
    }
}

impl BlobSource for DirBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let bytes = match self.read_file(id, max_bytes) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(size)) => return Err(ReadError::TooLarge { id: *id, size, max_bytes }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::NotFound { id: *id }),
            Err(source) => return Err(ReadError::Io { id: *id, source }),
        };
        let found = Hash::of(&bytes);
        if found == *id {
            Ok(bytes.into())
        } else {
            Err(ReadError::Corrupt { id: *id, reason: format!("the file's bytes hash to {found}") })
        }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.path_of(id).is_file()
    }
}
