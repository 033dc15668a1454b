//! The errors of a listing.

use std::io;
use std::path::{Path, PathBuf};

use super::file::LeftOut;

/// Sources cannot be listed. Nothing was read or imported.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The list of sources is empty.
    #[error("nothing to import: no source was named")]
    NoSources,
    /// A source does not exist.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A link with the name of a data file leads nowhere.
    #[error("{} is a link that leads nowhere: there is no {}", path.display(), target.display())]
    DeadLink {
        /// The path of the link.
        path: PathBuf,
        /// The path that it names.
        target: PathBuf,
    },
    /// A data file, or a folder, cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A source is a pipe, a socket or a device.
    #[error("{} is a pipe, a socket or a device: only regular files are read", .0.display())]
    Special(PathBuf),
    /// A folder holds nothing to import.
    #[error("folder {} holds nothing to import{}", path.display(), summary(left_out))]
    EmptyFolder {
        /// The path of the folder.
        path: PathBuf,
        /// The contents of the folder.
        left_out: Vec<LeftOut>,
    },
    /// A folder nests too deep.
    #[error("folder {} is nested more than {max_depth} deep", path.display())]
    TooDeep {
        /// The path of the folder.
        path: PathBuf,
        /// The limit, in levels.
        max_depth: usize,
    },
}

/// The first few of what is left out, as the end of a sentence.
fn summary(left_out: &[LeftOut]) -> String {
    const SHOWN: usize = 3;
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut words: Vec<String> = left_out
        .iter()
        .take(SHOWN)
        .map(|left_out| format!("{} ({})", name(&left_out.path), left_out.reason.words()))
        .collect();
    if left_out.len() > SHOWN {
        words.push(format!("and {} more", left_out.len() - SHOWN));
    }
    if words.is_empty() { String::new() } else { format!("; left out: {}", words.join(", ")) }
}
