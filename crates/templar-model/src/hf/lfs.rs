//! Pointers of Git LFS: small texts that stand where large files were not downloaded.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Every pointer is shorter than this, in bytes.
pub(super) const LFS_POINTER_LENGTH: u64 = 1024;

/// How a pointer begins.
const BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether these are the first bytes of a pointer.
pub(super) fn begins_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGINNING)
}

/// Whether a file is a pointer.
///
/// # Errors
/// The file cannot be read.
pub(super) fn is_lfs_pointer(path: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BEGINNING.len() as u64).read_to_end(&mut bytes)?;
    Ok(begins_lfs_pointer(&bytes))
}
