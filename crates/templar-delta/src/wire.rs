//! The fixed part of a delta's bytes: the header and the table of tensors. The crate's documentation specifies both.
//!
//! Parsing here needs nothing but the bytes: every count is compared with the bytes that are there before anything is
//! made of it. What the run expects is compared in [`crate::decode`].

use templar_manifest::Hash;

use crate::decode::DecodeError;
use crate::layout::MAX_TENSORS;
use crate::quantise::LEVELS;
use crate::settings::{Quantiser, Settings};

pub(crate) const MAGIC: [u8; 8] = *b"TPLDELTA";
pub(crate) const VERSION: u8 = 0;
pub(crate) const HEADER_BYTES: usize = 94;
pub(crate) const ENTRY_BYTES: usize = 25;

/// Whose delta it is: the run, the window and the miner that it was made for. Since it is part of the bytes, the hash of
/// a delta is worth nothing to anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The run's id.
    pub run: Hash,
    /// The window, counted from 0.
    pub window: u64,
    /// The miner's identity.
    pub miner: [u8; 32],
}

/// One row of the table of tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kept: u32,
    pub(crate) index_bytes: u32,
    pub(crate) rice: u8,
    pub(crate) levels: [f32; LEVELS],
}

impl Entry {
    /// How many bytes the tensor's codes take, four to a byte.
    pub(crate) const fn code_bytes(&self) -> u64 {
        (self.kept as u64).div_ceil(4)
    }

    pub(crate) const fn body_bytes(&self) -> u64 {
        self.index_bytes as u64 + self.code_bytes()
    }

    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.kept.to_le_bytes());
        bytes.extend_from_slice(&self.index_bytes.to_le_bytes());
        bytes.push(self.rice);
        for level in self.levels {
            bytes.extend_from_slice(&level.to_le_bytes());
        }
    }

    pub(crate) fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        Self {
            kept: u32::from_le_bytes(word(0)),
            index_bytes: u32::from_le_bytes(word(4)),
            rice: bytes[8],
            levels: std::array::from_fn(|level| f32::from_le_bytes(word(9 + 4 * level))),
        }
    }
}

/// The header and the table, parsed; what follows are the tensors' bodies.
pub(crate) struct Front {
    pub(crate) header: Header,
    pub(crate) quantiser: Quantiser,
    pub(crate) block_side: u32,
    pub(crate) top_k: u32,
    pub(crate) entries: Vec<Entry>,
}

/// Where row `tensor` of the table begins.
pub(crate) const fn entry_offset(tensor: usize) -> usize {
    HEADER_BYTES + ENTRY_BYTES * tensor
}

/// Writes a whole delta: header, table, and each tensor's index and code bytes, in order.
pub(crate) fn write(settings: &Settings, header: &Header, tensors: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let bodies: usize = tensors.iter().map(|(_, body)| body.len()).sum();
    let mut bytes = Vec::with_capacity(entry_offset(tensors.len()) + bodies);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.push(settings.quantiser().to_byte());
    bytes.extend_from_slice(&settings.block_side().to_le_bytes());
    bytes.extend_from_slice(&settings.top_k().to_le_bytes());
    bytes.extend_from_slice(header.run.as_bytes());
    bytes.extend_from_slice(&header.window.to_le_bytes());
    bytes.extend_from_slice(&header.miner);
    // At most MAX_TENSORS, which the layouts have checked.
    bytes.extend_from_slice(&(tensors.len() as u32).to_le_bytes());
    for (entry, _) in tensors {
        entry.write(&mut bytes);
    }
    for (_, body) in tensors {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8], whole: usize) -> Result<[u8; N], DecodeError> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or(DecodeError::Truncated { length: whole as u64, needed: HEADER_BYTES as u64 })?;
    *bytes = rest;
    Ok(*head)
}

