//! The journal of a run: every entry that this node accepted, in the order of acceptance.
//!
//! The protocol's state is the fold over the journal, so a node that restarts continues where it was. An entry
//! is on disk before anybody hears of it: [`Journal::append`] returns after the data is synced, and a vote is
//! appended before it is sent.
//!
//! `journal/frame.rs` has the bytes. Each record has a length, a number and a checksum, and begins and ends with a byte
//! that is not zero. So what a crash leaves of the last append is told from damage:
//!
//! * A *torn* record is the last one, and its end is missing, or a sector of it was never written and is zero. Nobody
//!   has heard of such an entry, so it is cut off when the journal is opened, and [`JournalRecords::torn_bytes`] says
//!   so. A disk may also lose a sector that it had written, and nothing here can tell. If a statement of this home's
//!   own was lost so, [`Memory`](crate::memory::Memory) names it, and the home is silent where it could contradict it.
//! * Everything else is *damage*, and an error: a record that does not verify though all of it is here, one before
//!   whole ones, one that is missing between two others or that is there twice. The entry may be a vote that others
//!   have, and a validator must not forget its votes. [`Journal::salvage`] keeps what still verifies.
//!
//! A journal of the first form, whose records have no number, is read as it is, and written anew when it is opened for
//! appending (`journal/first.rs`).

mod first;
mod frame;
mod reader;
mod rows;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::HomeError;
use crate::files::{Privacy, at, sync_dir, write_with};
use frame::{MAGIC, Scan};

pub use frame::{JournalDamage, JournalMark, MAX_ENTRY_BYTES};
pub use reader::JournalReader;
pub use rows::{WindowRow, WindowRows};

/// A journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A record is damaged, and no crash explains it.
    #[error("journal {path} is damaged at byte {offset}: {fault}")]
    Damaged {
        /// The path of the journal.
        path: PathBuf,
        /// The offset of the damaged record, in bytes.
        offset: u64,
        /// The damage.
        fault: JournalDamage,
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
    /// The number of the next record.
    next: u64,
}

/// The records of a journal file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalRecords {
    /// The whole records, in order.
    pub records: Vec<Vec<u8>>,
    /// The number of bytes after them, which a crash has left or an append has just begun to write.
    pub torn_bytes: u64,
}

/// The content of a journal's bytes: its records, and the offset at which the last of them ends.
struct Parsed {
    records: Vec<Vec<u8>>,
    end: u64,
}

/// Reads the records of a journal's bytes, of either form. `Err` is the offset of damage.
fn parse(bytes: &[u8]) -> Result<Parsed, (u64, JournalDamage)> {
    if first::is_first_form(bytes) {
        let (records, end) = first::parse(bytes).map_err(|offset| (offset, JournalDamage::Changed))?;
        return Ok(Parsed { records, end });
    }
    scanned(Scan::new(bytes))
}

fn scanned(mut scan: Scan<'_>) -> Result<Parsed, (u64, JournalDamage)> {
    let mut records = Vec::new();
    while let Some(record) = scan.next_record()? {
        records.push(record.to_vec());
    }
    Ok(Parsed { records, end: scan.offset() })
}

impl Journal {
    /// Opens or creates the journal in `dir` and gives its records. A torn last record is cut off.
    ///
    /// # Errors
    /// A record is damaged, or the file cannot be read.
    pub fn open(dir: &Path) -> Result<(Self, JournalRecords), JournalError> {
        let (path, bytes) = content(dir)?;
        let Parsed { records, end } = parsed(&path, &bytes)?;
        let torn_bytes = bytes.len() as u64 - end;
        let is_first_form = first::is_first_form(&bytes);
        drop(bytes);
        if is_first_form || end == 0 {
            write_journal(&path, &records)?;
        }
        let mut file = File::options().read(true).write(true).open(&path).map_err(at(&path))?;
        let length = file.seek(SeekFrom::End(0)).map_err(at(&path))?;
        let end = if is_first_form || end == 0 { length } else { end };
        if end < length {
            file.set_len(end).and_then(|()| file.sync_all()).map_err(at(&path))?;
        }
        sync_dir(dir)?;
        let next = records.len() as u64;
        Ok((Self { file, path, end, next }, JournalRecords { records, torn_bytes }))
    }

