//! The bytes of a journal.
//!
//! The file begins with [`MAGIC`]. Then records follow, each as
//!
//! ```text
//! r | checksum, 32 bytes | number, u64 | length, u32 | the entry, `length` bytes | line feed
//! ```
//!
//! Integers are little-endian. The number is 0 for the first record and grows by one. The checksum is the BLAKE3 hash
//! of number, length and entry. The first and the last byte are not zero, and no entry has a sector of zeros, so a part
//! of a record that is zero in a sector was never written there.

use std::collections::BTreeMap;
use std::ops::Range;

use templar_manifest::{Hash, MAX_PAYLOAD_BYTES};

/// The longest record: a payload and its witness.
pub const MAX_ENTRY_BYTES: usize = MAX_PAYLOAD_BYTES + 4096;

/// The first bytes of a journal. As the length of a record of the first form they would be too long.
pub(super) const MAGIC: &[u8; 16] = b"templar journal\n";

const FIRST_BYTE: u8 = b'r';
const LAST_BYTE: u8 = b'\n';

/// The bytes of a record before its entry.
pub(super) const HEADER_BYTES: usize = 1 + 32 + 8 + 4;

/// The bytes of a record beside its entry.
pub(super) const FRAME_BYTES: usize = HEADER_BYTES + 1;

/// The bytes that a disk writes together or not at all.
const SECTOR_BYTES: usize = 512;

/// The damage of a journal at its first damaged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalDamage {
    /// The bytes of the record are not those that were written.
    #[error("the bytes are not those that were written")]
    Changed,
    /// Records are missing before a whole one.
    #[error("it has record {found} where record {expected} belongs")]
    Missing {
        /// The number of the record that belongs here.
        expected: u64,
        /// The number of the record that is here.
        found: u64,
    },
    /// A record is there a second time.
    #[error("record {0} is there twice")]
    Twice(u64),
}

/// A place between two records of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalMark {
    /// The number of records before it.
    pub records: u64,
    /// Its offset in the file, in bytes.
    pub offset: u64,
}

impl JournalMark {
    /// The place before the first record.
    pub const START: Self = Self { records: 0, offset: MAGIC.len() as u64 };

    /// The place after a record that begins here.
    pub fn after(self, record: &[u8]) -> Self {
        Self { records: self.records + 1, offset: self.offset + (FRAME_BYTES + record.len()) as u64 }
    }
}

/// The place of the checksum, and of what it covers, in a record.
const CHECKSUM: Range<usize> = 1..33;
const COVERED_FROM: usize = CHECKSUM.end;

/// The bytes of a record in the file.
pub(super) fn framed(number: u64, entry: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES + entry.len());
    bytes.push(FIRST_BYTE);
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(entry);
    let checksum = Hash::of(&bytes[COVERED_FROM..]);
    bytes[CHECKSUM].copy_from_slice(checksum.as_bytes());
    bytes.push(LAST_BYTE);
    bytes
}

/// The head of a record, which nothing has checked.
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) length: usize,
}

pub(super) fn head(rest: &[u8]) -> Option<Head> {
    let head = rest.get(..HEADER_BYTES)?;
    let number = u64::from_le_bytes(head[33..41].try_into().ok()?);
    let length = u32::from_le_bytes(head[41..45].try_into().ok()?) as usize;
    Some(Head { number, length })
}

/// The number and the entry of the record at the beginning of `rest`, if it is whole.
pub(super) fn record_at(rest: &[u8]) -> Option<(u64, &[u8])> {
    let head = head(rest).filter(|head| head.length <= MAX_ENTRY_BYTES && rest[0] == FIRST_BYTE)?;
    let entry = rest.get(HEADER_BYTES..HEADER_BYTES + head.length)?;
    let end = HEADER_BYTES + head.length;
    let is_whole =
        rest.get(end) == Some(&LAST_BYTE) && Hash::of(&rest[COVERED_FROM..end]).as_bytes()[..] == rest[CHECKSUM];
    is_whole.then_some((head.number, entry))
}

/// The offset of the first whole record at `start` or after it.
pub(super) fn next_record(bytes: &[u8], start: usize) -> Option<usize> {
    (start..bytes.len()).find(|&offset| record_at(&bytes[offset..]).is_some())
}