/// Parses the header and the table, and checks that the lengths that it gives are those of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Front, DecodeError> {
    let length = bytes.len();
    let mut rest = bytes;
    if take::<8>(&mut rest, length)? != MAGIC {
        return Err(DecodeError::NotADelta);
    }
    let [version] = take(&mut rest, length)?;
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let [quantiser] = take(&mut rest, length)?;
    let quantiser = Quantiser::from_byte(quantiser).ok_or(DecodeError::Quantiser { found: quantiser })?;
    let block_side = u32::from_le_bytes(take(&mut rest, length)?);
    let top_k = u32::from_le_bytes(take(&mut rest, length)?);
    let run = Hash::from_bytes(take(&mut rest, length)?);
    let window = u64::from_le_bytes(take(&mut rest, length)?);
    let miner = take(&mut rest, length)?;
    let tensors = u32::from_le_bytes(take(&mut rest, length)?);

    if tensors as usize > MAX_TENSORS {
        return Err(DecodeError::TensorCount { found: tensors, expected: MAX_TENSORS });
    }
    let table = tensors as usize * ENTRY_BYTES;
    let table = rest
        .get(..table)
        .ok_or(DecodeError::Truncated { length: length as u64, needed: entry_offset(tensors as usize) as u64 })?;
    let entries: Vec<Entry> = table.as_chunks::<ENTRY_BYTES>().0.iter().map(Entry::read).collect();

    // 2^20 tensors of less than 2^33 bytes each do not overflow.
    let needed = entry_offset(entries.len()) as u64 + entries.iter().map(Entry::body_bytes).sum::<u64>();
    if (length as u64) < needed {
        return Err(DecodeError::Truncated { length: length as u64, needed });
    }
    if length as u64 > needed {
        return Err(DecodeError::Trailing { length: length as u64, needed });
    }
    Ok(Front { header: Header { run, window, miner }, quantiser, block_side, top_k, entries })
}

/// What the bytes of a delta are spent on, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// The quantiser that the header names.
    pub quantiser: Quantiser,
    /// The block side that the header names.
    pub block_side: u32,
    /// How many values of a full block are sent, as the header names it.
    pub top_k: u32,
    /// Bytes of the fixed header.
    pub header_bytes: u64,
    /// Bytes of the table of tensors: lengths, Rice parameters and levels.
    pub table_bytes: u64,
    /// Bytes of all positions.
    pub index_bytes: u64,
    /// Bytes of all codes.
    pub code_bytes: u64,
    /// The same for each tensor, in order.
    pub tensors: Vec<TensorParts>,
}

/// What the bytes of one tensor in a delta are spent on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorParts {
    /// How many values are sent.
    pub kept: u32,
    /// Bytes of their positions; 0 where every value is sent.
    pub index_bytes: u64,
    /// Bytes of their codes.
    pub code_bytes: u64,
    /// The Rice parameter of the positions' gaps.
    pub rice: u8,
    /// What the four codes decode to.
    pub levels: [f32; LEVELS],
}

impl Parts {
    /// How many values are sent in all.
    pub fn kept(&self) -> u64 {
        self.tensors.iter().map(|tensor| u64::from(tensor.kept)).sum()
    }

    /// The whole length.
    pub const fn bytes(&self) -> u64 {
        self.header_bytes + self.table_bytes + self.index_bytes + self.code_bytes
    }
}

/// Whose delta the bytes say they are, and what they are spent on. It needs no run, so it can explain any delta to a
/// person, and vouches for nothing: only [`crate::decode`] tells whether the delta is valid.
///
/// # Errors
/// When the bytes are not a delta, or their lengths do not add up.
pub fn inspect(bytes: &[u8]) -> Result<(Header, Parts), DecodeError> {
    let front = parse(bytes)?;
    let tensors: Vec<TensorParts> = front
        .entries
        .iter()
        .map(|entry| TensorParts {
            kept: entry.kept,
            index_bytes: entry.index_bytes.into(),
            code_bytes: entry.code_bytes(),
            rice: entry.rice,
            levels: entry.levels,
        })
        .collect();
    let parts = Parts {
        quantiser: front.quantiser,
        block_side: front.block_side,
        top_k: front.top_k,
        header_bytes: HEADER_BYTES as u64,
        table_bytes: (tensors.len() * ENTRY_BYTES) as u64,
        index_bytes: tensors.iter().map(|tensor| tensor.index_bytes).sum(),
        code_bytes: tensors.iter().map(|tensor| tensor.code_bytes).sum(),
        tensors,
    };
    Ok((front.header, parts))
}
