//! The file `work/unfinished`: the blobs of imports that have not ended.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use templar_manifest::Hash;

use crate::error::HomeError;
use crate::files::{Privacy, at, write_whole};
use crate::home::Home;

/// The blobs that imports have stored here and that no manifest named then. A line that a kill has cut off names none.
///
/// # Errors
/// The file cannot be read.
pub fn listed(home: &Home) -> Result<BTreeSet<Hash>, HomeError> {
    let path = path(home);
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(at(&path)(error)),
    }
}

/// Forgets the blobs of imports that did not end, after what may go of them was removed.
///
/// # Errors
/// The file cannot be removed.
pub fn forget(home: &Home) -> Result<(), HomeError> {
    let path = path(home);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
        _ => Ok(()),
    }
}

/// Takes blobs off the list that a person wants here for another reason.
///
/// # Errors
/// The file cannot be read or written.
pub fn spare(home: &Home, blobs: &[Hash]) -> Result<(), HomeError> {
    let mut left = listed(home)?;
    let before = left.len();
    for id in blobs {
        left.remove(id);
    }
    if left.is_empty() {
        return forget(home);
    }
    if left.len() == before {
        return Ok(());
    }
    let lines: String = left.iter().map(|id| format!("{id}\n")).collect();
    write_whole(&path(home), lines.as_bytes(), Privacy::Everybody)
}

pub(super) fn path(home: &Home) -> PathBuf {
    home.root().join("work").join("unfinished")
}
