//! The errors of part files.

use std::path::PathBuf;

/// A part file cannot be written, read or joined with others.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The file cannot be written.
    #[error("the part cannot be written")]
    Write(#[source] std::io::Error),
    /// The file cannot be opened.
    #[error("{} cannot be read", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is no part, or of another version of this program.
    #[error("{} is no part of an import: {reason}", path.display())]
    NotAPart {
        /// The path of the file.
        path: PathBuf,
        /// The fault of the file.
        reason: String,
    },
    /// The file was changed after it was written, or the disk lost something of it.
    #[error("{} is damaged at row {row}: {reason}", path.display())]
    Damaged {
        /// The path of the file.
        path: PathBuf,
        /// The number of the row, from 1.
        row: u64,
        /// The fault of the file.
        reason: String,
    },
    /// Two files are the same part.
    #[error("{} and {} are both part {number}", first.display(), second.display())]
    Twice {
        /// One of the files.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
        /// The number of the part.
        number: u32,
    },
    /// Parts are missing.
    #[error("of {count} parts, {} missing: {}", if missing.len() == 1 { "this is" } else { "these are" }, listed(missing))]
    Missing {
        /// The numbers of the missing parts.
        missing: Vec<u32>,
        /// The number of parts.
        count: u32,
    },
    /// Two parts come from different imports.
    #[error("{} and {} are not parts of one import: {difference}", first.display(), second.display())]
    Differ {
        /// One of the files.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
        /// The difference.
        difference: String,
    },
}

fn listed(numbers: &[u32]) -> String {
    const SHOWN: usize = 8;
    let mut words: Vec<String> = numbers.iter().take(SHOWN).map(u32::to_string).collect();
    if numbers.len() > SHOWN {
        words.push(format!("and {} more", numbers.len() - SHOWN));
    }
    words.join(", ")
}
