//! Reads the first form of a journal, which programs before this one have written: records of length (u32,
//! little-endian), BLAKE3 hash of the entry, and the entry, without numbers.

use templar_manifest::Hash;

use super::frame::{self, MAGIC, MAX_ENTRY_BYTES};

const HEADER_BYTES: usize = 4 + 32;
const SECTOR_BYTES: usize = 512;

/// Whether a journal is of this form. A damaged one is, if it does not begin as the newer form does and has no record
/// of it.
pub(super) fn is_first_form(bytes: &[u8]) -> bool {
    let begin = bytes.len().min(MAGIC.len());
    bytes[..begin] != MAGIC[..begin] && (record_at(bytes).is_some() || frame::next_record(bytes, 0).is_none())
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
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), u64> {
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

/// All whole records, damaged or not, in order.
pub(super) fn salvage(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut records, mut offset) = (Vec::new(), 0);
    while let Some(start) = next_record(bytes, offset) {
        let record = record_at(&bytes[start..]).unwrap_or_default();
        records.push(record.to_vec());
        offset = start + HEADER_BYTES + record.len();
    }
    records
}
