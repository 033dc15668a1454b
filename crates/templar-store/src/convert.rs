//! The types of iroh-blobs and the types of this project, one into the other.

use std::io;

use iroh_blobs::api::RequestError;
use templar_manifest::Hash;

/// The same 32 bytes as the type of iroh-blobs.
pub fn to_iroh(id: &Hash) -> iroh_blobs::Hash {
    iroh_blobs::Hash::from_bytes(*id.as_bytes())
}

/// The same 32 bytes as the type of this project.
pub fn from_iroh(hash: &iroh_blobs::Hash) -> Hash {
    Hash::from_bytes(*hash.as_bytes())
}

/// The error of the operating system behind an error of iroh-blobs.
pub(crate) fn io_error(error: RequestError) -> io::Error {
    let iroh_blobs::api::Error::Io(error) = iroh_blobs::api::Error::from(error);
    error
}
