//! JSON files of bounded length, and their values in errors.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ImportError;
use super::lfs::begins_lfs_pointer;

/// Reads a file of at most `limit` bytes as JSON.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str, limit: u64) -> Result<T, ImportError> {
    let io = |source| ImportError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(ImportError::TooLarge { what, found: text.len() as u64, limit });
    }
    if begins_lfs_pointer(&text) {
        return Err(ImportError::LfsPointer { path: path.into() });
    }
    serde_json::from_slice(&text).map_err(|source| ImportError::Parse { path: path.into(), source })
}

/// A value for an error message.
pub(super) fn shortened(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
