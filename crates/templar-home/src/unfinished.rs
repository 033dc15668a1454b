//! The blobs of an import that is under way.
//!
//! A manifest is stored after all that it names, so that whatever a home lists is whole. Until then nothing names the
//! shards of an import. The file `work/unfinished` does: a line for each, written before the blob. An import that ends
//! takes its lines away. One that fails removes its blobs too. Of one that was killed the lines stay, and a collection
//! removes the blobs that are still named nowhere else. The same import, begun again, uses what is there.

pub(crate) mod list;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};

use templar_data::{ShardSink, SinkError};
use templar_manifest::{BlobId, Hash};
use templar_store::{PutError, SyncError};

pub use list::{forget, listed, spare};

use crate::access::Access;
use crate::error::HomeError;
use crate::files::folder_of;
use list::path;

/// An import that has not ended yet. Dropped before [`keep`](Self::keep), it removes every blob that it has brought.
#[derive(Debug)]
pub struct Unfinished<'a> {
    access: &'a Access,
    /// The blobs that were put, in order.
    put: Vec<Hash>,
    /// Those of them that were not here before.
    new: BTreeSet<Hash>,
}

impl<'a> Unfinished<'a> {
    /// Begins an import into a home that is open to write.
    pub fn begin(access: &'a Access) -> Self {
        Self { access, put: Vec::new(), new: BTreeSet::new() }
    }

    /// Stores a blob and gives its hash.
    ///
    /// # Errors
    /// The disk takes nothing more, or the access only reads.
    pub fn put(&mut self, bytes: Vec<u8>) -> Result<Hash, PutError> {
        let id = Hash::of(&bytes);
        if !self.access.blobs().contains(&id) && self.new.insert(id) {
            self.note(&id).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull => PutError::DiskFull,
                _ => PutError::Io(error),
            })?;
        }
        self.access.put(bytes)?;
        self.put.push(id);
        Ok(id)
    }

    /// Ends the import, once the manifest that names its blobs is among them. When this returns, all of them survive a
    /// power cut.
    ///
    /// # Errors
    /// The disk fails. The blobs are removed then.
    pub fn keep(mut self) -> Result<(), SyncError> {
        self.access.sync(&self.put)?;
        self.new.clear();
        // Also the lines of an import that was killed, whose blobs this one used. Without this a collection would take
        // shards of a dataset that is whole.
        spare(&self.access.home, &self.put).map_err(|error| match error {
            HomeError::Io { path, source } => SyncError::Io { path, source },
            other => SyncError::Io { path: path(&self.access.home), source: io::Error::other(other) },
        })
    }

    /// Names a blob in the file.
    fn note(&self, id: &Hash) -> io::Result<()> {
        let path = path(&self.access.home);
        let mut file = File::options().create(true).append(true).open(&path)?;
        // A line of its own, also behind one that a kill has cut off.
        write!(file, "\n{id}\n")?;
        file.sync_all()?;
        // Makes the name of a new file itself durable.
        if self.new.len() == 1 { File::open(folder_of(&path))?.sync_all() } else { Ok(()) }
    }
}

impl ShardSink for Unfinished<'_> {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        Unfinished::put(self, bytes).map(BlobId::new).map_err(|error| SinkError(Box::new(error)))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(store) = self.access.store().filter(|_| !self.new.is_empty()) else { return };
        // Where this fails, the file names the blobs, and a collection removes them.
        if self.access.runtime().block_on(store.remove(&self.new)).is_ok() {
            let new: Vec<Hash> = self.new.iter().copied().collect();
            let _ = spare(&self.access.home, &new);
        }
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::SecretKey;

    use super::*;
    use crate::home::Home;

    fn home() -> (tempfile::TempDir, Access) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        Home::init(&root, &SecretKey::from_bytes(&[3; 32])).unwrap();
        let access = Access::write(&root).unwrap();
        (dir, access)
    }

    fn shard(number: u8) -> Vec<u8> {
        vec![number; 40_000]
    }

    #[test]
    fn an_import_that_fails_leaves_what_was_here_before() {
        let (_dir, access) = home();
        let here = access.put(shard(1)).unwrap();
        let mut import = Unfinished::begin(&access);
        assert_eq!(import.put(shard(1)).unwrap(), here);
        let new = import.put(shard(2)).unwrap();
        assert_eq!(listed(&access.home).unwrap(), BTreeSet::from([new]));
        drop(import);
        assert_eq!(access.stock().unwrap().whole, [(here, 40_000)]);
        assert_eq!(listed(&access.home).unwrap(), BTreeSet::new());
        assert!(!path(&access.home).exists());
    }

    #[test]
    fn an_import_that_ends_leaves_no_lines() {
        let (_dir, access) = home();
        let mut import = Unfinished::begin(&access);
        let ids = [import.put(shard(1)).unwrap(), import.put(shard(2)).unwrap()];
        import.keep().unwrap();
        assert!(ids.iter().all(|id| access.blobs().contains(id)));
        assert!(!path(&access.home).exists());
    }

    /// Of a killed import the lines stay, also behind a later import that ends.
    #[test]
    fn the_lines_of_a_killed_import_stay_until_they_are_forgotten() {
        let (_dir, access) = home();
        let mut killed = Unfinished::begin(&access);
        let left = killed.put(shard(1)).unwrap();
        let used = killed.put(shard(3)).unwrap();
        let mut file = File::options().append(true).open(path(&access.home)).unwrap();
        file.write_all(b"0123").unwrap();
        std::mem::forget(killed);
        let mut next = Unfinished::begin(&access);
        let kept = next.put(shard(2)).unwrap();
        next.put(shard(3)).unwrap();
        assert_eq!(listed(&access.home).unwrap(), BTreeSet::from([left, used, kept]));
        next.keep().unwrap();
        assert_eq!(listed(&access.home).unwrap(), BTreeSet::from([left]));
        spare(&access.home, &[kept]).unwrap();
        assert_eq!(listed(&access.home).unwrap(), BTreeSet::from([left]));
        spare(&access.home, &[left, kept]).unwrap();
        assert!(!path(&access.home).exists());
        forget(&access.home).unwrap();
        forget(&access.home).unwrap();
        assert_eq!(listed(&access.home).unwrap(), BTreeSet::new());
    }
}
