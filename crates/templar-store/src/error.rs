//! Errors of the store: one enum for each operation, each message naming the blob or the path.
//!
//! A full disk and a corrupt blob have variants of their own, because a person can act on them. Everything else
//! that the operating system reports is passed on with its cause.

use std::io;
use std::path::PathBuf;

use templar_blob::ReadError;
use templar_manifest::Hash;

/// A store directory did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle in this one, has the store open.
    #[error("the store at {} is in use by another process", path.display())]
    Locked {
        /// The directory of the store.
        path: PathBuf,
    },
    /// The directory cannot be created, read or locked.
    #[error("cannot use the directory {}", path.display())]
    Io {
        /// The directory or file that failed.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The disk is full: even opening a store takes some room.
    #[error("no space left on the disk of the store at {}", path.display())]
    DiskFull {
        /// The directory of the store.
        path: PathBuf,
    },
    /// The store may not be written, and its database cannot be copied to be read.
    #[error("cannot copy the database of the store at {} into a temporary directory", path.display())]
    Copy {
        /// The directory of the store.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The metadata database inside the directory does not open.
    #[error("the database of the store at {} does not open: {reason}", path.display())]
    Database {
        /// The directory of the store.
        path: PathBuf,
        /// The message of the database.
        reason: String,
    },
}

/// Bytes did not get into the store. Nothing of them is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The disk is full.
    #[error("no space left on the disk of the store")]
    DiskFull,
    /// The file to import cannot be read.
    #[error("cannot read {}", path.display())]
    Input {
        /// The file to import.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The blob to keep is not in the store, or not whole.
    #[error("blob {id} is not in the store")]
    NotFound {
        /// The name of the blob.
        id: Hash,
    },
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The disk failed in another way.
    #[error("cannot write to the store")]
    Io(#[source] io::Error),
}

/// A blob was not exported. The target file is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum BlobExportError {
    /// There is a file at the target already, which may not be replaced.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// The blob could not be read whole and verified.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk of the target is full.
    #[error("no space left on the disk for {}", path.display())]
    DiskFull {
        /// The file to write.
        path: PathBuf,
    },
    /// The target cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file to write.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The store could not list its blobs.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The database could not be read.
    #[error("cannot list the store")]
    Io(#[source] io::Error),
}

/// Blobs are not known to be on the disk: they must not be signed or announced.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A blob to be synced is not in the store.
    #[error("blob {id} is not in the store")]
    NotFound {
        /// The name of the blob.
        id: Hash,
    },
    /// The disk is full.
    #[error("no space left on the disk of the store")]
    DiskFull,
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The operating system refused to write a file through to the disk.
    #[error("cannot write {} through to the disk", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Blobs were not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// An import is under way, whose bytes a removal could take.
    #[error("the store is busy: something is on its way into it")]
    Busy,
    /// A store in memory keeps everything.
    #[error("a store in memory removes nothing")]
    Memory,
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The disk failed to answer.
    #[error("cannot remove blobs from the store")]
    Io(#[source] io::Error),
}
