//! Reads entries of a journal that is not in memory, beside the one who appends to it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use parking_lot::Mutex;

use super::frame::{FRAME_BYTES, HEADER_BYTES, JournalMark, MAX_ENTRY_BYTES, head, record_at};
use crate::error::HomeError;
use crate::files::at;

/// The bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// A journal file, open for reading.
#[derive(Debug)]
pub struct JournalReader(Mutex<File>);

impl JournalReader {
    /// Opens the journal in `dir`, which must be there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let path = dir.join("journal");
        Ok(Self(Mutex::new(File::open(&path).map_err(at(&path))?)))
    }

    /// Entries with a number above `seq`, counted from 1, as [`EntryLog::after`](crate::entry_log::EntryLog::after)
    /// gives them. Reading begins at `from`, which must be a place before them, and stops early where the file is
    /// damaged or ends.
    pub(crate) fn after(&self, from: JournalMark, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let mut file = self.0.lock();
        let mut batch = Vec::new();
        if file.seek(SeekFrom::Start(from.offset)).is_err() {
            return batch;
        }
        let mut file = BufReader::with_capacity(READ_BYTES, &mut *file);
        let (mut number, mut total) = (from.records, 0usize);
        while batch.len() < max_entries {
            let mut record = vec![0; HEADER_BYTES];
            if file.read_exact(&mut record).is_err() {
                break;
            }
            let Some(found) = head(&record).filter(|head| head.number == number && head.length <= MAX_ENTRY_BYTES)
            else {
                break;
            };
            let left = found.length + FRAME_BYTES - HEADER_BYTES;
            number += 1;
            if number <= seq {
                if file.seek_relative(left as i64).is_err() {
                    break;
                }
                continue;
            }
            total = total.saturating_add(found.length);
            if total > max_bytes && !batch.is_empty() {
                break;
            }
            record.resize(HEADER_BYTES + left, 0);
            if file.read_exact(&mut record[HEADER_BYTES..]).is_err() {
                break;
            }
            let Some((_, entry)) = record_at(&record) else { break };
            batch.push((number, Bytes::copy_from_slice(entry)));
        }
        batch
    }
}
