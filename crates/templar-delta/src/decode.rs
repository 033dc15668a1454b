//! From bytes that a stranger sent to a delta that can be applied. Every spelling but one is refused.
//!
//! [`decode`] walks every bit once and keeps the bytes; a [`Delta`] then gives out one tensor at a time, so that holding
//! the deltas of a window costs what they cost on the wire, and applying them one tensor of each.

use rayon::prelude::*;
use templar_manifest::{Hash, TensorSpec};

use crate::compress::{MAX_MAGNITUDE, max_bytes};
use crate::layout::{Layout, ShapeError};
use crate::quantise::LEVELS;
use crate::rice::{BitReader, CostWatch, MAX_RICE};
use crate::settings::Settings;
use crate::wire::{self, Entry, Header, entry_offset};

/// Bytes are not a delta that this run, window and miner could have made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The run's own tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The magic number is another.
    #[error("not a delta: it does not begin with TPLDELTA")]
    NotADelta,
    /// A layout of bytes that this program does not know.
    #[error("delta version {found} is not known, expected 0")]
    Version {
        /// What the bytes say.
        found: u8,
    },
    /// No quantiser has this number.
    #[error("quantiser {found} is not known")]
    Quantiser {
        /// What the bytes say.
        found: u8,
    },
    /// Longer than any delta of this run can be.
    #[error("{length} bytes, and no delta of this run has more than {limit}")]
    TooLong {
        /// How long it is.
        length: u64,
        /// The longest possible.
        limit: u64,
    },
    /// The bytes end before what they announce.
    #[error("truncated: {length} bytes, needs {needed}")]
    Truncated {
        /// How long it is.
        length: u64,
        /// How long it would have to be.
        needed: u64,
    },
    /// There are bytes after the last tensor.
    #[error("{length} bytes, but the delta ends at {needed}")]
    Trailing {
        /// How long it is.
        length: u64,
        /// Where the last tensor ends.
        needed: u64,
    },
    /// Another compressor setting than the run's.
    #[error("{what} is {found}, the run has {expected}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What the bytes say.
        found: String,
        /// What genesis says.
        expected: String,
    },
    /// Made for another run.
    #[error("made for run {found}, expected {expected}")]
    Run {
        /// What the bytes say.
        found: Hash,
        /// The run.
        expected: Hash,
    },
    /// Made for another window.
    #[error("made for window {found}, expected {expected}")]
    Window {
        /// What the bytes say.
        found: u64,
        /// The window.
        expected: u64,
    },
    /// Made by another miner.
    #[error("made by miner {found}, expected {expected}")]
    Miner {
        /// What the bytes say; an identity is 32 bytes, printed as a hash is.
        found: Hash,
        /// The miner.
        expected: Hash,
    },
    /// Another number of tensors than the model's, or more than any model's.
    #[error("{found} tensors, expected {expected}")]
    TensorCount {
        /// What the bytes say.
        found: u32,
        /// What the model has, or the largest number supported.
        expected: usize,
    },
    /// Something about one tensor.
    #[error("tensor {tensor}, byte {offset}: {fault}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// Where in the delta, from its first byte.
        offset: u64,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a tensor of a delta.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The tensor's shape asks for another number of values.
    #[error("{found} values, the tensor's shape asks for {expected}")]
    Kept {
        /// What the bytes say.
        found: u32,
        /// What the shape asks for.
        expected: usize,
    },
    /// A level is not finite, too large, or −0.
    #[error("level {code} is {value}, not a number of magnitude at most 2^100")]
    Level {
        /// Which of the four.
        code: usize,
        /// Its value.
        value: f32,
    },
    /// A level that no value uses is not +0.
    #[error("level {code} is {value}, but no value uses it")]
    UnusedLevel {
        /// Which of the four.
        code: usize,
        /// Its value.
        value: f32,
    },
    /// Levels in use do not ascend.
    #[error("level {code} is not above the one in use before it")]
    LevelOrder {
        /// Which of the four.
        code: usize,
    },
    /// The Rice parameter is not the cheapest for these positions.
    #[error("rice parameter {found} is not the cheapest")]
    Rice {
        /// What the bytes say.
        found: u8,
    },
    /// A position lies beyond its block.
    #[error("a position of block {block} is beyond its {len} elements")]
    Position {
        /// The block, in wire order.
        block: usize,
        /// How many elements it has.
        len: usize,
    },
    /// The positions need more bytes than announced.
    #[error("the positions go on beyond their {0} bytes")]
    IndexOverrun(u32),
    /// The positions end before the bytes announced do, or their padding is not zero.
    #[error("the positions end before their {0} bytes do, or the padding is not zero")]
    IndexPadding(u32),
    /// The padding of the last byte of codes is not zero.
    #[error("the padding after the codes is not zero")]
    CodePadding,
}

