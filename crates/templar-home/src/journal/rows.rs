//! The index of a journal: for each closed window its record, and the place in the journal behind its last entry.
//!
//! It lies beside the journal in `journal.windows`, in rows of [`ROW_BYTES`]. A row follows from the journal, so a file
//! that is gone or damaged costs one fold of the whole journal. Each row has a checksum over itself and its place in
//! the file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use templar_manifest::Hash;

use super::frame::JournalMark;
use crate::error::HomeError;
use crate::files::{Privacy, at, write_whole};

/// A record, two numbers and a checksum.
const ROW_BYTES: usize = 32 + 8 + 8 + 8;

/// A closed window in the index of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRow {
    /// The record of the window.
    pub record: Hash,
    /// The place behind the entry that closed it.
    pub end: JournalMark,
}

impl WindowRow {
    fn bytes(&self, window: usize) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..32].copy_from_slice(self.record.as_bytes());
        bytes[32..40].copy_from_slice(&self.end.records.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.end.offset.to_le_bytes());
        let covered = [&(window as u64).to_le_bytes()[..], &bytes[..48]].concat();
        bytes[48..].copy_from_slice(&Hash::of(&covered).as_bytes()[..8]);
        bytes
    }

    fn read(bytes: &[u8], window: usize) -> Option<Self> {
        let number = |from: usize| Some(u64::from_le_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
        let record = Hash::from_bytes(bytes.get(..32)?.try_into().ok()?);
        let row = Self { record, end: JournalMark { records: number(32)?, offset: number(40)? } };
        (row.bytes(window) == bytes).then_some(row)
    }
}

/// The index of a journal, open for appending.
#[derive(Debug)]
pub struct WindowRows {
    file: File,
    path: PathBuf,
    count: usize,
}

impl WindowRows {
    fn path(dir: &Path) -> PathBuf {
        dir.join("journal.windows")
    }

    /// The rows of the journal in `dir`, as far as they are whole.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(dir: &Path) -> Result<Vec<WindowRow>, HomeError> {
        let path = Self::path(dir);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let rows = bytes.chunks(ROW_BYTES).enumerate();
                Ok(rows.map_while(|(window, row)| WindowRow::read(row, window)).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Removes the index of the journal in `dir`.
    ///
    /// # Errors
    /// The file system gives an error.
    pub fn remove(dir: &Path) -> Result<(), HomeError> {
        let path = Self::path(dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes `rows` the index of the journal in `dir`, and opens it for appending.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(dir: &Path, rows: &[WindowRow]) -> Result<Self, HomeError> {
        let path = Self::path(dir);
        let bytes: Vec<u8> = rows.iter().enumerate().flat_map(|(window, row)| row.bytes(window)).collect();
        let is_there = std::fs::read(&path).is_ok_and(|found| found == bytes);
        if !is_there {
            write_whole(&path, &bytes, Privacy::Everybody)?;
        }
        let file = File::options().append(true).open(&path).map_err(at(&path))?;
        Ok(Self { file, path, count: rows.len() })
    }

    /// Appends the row of the window that has just closed, durably.
    ///
    /// # Errors
    /// The file cannot be written. What is there of the row is then no row.
    pub fn push(&mut self, row: &WindowRow) -> Result<(), HomeError> {
        let row = row.bytes(self.count);
        self.file.write_all(&row).and_then(|()| self.file.sync_data()).map_err(at(&self.path))?;
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(window: u64) -> WindowRow {
        let end = JournalMark { records: 10 * (window + 1), offset: 1_000 * (window + 1) };
        WindowRow { record: Hash::of(&window.to_le_bytes()), end }
    }

    #[test]
    fn rows_come_back_as_far_as_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(WindowRows::read(dir.path()).unwrap(), []);
        let all: Vec<WindowRow> = (0..5).map(row).collect();
        let mut rows = WindowRows::open(dir.path(), &all[..3]).unwrap();
        all[3..].iter().for_each(|row| rows.push(row).unwrap());
        assert_eq!(WindowRows::read(dir.path()).unwrap(), all);
        drop(WindowRows::open(dir.path(), &all).unwrap());
        let path = WindowRows::path(dir.path());
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 5 * ROW_BYTES);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(WindowRows::read(dir.path()).unwrap(), all[..bit / 8 / ROW_BYTES]);
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(WindowRows::read(dir.path()).unwrap(), all[..length / ROW_BYTES]);
        }
        // Rows in another order are those of another journal.
        std::fs::write(&path, [&whole[ROW_BYTES..], &whole[..ROW_BYTES]].concat()).unwrap();
        assert_eq!(WindowRows::read(dir.path()).unwrap(), []);
        WindowRows::remove(dir.path()).unwrap();
        WindowRows::remove(dir.path()).unwrap();
        assert!(!path.exists());
    }
}