/// All whole records, in the order of their numbers, each once.
pub(super) fn salvage(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut offset) = (BTreeMap::new(), 0);
    while let Some(start) = next_record(bytes, offset) {
        let Some((number, entry)) = record_at(&bytes[start..]) else { break };
        found.entry(number).or_insert_with(|| entry.to_vec());
        offset = start + FRAME_BYTES + entry.len();
    }
    found.into_values().collect()
}

/// Reads records one after the other.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    /// The offset of these bytes in the file.
    base: u64,
    /// The offset of the next record in these bytes.
    offset: usize,
    /// The number of the next record.
    next: u64,
}

impl<'a> Scan<'a> {
    /// Reads the bytes of a whole file.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, base: 0, offset: 0, next: 0 }
    }

    /// Reads the bytes of a file behind a mark.
    pub(super) fn after(bytes: &'a [u8], mark: JournalMark) -> Self {
        Self { bytes, base: mark.offset, offset: 0, next: mark.records }
    }

    /// The offset in the file at which the last whole record ends.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.offset as u64
    }

    /// The entry of the next record; `None` at the end, or where only a torn record follows. `Err` is the offset of
    /// damage.
    pub(super) fn next_record(&mut self) -> Result<Option<&'a [u8]>, (u64, JournalDamage)> {
        if self.base == 0 && self.offset == 0 {
            if !self.bytes.starts_with(MAGIC) {
                // A crash of the first writer leaves a part of it, which holds no record.
                let is_torn = MAGIC.starts_with(self.bytes) || is_torn(self.bytes, 0, 0);
                return if is_torn { Ok(None) } else { Err((0, JournalDamage::Changed)) };
            }
            self.offset = MAGIC.len();
        }
        let rest = &self.bytes[self.offset..];
        let damage = |fault| Err((self.offset(), fault));
        match record_at(rest) {
            Some((number, _)) if number < self.next => damage(JournalDamage::Twice(number)),
            Some((found, _)) if found > self.next => damage(JournalDamage::Missing { expected: self.next, found }),
            Some((_, entry)) => {
                self.next += 1;
                self.offset += FRAME_BYTES + entry.len();
                Ok(Some(entry))
            }
            None if rest.is_empty() || is_torn(self.bytes, self.offset, self.base) => Ok(None),
            None => damage(JournalDamage::Changed),
        }
    }
}

/// Whether the bytes from `start` on, which begin with no whole record, are what a crash leaves of the last append. The
/// first of the bytes is at `base` in the file.
fn is_torn(bytes: &[u8], start: usize, base: u64) -> bool {
    let rest = &bytes[start..];
    if rest.iter().all(|&byte| byte == 0) {
        return true;
    }
    if rest.len() > FRAME_BYTES + MAX_ENTRY_BYTES || next_record(bytes, start + 1).is_some() {
        return false;
    }
    has_unwritten_sector(rest, base + start as u64) || ends_early(rest)
}

/// Whether the part of these bytes in a sector is zero. The first of them is at `offset` in the file.
fn has_unwritten_sector(rest: &[u8], offset: u64) -> bool {
    let first = SECTOR_BYTES - (offset % SECTOR_BYTES as u64) as usize;
    let (head, tail) = rest.split_at(first.min(rest.len()));
    let is_zero = |part: &[u8]| part.iter().all(|&byte| byte == 0);
    is_zero(head) || tail.chunks(SECTOR_BYTES).any(is_zero)
}

/// Whether the last bytes of a record are missing. If all are here and its length has changed, then the record is whole
/// once it has the length of what is here.
fn ends_early(rest: &[u8]) -> bool {
    if rest[0] != FIRST_BYTE {
        return false;
    }
    let Some(Head { number, length }) = head(rest) else { return true };
    let here = rest.len() - HEADER_BYTES;
    if length > MAX_ENTRY_BYTES || here > length {
        return false;
    }
    let entry = &rest[HEADER_BYTES..rest.len() - here.min(1)];
    framed(number, entry) != with_length(rest, entry.len())
}

/// A record with another length in its head.
fn with_length(record: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = record.to_vec();
    bytes[41..HEADER_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    bytes
}