/// The kept values of one tensor, in wire order.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseTensor {
    pub(crate) layout: Layout,
    pub(crate) offsets: Vec<u32>,
    pub(crate) codes: Vec<u8>,
    pub(crate) levels: [f32; LEVELS],
}

impl SparseTensor {
    /// How many values are sent.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether no value is sent; never so for a decoded tensor.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The flat index in the tensor (row-major) and the value of everything sent, block by block.
    pub fn entries(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let layout = &self.layout;
        let kept = layout.kept_per_block();
        self.offsets.iter().zip(&self.codes).enumerate().map(move |(place, (&offset, &code))| {
            let block = place / kept;
            let (down, across) = (block / layout.blocks_across(), block % layout.blocks_across());
            let flat = down * layout.band_len() + layout.block_start(across) + layout.within_block(offset as usize);
            (flat as u32, self.levels[code as usize])
        })
    }
}

/// A delta whose every bit has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    header: Header,
    settings: Settings,
    tensors: Vec<Part>,
    bytes: Vec<u8>,
}

/// One tensor of a delta, still encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    layout: Layout,
    entry: Entry,
    /// Where the body begins.
    start: usize,
    norm: f64,
}

impl Delta {
    /// Whose delta it is.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The settings it was made with.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many tensors it has.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// The L2 norm of tensor `index`: the square root of Σ count·level² over the levels in the order of their codes, in
    /// `f64`, where a square is exact.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn norm(&self, index: usize) -> f64 {
        self.tensors[index].norm
    }

    /// How many values are sent in all.
    pub fn kept(&self) -> u64 {
        self.tensors.iter().map(|part| u64::from(part.entry.kept)).sum()
    }

    /// The bytes it was decoded from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The kept values of tensor `index`.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn tensor(&self, index: usize) -> SparseTensor {
        let part = &self.tensors[index];
        let mut offsets = Vec::with_capacity(part.layout.kept());
        let mut codes = Vec::with_capacity(part.layout.kept());
        walk(&part.layout, &part.entry, &self.bytes, part.start, |offset, code| {
            offsets.push(offset);
            codes.push(code);
        })
        .expect("these bytes were walked when the delta was decoded");
        SparseTensor { layout: part.layout, offsets, codes, levels: part.entry.levels }
    }

    pub(crate) fn layout(&self, index: usize) -> &Layout {
        &self.tensors[index].layout
    }
}

/// Decodes a delta of the run with these tensors and settings, made for `expected`.
///
/// The format is canonical: two byte strings that decode, decode to different deltas. Nothing larger than the bytes
/// themselves is allocated.
///
/// # Errors
/// What is wrong, with the tensor and the byte where one is to blame.
pub fn decode(
    bytes: &[u8],
    specs: &[TensorSpec],
    settings: &Settings,
    expected: &Header,
) -> Result<Delta, DecodeError> {
    let limit = max_bytes(specs, settings)?;
    if bytes.len() as u64 > limit {
        return Err(DecodeError::TooLong { length: bytes.len() as u64, limit });
    }
    let (layouts, _) = Layout::all(specs, settings)?;
    let front = wire::parse(bytes)?;
    compare(&front, settings, expected)?;
    if front.entries.len() != specs.len() {
        return Err(DecodeError::TensorCount { found: front.entries.len() as u32, expected: specs.len() });
    }

    let mut start = entry_offset(specs.len());
    let mut bodies = Vec::with_capacity(specs.len());
    for entry in &front.entries {
        bodies.push(start);
        // The parser has compared the sum of these with the length of the bytes.
        start += entry.body_bytes() as usize;
    }
    let tensors: Vec<Result<Part, DecodeError>> = specs
        .par_iter()
        .zip(layouts)
        .zip(front.entries)
        .zip(bodies)
        .enumerate()
        .map(|(index, (((spec, layout), entry), start))| {
            tensor(&layout, &entry, bytes, index, start).map(|norm| Part { layout, entry, start, norm }).map_err(
                |(offset, fault)| DecodeError::Tensor { tensor: spec.name.clone(), offset: offset as u64, fault },
            )
        })
        .collect();
    let tensors = tensors.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Delta { header: front.header, settings: *settings, tensors, bytes: bytes.to_vec() })
}

