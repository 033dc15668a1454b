//! The journal of a run: every entry that this node accepted, in the order of acceptance.
//!
//! The protocol's state is the fold over the journal, so a node that restarts continues where it was. An entry
//! is on disk before anybody hears of it: [`Journal::append`] returns after the data is synced, and a vote is
//! appended before it is sent.
//!
//! The file is a sequence of records: length (u32, little-endian), BLAKE3 hash of the bytes, the bytes. If a
//! crash has torn the last record, it is cut off when the journal is opened. Damage anywhere else is an error.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use templar_manifest::{Hash, MAX_PAYLOAD_BYTES};

use crate::error::HomeError;
use crate::files::{at, sync_dir};

/// The longest record: a payload and its witness.
pub const MAX_ENTRY_BYTES: usize = MAX_PAYLOAD_BYTES + 4096;

const HEADER_BYTES: usize = 4 + 32;

/// A journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A record before the last one is damaged.
    #[error("journal {path} is damaged at byte {offset}")]
    Damaged {
        /// The path of the journal.
        path: PathBuf,
        /// The offset of the damaged record, in bytes.
        offset: u64,
    },
    /// The file system gives an error.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// The offset of the next record, in bytes.
    end: u64,
}

/// The whole records of a journal's bytes, and the offset at which the last of them ends. `Err` is the offset
/// of damage.
fn parse(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), u64> {
    let mut records = Vec::new();
    let mut offset = 0usize;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let torn = || Ok((records.clone(), offset as u64));
        if rest.len() < HEADER_BYTES || rest.iter().all(|&byte| byte == 0) {
            return torn();
        }
        let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let whole = HEADER_BYTES + length;
        if length > MAX_ENTRY_BYTES {
            return Err(offset as u64);
        }
        if rest.len() < whole {
            return torn();
        }
        let record = &rest[HEADER_BYTES..whole];
        if Hash::of(record).as_bytes()[..] != rest[4..HEADER_BYTES] {
            return if rest.len() == whole { torn() } else { Err(offset as u64) };
        }
        records.push(record.to_vec());
        offset += whole;
    }
    Ok((records, offset as u64))
}

impl Journal {
    /// Opens or creates the journal in `dir` and gives its records. A torn last record is cut off.
    ///
    /// # Errors
    /// A record before the last is damaged, or the file cannot be read.
    pub fn open(dir: &Path) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let path = dir.join("journal");
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(at(&path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at(&path))?;
        let (records, end) = parse(&bytes).map_err(|offset| JournalError::Damaged { path: path.clone(), offset })?;
        if end < bytes.len() as u64 {
            file.set_len(end).and_then(|()| file.sync_all()).map_err(at(&path))?;
        }
        sync_dir(dir)?;
        Ok((Self { file, path, end }, records))
    }

    /// The records of the journal in `dir`, without the right to write. Reading commands use this beside a
    /// running node.
    ///
    /// # Errors
    /// A record before the last is damaged, or the file cannot be read.
    pub fn read(dir: &Path) -> Result<Vec<Vec<u8>>, JournalError> {
        let path = dir.join("journal");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(at(&path)(error).into()),
        };
        parse(&bytes).map(|(records, _)| records).map_err(|offset| JournalError::Damaged { path, offset })
    }

    /// Appends a record durably. After an error the journal is as it was before.
    pub fn append(&mut self, record: &[u8]) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + record.len());
        bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(Hash::of(record).as_bytes());
        bytes.extend_from_slice(record);
        let written = self
            .file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&bytes))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A full disk leaves part of a record behind; it must not stay in front of the next one.
            let _ = self.file.set_len(self.end);
            return Err(at(&self.path)(error).into());
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_and_a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, records) = Journal::open(dir.path()).unwrap();
        assert!(records.is_empty());
        for record in [&b"one"[..], b"", b"three"] {
            journal.append(record).unwrap();
        }
        drop(journal);
        let path = dir.path().join("journal");
        let whole = std::fs::read(&path).unwrap();
        // However much a crash leaves of the last record, the records before it stay.
        for length in whole.len() - (HEADER_BYTES + 5)..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, records) = Journal::open(dir.path()).unwrap();
            assert_eq!(records, [b"one".to_vec(), b"".to_vec()], "{length}");
            journal.append(b"four").unwrap();
            assert_eq!(Journal::read(dir.path()).unwrap().len(), 3);
        }
        let mut zeros = whole.clone();
        zeros.extend([0; 100]);
        std::fs::write(&path, &zeros).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().1.len(), 3);
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(b"one").unwrap();
        journal.append(b"two").unwrap();
        drop(journal);
        let path = dir.path().join("journal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER_BYTES] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { offset: 0, .. })));
    }
}
