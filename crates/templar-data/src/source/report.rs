//! A report of the rows that reading left out, cut and repaired, for the person who imports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::RowFault;

/// Bad rows that are kept with their message.
const SHOWN: usize = 3;

/// Counts of what the files held beside plain sound rows. Reports of several files are added up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// Bytes of the files, before decompression.
    pub bytes: u64,
    /// Rows, lines or passages that were read, good and bad.
    pub rows: u64,
    /// Rows that hold conversations.
    pub conversations: u64,
    /// Rows whose text is empty, null or absent.
    pub without_text: u64,
    /// Rows that were left out, by reason.
    pub bad_rows: BTreeMap<&'static str, u64>,
    /// The first bad rows that were left out: the file, the row, and what is wrong with it.
    pub first_bad_rows: Vec<(PathBuf, u64, RowFault)>,
    /// Documents longer than the limit, which were split, cut or left out.
    pub long_documents: u64,
    /// Rows in which half a character (a lone surrogate) became U+FFFD.
    pub mended_rows: u64,
    /// Files of which something must be said: the file, and a sentence about it.
    pub notes: Vec<(PathBuf, String)>,
}

impl ReadReport {
    /// The number of bad rows that were left out.
    pub fn bad_row_count(&self) -> u64 {
        self.bad_rows.values().sum()
    }

    /// Adds the counts of another file. Of the first bad rows, only the first few stay.
    pub fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.rows += other.rows;
        self.conversations += other.conversations;
        self.without_text += other.without_text;
        self.long_documents += other.long_documents;
        self.mended_rows += other.mended_rows;
        for (reason, count) in other.bad_rows {
            *self.bad_rows.entry(reason).or_default() += count;
        }
        self.first_bad_rows.extend(other.first_bad_rows);
        self.first_bad_rows.truncate(SHOWN);
        self.notes.extend(other.notes);
    }

    /// Adds bad rows of the same files that were found later. `place` tells the order of the files.
    pub(crate) fn add_bad(&mut self, other: Self, place: impl Fn(&Path) -> Option<usize>) {
        for (reason, count) in other.bad_rows {
            *self.bad_rows.entry(reason).or_default() += count;
        }
        self.first_bad_rows.extend(other.first_bad_rows);
        self.first_bad_rows.sort_by_key(|(path, row, _)| (place(path), *row));
        self.first_bad_rows.truncate(SHOWN);
    }

    /// Counts a bad row that is left out.
    pub(crate) fn bad(&mut self, path: &Path, row: u64, fault: RowFault) {
        *self.bad_rows.entry(fault.reason()).or_default() += 1;
        if self.first_bad_rows.len() < SHOWN {
            self.first_bad_rows.push((path.to_owned(), row, fault));
        }
    }
}
