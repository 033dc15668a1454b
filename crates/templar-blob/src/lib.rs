//! Bytes by hash: the one interface through which everything above reads blobs.
//!
//! A **blob** is a sequence of bytes whose name is its BLAKE3 hash. Datasets, tensors, deltas and manifests are all
//! blobs. Code that reads them takes a [`BlobSource`] and does not learn where the bytes lie. Three kinds of sources
//! exist: an open store (`templar-store`), the socket of a running node (`templar-node`), and [`MemoryBlobs`] for tests
//! and small sets.
//!
//! This crate has no files, no network and no async runtime, so a program that checks a run can be built without them.
//!
//! ```
//! use templar_blob::{BlobSource, MemoryBlobs, ReadError};
//! use templar_manifest::Hash;
//!
//! let mut blobs = MemoryBlobs::new();
//! let id = blobs.insert("to be, or not to be");
//! assert_eq!(id, Hash::of(b"to be, or not to be"));
//!
//! // Every reader states the most bytes that it is ready to take.
//! assert_eq!(blobs.read(&id, 100)?, "to be, or not to be");
//! assert!(matches!(blobs.read(&id, 5), Err(ReadError::TooLarge { size: 19, max_bytes: 5, .. })));
//!
//! let absent = Hash::of(b"that is the question");
//! assert!(matches!(blobs.read(&absent, 100), Err(ReadError::NotFound { .. })));
//! # Ok::<(), ReadError>(())
//! ```

mod error;
mod memory;
mod source;
mod watched;

pub use error::ReadError;
pub use memory::MemoryBlobs;
pub use source::BlobSource;
pub use watched::{Damage, Watched};
