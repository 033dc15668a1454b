//! One file of a listing: taken, or left out.

use std::path::PathBuf;

use serde::Serialize;

use super::reason::Reason;

/// A file that an import reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenFile {
    /// The path by which it is opened.
    pub path: PathBuf,
    /// Its name below the folder that was named, with `/` between the levels, or the name of the file itself. It is the
    /// same on machines that keep the folder elsewhere.
    pub name: String,
    /// Its length in bytes, as it is stored.
    pub bytes: u64,
    /// Where a link leads, for a file that is one.
    pub link: Option<PathBuf>,
}

/// A file or folder that is not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The path. Below a folder that is left out nothing is listed.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: Reason,
}
