//! Removing blobs: those that nothing wants any more, and those that turned out to be corrupt.
//!
//! Invariant: a removal removes the blobs that it names and nothing else. It never runs beside an import, because the
//! collector would remove the bytes of an import that have no tag yet.

use std::collections::BTreeSet;
use std::io;

use templar_manifest::Hash;

use crate::convert::{from_iroh, io_error, to_iroh};
use crate::{ListError, RemoveError, Store};

impl Store {
    /// Removes blobs, whether the whole blob is here or only a part of it, and what was [left
    /// behind](Self::left_behind) of them. A name that is not here is no error.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] while anything is imported. Nothing was removed then, and a later attempt may succeed.
    pub async fn remove(&self, ids: &BTreeSet<Hash>) -> Result<(), RemoveError> {
        let Some(disk) = self.disk() else { return Err(RemoveError::Memory) };
        self.writable().map_err(RemoveError::Io)?;
        let Ok(_alone) = disk.imports.try_write() else { return Err(RemoveError::Busy) };
        for id in ids {
            let untagged = self.blobs().tags().delete(id.to_string()).await;
            untagged.map_err(|error| RemoveError::Io(io_error(error)))?;
        }
        let known: BTreeSet<Hash> = self.all().await?.into_iter().collect();
        for path in ids.difference(&known).flat_map(|id| disk.files_of(id)) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(RemoveError::Io(error)),
                _ => {}
            }
        }
        let protected = known.difference(ids).map(to_iroh).collect();
        disk.collector.collect(protected).await.map_err(|_| RemoveError::Closed)
    }

    /// Which of these blobs have files here that the database does not know, with their bytes on the disk. A process
    /// leaves them that is killed between the writing of a blob and that of its entry.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn left_behind(&self, ids: &BTreeSet<Hash>) -> Result<Vec<(Hash, u64)>, ListError> {
        let Some(disk) = self.disk() else { return Ok(Vec::new()) };
        let known: BTreeSet<Hash> = self.all().await?.into_iter().collect();
        let bytes =
            |id: &Hash| disk.files_of(id).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum::<u64>();
        Ok(ids.difference(&known).map(|id| (*id, bytes(id))).filter(|(_, bytes)| *bytes > 0).collect())
    }

    /// The names of all blobs of which anything is here, sorted.
    pub(crate) async fn all(&self) -> Result<Vec<Hash>, ListError> {
        let hashes = self.blobs().blobs().list().hashes().await.map_err(|error| match error {
            iroh_blobs::api::RequestError::Rpc { .. } => ListError::Closed,
            inner => ListError::Io(io_error(inner)),
        })?;
        // A database that has stopped lists nothing, without an error.
        self.has(&Hash::default()).await?;
        let mut ids: Vec<Hash> = hashes.iter().map(from_iroh).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

impl From<ListError> for RemoveError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Closed => Self::Closed,
            ListError::Io(source) => Self::Io(source),
        }
    }
}

impl From<RemoveError> for io::Error {
    fn from(error: RemoveError) -> Self {
        Self::other(error)
    }
}
