//! Content-addressed bytes on disk, verified when they are read.
//!
//! A [`Store`] is one directory that one process holds. A blob is named by the BLAKE3 hash of its bytes, and
//! the bytes are hashed again whenever they are read, so bytes that rotted on the disk are an error and never
//! an input. The store gives no meaning to bytes: shards, tensors, deltas and manifests are all blobs.
//!
//! ```
//! use templar_manifest::Hash;
//! use templar_store::Store;
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path()).await?;
//!
//! let id = store.put("to be, or not to be").await?;
//! assert_eq!(id, Hash::of(b"to be, or not to be"));
//! assert_eq!(store.get(&id, 100).await?, "to be, or not to be");
//!
//! // From here on the blob survives a power cut: it may be signed and announced.
//! store.sync(&[id]).await?;
//! store.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Underneath lies the file store of iroh-blobs:
//!
//! - It keeps blobs of at most 16 KiB in its database, and larger blobs in files of their own. Beside such a
//!   file lies an outboard, the inner nodes of the hash tree, with which any 16 KiB can be verified alone.
//! - It does not force the data of files to the disk. A program that signs or announces a blob calls
//!   [`Store::sync`] first.
//! - It does not notice that a blob has rotted. [`Store::scrub`] looks for such blobs; [`Store::repair`] keeps
//!   the ranges that verify, and the network fetches the rest again.
//! - Its database keeps pages of its file in memory, up to 1 GiB. That is redb's default, and iroh-blobs 0.104
//!   gives no way to change it. The node of a validator held 165 MB after 870 tiny windows, with a database of
//!   134 MB, and 17 MB when it was started again.
//!
//! Code that only reads takes a [`BlobSource`](templar_blob::BlobSource); [`BlockingStore`] is an open store as one.

mod blocking;
mod collect;
mod convert;
mod damage;
mod error;
mod open;
mod ops;
mod remove;
mod store;
#[cfg(test)]
mod tests;

pub use blocking::BlockingStore;
pub use convert::{from_iroh, to_iroh};
pub use damage::{Repaired, ScrubProgress, ScrubReport};
pub use error::{BlobExportError, ListError, OpenError, PutError, RemoveError, SyncError};
pub use ops::Existing;
pub use store::{Importing, Store};