/// Compares what the header says with the run, the window and the miner.
fn compare(front: &wire::Front, settings: &Settings, expected: &Header) -> Result<(), DecodeError> {
    let header = &front.header;
    if header.run != expected.run {
        return Err(DecodeError::Run { found: header.run, expected: expected.run });
    }
    if header.window != expected.window {
        return Err(DecodeError::Window { found: header.window, expected: expected.window });
    }
    if header.miner != expected.miner {
        let (found, expected) = (Hash::from_bytes(header.miner), Hash::from_bytes(expected.miner));
        return Err(DecodeError::Miner { found, expected });
    }
    let setting = |what, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(DecodeError::Setting { what, found, expected }) }
    };
    setting("quantiser", front.quantiser.to_string(), settings.quantiser().to_string())?;
    setting("block side", front.block_side.to_string(), settings.block_side().to_string())?;
    setting("top-k", front.top_k.to_string(), settings.top_k().to_string())
}

/// Checks one tensor and gives its norm, or where and what is wrong.
fn tensor(layout: &Layout, entry: &Entry, bytes: &[u8], index: usize, start: usize) -> Result<f64, (usize, Fault)> {
    let row = entry_offset(index);
    let level_offset = |code: usize| row + 9 + 4 * code;
    if entry.kept as usize != layout.kept() {
        return Err((row, Fault::Kept { found: entry.kept, expected: layout.kept() }));
    }
    if u32::from(entry.rice) > MAX_RICE || (layout.is_whole() && entry.rice != 0) {
        return Err((row + 8, Fault::Rice { found: entry.rice }));
    }
    for (code, &value) in entry.levels.iter().enumerate() {
        let usable = value.abs() <= MAX_MAGNITUDE && value.to_bits() != (-0f32).to_bits(); // false for NaN
        if !usable {
            return Err((level_offset(code), Fault::Level { code, value }));
        }
    }
    let mut counts = [0u64; LEVELS];
    let cheapest = walk(layout, entry, bytes, start, |_, code| counts[code as usize] += 1)?;
    if !cheapest {
        return Err((row + 8, Fault::Rice { found: entry.rice }));
    }

    let mut last = None;
    let mut squares = 0f64;
    for (code, (&value, &count)) in entry.levels.iter().zip(&counts).enumerate() {
        if count == 0 {
            if value != 0.0 {
                return Err((level_offset(code), Fault::UnusedLevel { code, value }));
            }
            continue;
        }
        if last.is_some_and(|last| value <= last) {
            return Err((level_offset(code), Fault::LevelOrder { code }));
        }
        last = Some(value);
        squares += count as f64 * (f64::from(value) * f64::from(value));
    }
    Ok(squares.sqrt())
}

/// Visits the position in its block and the code of every kept value, and tells whether the Rice parameter was the
/// cheapest. The entry's `kept` is that of the layout, and its body lies within the bytes.
fn walk(
    layout: &Layout,
    entry: &Entry,
    bytes: &[u8],
    start: usize,
    mut visit: impl FnMut(u32, u8),
) -> Result<bool, (usize, Fault)> {
    let codes_start = start + entry.index_bytes as usize;
    let (indices, codes) = (&bytes[start..codes_start], &bytes[codes_start..start + entry.body_bytes() as usize]);
    let rice = u32::from(entry.rice);
    let (kept, len) = (layout.kept_per_block(), layout.block_len() as u32);

    let mut reader = BitReader::new(indices);
    let mut watch = CostWatch::default();
    let mut place = 0;
    for block in 0..layout.blocks() {
        let mut next = 0u32;
        for _ in 0..kept {
            let offset = if layout.is_whole() {
                next
            } else {
                // The least that leaves no element: one more than the last position.
                let gap = match (len - next).checked_sub(1).and_then(|limit| reader.gap(rice, limit)) {
                    Some(gap) => gap,
                    None if reader.overrun() => return Err((codes_start, Fault::IndexOverrun(entry.index_bytes))),
                    None => {
                        return Err((start + reader.byte(), Fault::Position { block, len: layout.block_len() }));
                    }
                };
                watch.see(gap, rice);
                next + gap
            };
            next = offset + 1;
            visit(offset, codes[place / 4] >> (2 * (place % 4)) & 3);
            place += 1;
        }
        if reader.overrun() {
            return Err((codes_start, Fault::IndexOverrun(entry.index_bytes)));
        }
    }
    if !reader.is_finished() {
        return Err((start + reader.byte(), Fault::IndexPadding(entry.index_bytes)));
    }
    if place % 4 != 0 && codes[place / 4] >> (2 * (place % 4)) != 0 {
        return Err((codes_start + place / 4, Fault::CodePadding));
    }
    Ok(layout.is_whole() || watch.is_cheapest(rice))
}
