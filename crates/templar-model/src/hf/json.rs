//! JSON files of bounded length.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::ImportError;

/// Reads a file of at most `limit` bytes as JSON.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str, limit: u64) -> Result<T, ImportError> {
    let io = |source| ImportError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(ImportError::TooLarge { what, found: text.len() as u64, limit });
    }
    serde_json::from_slice(&text).map_err(|source| ImportError::Parse { path: path.into(), source })
}