    /// Opens the journal in `dir` and gives the records after `mark`; those before it are not read. A torn last record
    /// is cut off. `None` if no record begins or ends at the mark.
    ///
    /// # Errors
    /// A record after the mark is damaged, or the file cannot be read.
    pub fn open_after(dir: &Path, mark: JournalMark) -> Result<Option<(Self, JournalRecords)>, JournalError> {
        let Some((path, Parsed { records, end }, length)) = tail(dir, mark)? else { return Ok(None) };
        let file = File::options().read(true).write(true).open(&path).map_err(at(&path))?;
        if end < length {
            file.set_len(end).and_then(|()| file.sync_all()).map_err(at(&path))?;
        }
        let next = mark.records + records.len() as u64;
        Ok(Some((Self { file, path, end, next }, JournalRecords { records, torn_bytes: length - end })))
    }

    /// The records after `mark`, without the right to write. `None` if no record begins or ends there.
    ///
    /// # Errors
    /// A record after the mark is damaged, or the file cannot be read.
    pub fn read_after(dir: &Path, mark: JournalMark) -> Result<Option<Vec<Vec<u8>>>, JournalError> {
        Ok(tail(dir, mark)?.map(|(_, parsed, _)| parsed.records))
    }

    /// The place behind the last record.
    pub fn mark(&self) -> JournalMark {
        JournalMark { records: self.next, offset: self.end }
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
        let Parsed { records, end } = parsed(&path, &bytes)?;
        Ok(JournalRecords { records, torn_bytes: bytes.len() as u64 - end })
    }

    /// All whole records of a journal, damaged or not, in the order in which they were appended, each once.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn salvage(dir: &Path) -> Result<Vec<Vec<u8>>, JournalError> {
        let (_, bytes) = content(dir)?;
        let mut found = frame::salvage(&bytes);
        if found.is_empty() || first::is_first_form(&bytes) {
            found = first::salvage(&bytes);
        }
        Ok(found)
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
        // It names places in the old file.
        WindowRows::remove(dir)?;
        write_journal(&path, records)?;
        Ok(kept)
    }

    /// Appends a record durably. After an error the journal is as it was before.
    pub fn append(&mut self, record: &[u8]) -> Result<(), JournalError> {
        let bytes = frame::framed(self.next, record);
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
        self.next += 1;
        Ok(())
    }
}

/// The path of a journal, the records after a mark, and the length of the file.
fn tail(dir: &Path, mark: JournalMark) -> Result<Option<(PathBuf, Parsed, u64)>, JournalError> {
    let path = dir.join("journal");
    let (mut magic, mut bytes) = ([0; MAGIC.len()], Vec::new());
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&path)(error).into()),
    };
    let length = file.metadata().map_err(at(&path))?.len();
    if length < mark.offset || mark.offset < JournalMark::START.offset {
        return Ok(None);
    }
    file.read_exact(&mut magic)
        .and_then(|()| file.seek(SeekFrom::Start(mark.offset)))
        .and_then(|_| file.take(length - mark.offset).read_to_end(&mut bytes))
        .map_err(at(&path))?;
    if magic != *MAGIC {
        return Ok(None);
    }
    match scanned(Scan::after(&bytes, mark)) {
        Ok(parsed) => Ok(Some((path, parsed, length))),
        // The mark is of another file, or the record after it is damaged. Whoever reads all of it finds out.
        Err((offset, _)) if offset == mark.offset => Ok(None),
        Err((offset, fault)) => Err(JournalError::Damaged { path, offset, fault }),
    }
}

fn parsed(path: &Path, bytes: &[u8]) -> Result<Parsed, JournalError> {
    parse(bytes).map_err(|(offset, fault)| JournalError::Damaged { path: path.to_owned(), offset, fault })
}

/// Writes a journal of these records, whole or not at all.
fn write_journal(path: &Path, records: &[Vec<u8>]) -> Result<(), JournalError> {
    write_with(path, Privacy::Everybody, |file| {
        let mut file = io::BufWriter::new(file);
        file.write_all(MAGIC)?;
        (0..).zip(records).try_for_each(|(number, record)| file.write_all(&frame::framed(number, record)))?;
        file.flush()
    })?;
    Ok(())
}

/// The bytes of a journal file, and its path. A journal that is not there has no bytes.
fn content(dir: &Path) -> Result<(PathBuf, Vec<u8>), JournalError> {
    let path = dir.join("journal");
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok((path, bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path, Vec::new())),
        Err(error) => Err(at(&path)(error).into()),
    }
}
