//! The reasons for which a blob cannot be read.

use std::io;

use templar_manifest::Hash;

/// A blob was not read. Bytes are only ever returned whole and verified, so an error comes without any bytes.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source does not have the blob, or has only a part of it.
    #[error("blob {id} is not here")]
    NotFound {
        /// The name of the blob.
        id: Hash,
    },
    /// The blob is longer than the caller can use.
    #[error("blob {id} has {size} bytes, more than the {max_bytes} allowed here")]
    TooLarge {
        /// The name of the blob.
        id: Hash,
        /// The length of the blob, in bytes.
        size: u64,
        /// The limit of the caller, in bytes.
        max_bytes: u64,
    },
    /// The stored bytes do not hash to the blob's name, or a part of them is gone.
    #[error("blob {id} is corrupt on the disk: {reason}")]
    Corrupt {
        /// The name of the blob.
        id: Hash,
        /// The difference that the verification found.
        reason: String,
    },
    /// The blob was whole here once and was found corrupt. The parts that still verify were kept, and the rest is gone.
    #[error("a part of blob {id} is gone: it was found corrupt here before")]
    Torn {
        /// The name of the blob.
        id: Hash,
    },
    /// The store has been shut down, or its database stopped after an earlier error.
    #[error("the store is closed")]
    Closed,
    /// The disk failed to answer.
    #[error("cannot read blob {id}")]
    Io {
        /// The name of the blob.
        id: Hash,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl ReadError {
    /// Whether this source has lost the blob: it has or had the blob, and cannot give its bytes. Such an error says
    /// nothing about the one who made the blob, because the same blob may be whole elsewhere.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Torn { .. } | Self::Closed | Self::Io { .. } => true,
            Self::NotFound { .. } | Self::TooLarge { .. } => false,
        }
    }
}
