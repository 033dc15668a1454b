//! The bytes of an aggregate. The crate's documentation specifies them; rows and bodies are those of a delta.

use templar_manifest::Hash;

use super::{AggregateError, AggregateHeader};
use crate::decode::{Delta, Part};
use crate::settings::{Quantiser, Settings};
use crate::wire::{ENTRY_BYTES, Entry};

const MAGIC: [u8; 8] = *b"TPLAGGRE";
const VERSION: u8 = 0;
pub(super) const HEADER_BYTES: usize = 66;

/// No aggregate is made of more deltas than this.
pub const MAX_CONTRIBUTORS: usize = 1 << 16;

/// One row of the table.
pub(super) struct Row {
    pub(super) entry: Entry,
    /// Where it stands.
    pub(super) at: usize,
    /// Where the body begins.
    pub(super) start: usize,
}

/// Writes the aggregate of deltas that were compared with each other, and says where the parts lie in it.
pub(super) fn write(
    header: &AggregateHeader,
    settings: &Settings,
    tensors: usize,
    deltas: &[&Delta],
) -> (Vec<u8>, Vec<Part>) {
    let places = || (0..tensors).flat_map(|index| deltas.iter().map(move |delta| (delta, delta.part(index))));
    let rows = tensors * deltas.len();
    let bodies: usize = deltas.iter().map(|delta| delta.bytes().len()).sum();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + rows * ENTRY_BYTES + bodies);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.push(settings.quantiser().to_byte());
    bytes.extend_from_slice(&settings.block_side().to_le_bytes());
    bytes.extend_from_slice(&settings.top_k().to_le_bytes());
    bytes.extend_from_slice(header.run.as_bytes());
    bytes.extend_from_slice(&header.window.to_le_bytes());
    // Both are bounded, by MAX_CONTRIBUTORS and MAX_TENSORS.
    bytes.extend_from_slice(&(header.contributors as u32).to_le_bytes());
    bytes.extend_from_slice(&(tensors as u32).to_le_bytes());
    for (_, part) in places() {
        part.entry.write(&mut bytes);
    }
    let mut parts = Vec::with_capacity(rows);
    for (delta, part) in places() {
        parts.push(Part { start: bytes.len(), ..*part });
        bytes.extend_from_slice(part.body(delta.bytes()));
    }
    (bytes, parts)
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8], whole: usize) -> Result<[u8; N], AggregateError> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or(AggregateError::Truncated { length: whole as u64, needed: HEADER_BYTES as u64 })?;
    *bytes = rest;
    Ok(*head)
}

/// Compares what the bytes say with what is expected.
fn compare<T: PartialEq + ToString>(what: &'static str, found: T, expected: T) -> Result<(), AggregateError> {
    if found == expected {
        return Ok(());
    }
    Err(AggregateError::Other { what, found: found.to_string(), expected: expected.to_string() })
}

/// Parses the header and the table, and checks that they are those expected and that the lengths add up.
pub(super) fn parse(
    bytes: &[u8],
    tensors: usize,
    settings: &Settings,
    expected: &AggregateHeader,
) -> Result<Vec<Row>, AggregateError> {
    let length = bytes.len();
    let mut rest = bytes;
    if take::<8>(&mut rest, length)? != MAGIC {
        return Err(AggregateError::NotAnAggregate);
    }
    let [version] = take(&mut rest, length)?;
    if version != VERSION {
        return Err(AggregateError::Version { found: version });
    }
    let [quantiser] = take(&mut rest, length)?;
    let name = |byte: u8| Quantiser::from_byte(byte).map_or_else(|| byte.to_string(), |known| known.to_string());
    compare("quantiser", name(quantiser), settings.quantiser().to_string())?;
    compare("block side", u32::from_le_bytes(take(&mut rest, length)?), settings.block_side())?;
    compare("top-k", u32::from_le_bytes(take(&mut rest, length)?), settings.top_k())?;
    compare("run", Hash::from_bytes(take(&mut rest, length)?), expected.run)?;
    compare("window", u64::from_le_bytes(take(&mut rest, length)?), expected.window)?;
    let contributors = u32::from_le_bytes(take(&mut rest, length)?) as usize;
    compare("number of contributors", contributors, expected.contributors)?;
    compare("number of tensors", u32::from_le_bytes(take(&mut rest, length)?) as usize, tensors)?;

    // Not even a product of these bounds overflows; the table is compared with the bytes that are there.
    let bodies = HEADER_BYTES as u64 + tensors as u64 * contributors as u64 * ENTRY_BYTES as u64;
    if (length as u64) < bodies {
        return Err(AggregateError::Truncated { length: length as u64, needed: bodies });
    }
    let table = &bytes[HEADER_BYTES..bodies as usize];
    let mut start = bodies;
    let mut rows = Vec::with_capacity(tensors * contributors);
    for (place, row) in table.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
        let entry = Entry::read(row);
        rows.push(Row { entry, at: HEADER_BYTES + place * ENTRY_BYTES, start: start as usize });
        // At most 2^36 rows of less than 2^33 bytes each, and in fact no more rows than bytes.
        start = start.saturating_add(entry.body_bytes());
    }
    if (length as u64) < start {
        return Err(AggregateError::Truncated { length: length as u64, needed: start });
    }
    if length as u64 > start {
        return Err(AggregateError::Trailing { length: length as u64, needed: start });
    }
    Ok(rows)
}
