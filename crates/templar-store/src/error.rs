//! What can go wrong with bytes on a disk: one enum per operation, each message naming the blob or the path.
//!
//! A full disk and a corrupt blob are variants of their own, since a person acts on them; everything else that the
//! operating system says is passed on with its cause.

use std::io;
use std::path::PathBuf;

use templar_manifest::Hash;

/// A store directory did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another handle in this one) has the store open.
    #[error("the store at {} is in use by another process", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory cannot be created, read or locked.
    #[error("cannot use the directory {}", path.display())]
    Io {
        /// The directory or file that failed.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is full: even to open a store takes some room.
    #[error("no space left on the disk of the store at {}", path.display())]
    DiskFull {
        /// The store's directory.
        path: PathBuf,
    },
    /// The metadata database inside the directory does not open.
    #[error("the database of the store at {} does not open: {reason}", path.display())]
    Database {
        /// The store's directory.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
}

/// Bytes did not get into the store; nothing of them is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The disk is full.
    #[error("no space left on the disk of the store")]
    DiskFull,
    /// The file to import cannot be read.
    #[error("cannot read {}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The blob to keep is not there, or not whole.
    #[error("blob {id} is not in the store")]
    NotFound {
        /// The blob.
        id: Hash,
    },
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// Another failure of the disk.
    #[error("cannot write to the store")]
    Io(#[source] io::Error),
}

/// A blob was not read. Bytes are only ever returned whole and verified.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The blob is not here, or only a part of it is.
    #[error("blob {id} is not here")]
    NotFound {
        /// The blob.
        id: Hash,
    },
    /// The blob is longer than the caller can use.
    #[error("blob {id} has {size} bytes, more than the {max_bytes} allowed here")]
    TooLarge {
        /// The blob.
        id: Hash,
        /// Its length in bytes.
        size: u64,
        /// The caller's limit in bytes.
        max_bytes: u64,
    },
    /// The stored bytes do not hash to the blob's name, or a part of them is gone.
    #[error("blob {id} is corrupt on the disk: {reason}")]
    Corrupt {
        /// The blob.
        id: Hash,
        /// What the verification found.
        reason: String,
    },
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The disk failed to answer.
    #[error("cannot read blob {id}")]
    Io {
        /// The blob.
        id: Hash,
        /// Why.
        source: io::Error,
    },
}

/// A blob was not exported; the target is untouched.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The blob could not be read whole and verified.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk of the target is full.
    #[error("no space left on the disk for {}", path.display())]
    DiskFull {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The store could not say what it holds.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The database failed.
    #[error("cannot list the store")]
    Io(#[source] io::Error),
}

/// Blobs are not known to be on the disk: do not sign or announce them.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A blob to be synced is not in the store.
    #[error("blob {id} is not in the store")]
    NotFound {
        /// The blob.
        id: Hash,
    },
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The operating system refused to write a file through.
    #[error("cannot write {} through to the disk", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Blobs were not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Something is being imported.
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
