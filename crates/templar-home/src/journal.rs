//! The journal of a run: every entry that this node accepted, in the order of acceptance.
//!
//! The protocol's state is the fold over the journal, so a node that restarts continues where it was. An entry
//! is on disk before anybody hears of it: [`Journal::append`] returns after the data is synced, and a vote is
//! appended before it is sent.
//!
//! The file is a sequence of records: length (u32, little-endian), BLAKE3 hash of the bytes, the bytes.
//!
//! A crash can tear the last record: its end is missing, or sectors of it are still zero. Nobody has heard of such an
//! entry, so it is cut off when the journal is opened. Everything else that does not verify is damage, and an error:
//! the entry may be a vote that others have, and a validator must not forget its votes. [`Journal::salvage`] keeps what
//! still verifies.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use templar_manifest::{Hash, MAX_PAYLOAD_BYTES};

use crate::error::HomeError;
use crate::files::{Privacy, at, sync_dir, write_with};

/// The longest record: a payload and its witness.
pub const MAX_ENTRY_BYTES: usize = MAX_PAYLOAD_BYTES + 4096;

const HEADER_BYTES: usize = 4 + 32;

/// The bytes that a disk writes together or not at all.
const SECTOR_BYTES: usize = 512;

/// A journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A record is damaged, and no crash explains it.
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

/// The records of a journal file, read without the right to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalRecords {
    /// The whole records, in order.
    pub records: Vec<Vec<u8>>,
    /// The number of bytes after them, which a crash has left or an append has just begun to write.
    pub torn_bytes: u64,
}

/// The length that the record at the beginning of `rest` states, and the hash of its bytes.
fn header(rest: &[u8]) -> Option<(usize, &[u8])> {
    let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    Some((length, rest.get(4..HEADER_BYTES)?))
}

/// The record at the beginning of `rest`, if it is whole.
fn record_at(rest: &[u8]) -> Option<&[u8]> {
    let (length, hash) = header(rest)?;
    let record = rest.get(HEADER_BYTES..HEADER_BYTES + length)?;
    (length <= MAX_ENTRY_BYTES && Hash::of(record).as_bytes()[..] == *hash).then_some(record)
}

/// The whole records of a journal's bytes, and the offset at which the last of them ends. `Err` is the offset
/// of damage.
fn parse(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), u64> {
    let (mut records, mut offset) = (Vec::new(), 0);
    while offset < bytes.len() {
        match record_at(&bytes[offset..]) {
            Some(record) => {
                records.push(record.to_vec());
                offset += HEADER_BYTES + record.len();
            }
            None if is_torn(bytes, offset) => break,
            None => return Err(offset as u64),
        }
    }
    Ok((records, offset as u64))
}

/// Whether the bytes from `start` on, which begin with no whole record, are what a crash leaves of the last append.
fn is_torn(bytes: &[u8], start: usize) -> bool {
    let rest = &bytes[start..];
    if rest.len() < HEADER_BYTES || rest.iter().all(|&byte| byte == 0) {
        return true;
    }
    if rest.len() > HEADER_BYTES + MAX_ENTRY_BYTES || next_record(bytes, start + 1).is_some() {
        return false;
    }
    if has_zero_sector(bytes, start) {
        return true;
    }
    // A record whose bytes are all here and whose length has changed has the right hash.
    header(rest).is_some_and(|(length, hash)| {
        let here = &rest[HEADER_BYTES..];
        length <= MAX_ENTRY_BYTES && here.len() < length && Hash::of(here).as_bytes()[..] != *hash
    })
}

/// Whether a sector from `start` on is all zero, as one that was never written. Of the first and the last sector only
/// the part counts that belongs to these bytes, and a few bytes may be zero by chance.
fn has_zero_sector(bytes: &[u8], start: usize) -> bool {
    let first = start - start % SECTOR_BYTES;
    (first..bytes.len()).step_by(SECTOR_BYTES).any(|sector| {
        let part = &bytes[sector.max(start)..bytes.len().min(sector + SECTOR_BYTES)];
        part.len() >= 8 && part.iter().all(|&byte| byte == 0)
    })
}

/// The offset of the first whole record at `start` or after it. A record of no bytes does not count.
fn next_record(bytes: &[u8], start: usize) -> Option<usize> {
    let end = bytes.len().saturating_sub(HEADER_BYTES);
    (start..end).find(|&offset| record_at(&bytes[offset..]).is_some_and(|record| !record.is_empty()))
}

impl Journal {
    /// Opens or creates the journal in `dir` and gives its records. A torn last record is cut off.
    ///
    /// # Errors
    /// A record is damaged, or the file cannot be read.
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
    /// A record is damaged, or the file cannot be read.
    pub fn read(dir: &Path) -> Result<Vec<Vec<u8>>, JournalError> {
        Self::look(dir).map(|found| found.records)
    }

