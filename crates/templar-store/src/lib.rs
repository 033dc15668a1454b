//! Content-addressed bytes on disk, and every way an audit or a trainer reads them back.
//!
//! A [`Store`] is one directory held by one process. What goes in is named by its BLAKE3 hash; what comes out has been
//! hashed again on the way, so bytes that rotted on the disk are an error and never an input. The bytes have no meaning
//! here: shards, tensors, deltas and manifests are all blobs.
//!
//! Underneath lies iroh-blobs' file store: blobs of at most 16 KiB live in its database, larger ones in files of their
//! own beside an outboard (the inner nodes of the hash tree) that lets any 16 KiB be verified alone. That store does not
//! force file data to the disk, so whoever signs or announces a blob calls [`Store::sync`] first. Nor does it notice that a
//! blob has rotted: [`Store::scrub`] looks, and [`Store::repair`] keeps what verifies of it and has the rest fetched again.
//! The database keeps pages of its file in memory, up to 1 GiB (redb's default, which iroh-blobs 0.104 gives no way to change):
//! the node of a validator held 165 MB after 870 tiny windows, with a database of 134 MB, and 17 MB when it was started again.
//!
//! Code that only reads takes a [`BlobSource`]: an open store, memory, or whatever else names bytes by their hash.

mod collect;
mod damage;
mod error;
mod ops;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use damage::{Repaired, ScrubProgress, ScrubReport};
pub use error::{ExportError, ListError, OpenError, PutError, ReadError, RemoveError, SyncError};
pub use source::{BlobSource, BlockingStore, MemoryBlobs};
pub use store::{Importing, Store};
pub use store::{from_iroh, to_iroh};
