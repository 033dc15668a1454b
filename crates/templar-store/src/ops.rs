//! Operations on whole blobs: export to a file, list, write through to the disk.
//!
//! Invariants: an exported file is whole and verified, or it does not exist. After [`Store::sync`] a power cut
//! loses neither the named blobs nor the record that the store has them.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use templar_blob::ReadError;
use templar_manifest::Hash;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::store::is_disk_full;
use crate::{BlobExportError, ListError, Store, SyncError};

/// The fate of a file that is at the target of an export already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the export is an error.
    Refuse,
    /// It is replaced.
    Replace,
}

impl Store {
    /// Writes a blob to `path`, verified. Returns its length in bytes.
    ///
    /// # Errors
    /// See [`BlobExportError`]. On any error `path` is as it was before.
    pub async fn export(&self, id: &Hash, path: &Path, existing: Existing) -> Result<u64, BlobExportError> {
        let size = self.size_within(id, u64::MAX).await?;
        let (store, id, handle) = (self.clone(), *id, Handle::current());
        let target = Target { path: path.to_path_buf(), existing };
        let exported = spawn_blocking(move || export_file(&store, &id, size, &target, &handle)).await;
        exported
            .map_err(|error| BlobExportError::Write { path: path.to_path_buf(), source: io::Error::other(error) })??;
        Ok(size)
    }

    /// All whole blobs and their lengths in bytes, sorted by name.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn list(&self) -> Result<Vec<(Hash, u64)>, ListError> {
        let ids = self.all().await?;
        let mut whole = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(size) = self.size(&id).await {
                whole.push((id, size));
            }
        }
        Ok(whole)
    }

    /// Reads a whole blob and verifies every chunk of it. Returns its length in bytes.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get), except `TooLarge`.
    pub async fn verify(&self, id: &Hash) -> Result<u64, ReadError> {
        let size = self.size_within(id, u64::MAX).await?;
        self.read_verified(id, size, |_| Ok(())).await?;
        Ok(size)
    }

    /// Writes these blobs through to the disk: file data, then the directory, then the database. When it returns, they
    /// survive a power cut.
    ///
    /// Call it before a blob is signed or announced.
    ///
    /// # Errors
    /// See [`SyncError`]. After an error any of the blobs may be lost in a power cut.
    pub async fn sync(&self, ids: &[Hash]) -> Result<(), SyncError> {
        let mut files = Vec::new();
        for id in ids {
            match self.has(id).await {
                Ok(true) => {}
                Ok(false) => return Err(SyncError::NotFound { id: *id }),
                Err(_) => return Err(self.not_synced()),
            }
            if let Some(disk) = self.disk() {
                files.extend(disk.files_of(id));
            }
        }
        if let Some(disk) = self.disk() {
            let (data_dir, root) = (disk.data_dir(), disk.root.clone());
            let synced = spawn_blocking(move || {
                for file in files {
                    sync_path(&file, true)?;
                }
                sync_path(&data_dir, false)?;
                sync_path(&root, false)
            });
            let synced = synced.await;
            synced.map_err(|error| SyncError::Io { path: disk.root.clone(), source: io::Error::other(error) })??;
        }
        self.blobs().sync_db().await.map_err(|_| self.not_synced())
    }

    /// The error of a sync after the database has stopped.
    fn not_synced(&self) -> SyncError {
        if self.stopped_full() { SyncError::DiskFull } else { SyncError::Closed }
    }
}

/// The file that an export makes.
struct Target {
    path: PathBuf,
    existing: Existing,
}

impl Target {
    fn failed(&self, source: io::Error) -> BlobExportError {
        let path = self.path.clone();
        if is_disk_full(&source) { BlobExportError::DiskFull { path } } else { BlobExportError::Write { path, source } }
    }

    /// Refuses to replace what may not be replaced, before anything is written.
    fn check(&self) -> Result<(), BlobExportError> {
        match std::fs::metadata(&self.path) {
            Ok(_) if self.existing == Existing::Refuse => Err(BlobExportError::Exists { path: self.path.clone() }),
            // Renaming a file over a device or a pipe would remove that.
            Ok(there) if !there.is_file() => Err(self.failed(io::Error::other("it is not a regular file"))),
            _ => Ok(()),
        }
    }

    /// Renames the written file to the target.
    fn take(&self, file: NamedTempFile) -> Result<(), BlobExportError> {
        let persisted = match self.existing {
            Existing::Refuse => file.persist_noclobber(&self.path),
            Existing::Replace => file.persist(&self.path),
        };
        match persisted {
            Ok(_) => Ok(()),
            // Another process has made the file in the meantime.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BlobExportError::Exists { path: self.path.clone() })
            }
            Err(error) => Err(self.failed(error.error)),
        }
    }
}

/// Writes a file beside the target and renames it, so that the target is never half-written.
fn export_file(store: &Store, id: &Hash, size: u64, target: &Target, handle: &Handle) -> Result<(), BlobExportError> {
    let failed = |source| target.failed(source);
    target.check()?;
    let parent = match target.path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(failed)?;
    let mut file = tempfile::Builder::new().prefix(".export-").tempfile_in(parent).map_err(failed)?;
    // The sink's own error, kept apart from errors of reading.
    let mut unwritten = None;
    let read = handle.block_on(store.read_verified(id, size, |chunk| {
        file.write_all(chunk).map_err(|error| {
            let kind = error.kind();
            unwritten = Some(error);
            kind.into()
        })
    }));
    if let Some(error) = unwritten {
        return Err(failed(error));
    }
    read?;
    readable_by_all(file.as_file()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    target.take(file)?;
    sync_dir(parent).map_err(failed)
}

/// Gives an exported file the usual permissions. A temporary file has private ones.
#[cfg(unix)]
fn readable_by_all(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Forces a file or directory to the disk. With `optional` the file may be missing, since small blobs have no files.
fn sync_path(path: &Path, optional: bool) -> Result<(), SyncError> {
    let synced = if optional { File::open(path).and_then(|file| file.sync_all()) } else { sync_dir(path) };
    match synced {
        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SyncError::Io { path: PathBuf::from(path), source }),
        Ok(()) => Ok(()),
    }
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}