    /// The same, and says whether bytes follow the last whole record.
    ///
    /// # Errors
    /// A record is damaged, or the file cannot be read.
    pub fn look(dir: &Path) -> Result<JournalRecords, JournalError> {
        let (path, bytes) = content(dir)?;
        let (records, end) = parse(&bytes).map_err(|offset| JournalError::Damaged { path, offset })?;
        Ok(JournalRecords { records, torn_bytes: bytes.len() as u64 - end })
    }

    /// All whole records of a journal, damaged or not, in order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn salvage(dir: &Path) -> Result<Vec<Vec<u8>>, JournalError> {
        let (_, bytes) = content(dir)?;
        let (mut records, mut offset) = (Vec::new(), 0);
        while let Some(start) = next_record(&bytes, offset) {
            let record = record_at(&bytes[start..]).unwrap_or_default();
            records.push(record.to_vec());
            offset = start + HEADER_BYTES + record.len();
        }
        Ok(records)
    }

    /// Puts a journal of these records into the place of the one in `dir`, which is kept beside it. Returns the path
    /// at which the old one is kept, or `None` if there was none.
    ///
    /// # Errors
    /// The files cannot be written. The journal is then as it was before.
    pub fn replace(dir: &Path, records: &[Vec<u8>]) -> Result<Option<PathBuf>, JournalError> {
        let path = dir.join("journal");
        let kept = (1..).map(|number| dir.join(format!("journal.damaged-{number}"))).find(|kept| !kept.exists());
        // A second name for the same bytes, so that at no moment the journal is gone.
        let kept = match kept.map(|kept| std::fs::hard_link(&path, &kept).map(|()| kept)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Some(linked) => Some(linked.map_err(at(&path))?),
            None => None,
        };
        write_with(&path, Privacy::Everybody, |file| {
            records.iter().try_for_each(|record| file.write_all(&framed(record)))
        })?;
        Ok(kept)
    }

    /// Appends a record durably. After an error the journal is as it was before.
    pub fn append(&mut self, record: &[u8]) -> Result<(), JournalError> {
        let bytes = framed(record);
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

/// The bytes of a journal file, and its path. A journal that is not there has no bytes.
fn content(dir: &Path) -> Result<(PathBuf, Vec<u8>), JournalError> {
    let path = dir.join("journal");
    match std::fs::read(&path) {
        Ok(bytes) => Ok((path, bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path, Vec::new())),
        Err(error) => Err(at(&path)(error).into()),
    }
}

/// The bytes of a record in the file.
fn framed(record: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + record.len());
    bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(Hash::of(record).as_bytes());
    bytes.extend_from_slice(record);
    bytes
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

    /// A journal with these records, and its bytes.
    fn journal(records: &[&[u8]]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        records.iter().for_each(|record| journal.append(record).unwrap());
        let path = dir.path().join("journal");
        let bytes = std::fs::read(&path).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn every_flipped_bit_is_damage_and_nothing_is_cut_off() {
        let records = [&b"one"[..], b"two and more", b"the last"];
        let (dir, path, whole) = journal(&records);
        let starts = [0, 39, 87];
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let start = starts.into_iter().rfind(|start| *start <= bit / 8).unwrap();
            let opened = Journal::open(dir.path());
            let found = matches!(opened, Err(JournalError::Damaged { offset, .. }) if offset == start as u64);
            assert!(found, "bit {bit}: {opened:?}");
            assert!(Journal::look(dir.path()).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "bit {bit}");
            let kept = Journal::salvage(dir.path()).unwrap();
            let others = records.iter().zip(starts).filter(|(_, at)| *at != start).map(|(record, _)| record.to_vec());
            assert_eq!(kept, others.collect::<Vec<_>>(), "bit {bit}");
        }
    }

    #[test]
    fn sectors_that_were_never_written_are_a_torn_record() {
        let long: Vec<u8> = (0..3000u32).map(|byte| byte as u8 | 1).collect();
        let (dir, path, whole) = journal(&[b"one", &long]);
        for sector in [0, 512, 1024, 2560] {
            let mut bytes = whole.clone();
            bytes[sector.max(39)..sector + 512].fill(0);
            std::fs::write(&path, &bytes).unwrap();
            let found = Journal::look(dir.path()).unwrap();
            assert_eq!((found.records, found.torn_bytes), (vec![b"one".to_vec()], 3036), "{sector}");
        }
        // With a record behind it, the same bytes are damage.
        let (dir, path, mut bytes) = journal(&[b"one", &long, b"three"]);
        bytes[512..1024].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { offset: 39, .. })));
    }

    #[test]
    fn a_replaced_journal_is_kept() {
        let (dir, path, bytes) = journal(&[b"one", b"two"]);
        for number in 1..3 {
            let kept = Journal::replace(dir.path(), &[b"two".to_vec()]).unwrap().unwrap();
            assert_eq!(kept, dir.path().join(format!("journal.damaged-{number}")));
            assert_eq!(Journal::read(dir.path()).unwrap(), [b"two".to_vec()]);
        }
        assert_eq!(std::fs::read(dir.path().join("journal.damaged-1")).unwrap(), bytes);
        std::fs::remove_file(path).unwrap();
        assert_eq!(Journal::replace(dir.path(), &[]).unwrap(), None);
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
