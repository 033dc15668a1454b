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

/// One tensor of a delta, checked and still encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) layout: Layout,
    pub(crate) entry: Entry,
    /// Where the body begins.
    pub(crate) start: usize,
    pub(crate) norm: f64,
}

impl Part {
    /// Checks the tensor whose row stands at `row` and whose body, which lies within `bytes`, at `start`.
    pub(crate) fn check(
        layout: Layout,
        entry: Entry,
        bytes: &[u8],
        row: usize,
        start: usize,
    ) -> Result<Self, (usize, Fault)> {
        let norm = tensor(&layout, &entry, bytes, row, start)?;
        Ok(Self { layout, entry, start, norm })
    }

    /// The body.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.start + self.entry.body_bytes() as usize]
    }

    /// The kept values, block after block.
    pub(crate) fn blocks<'a>(&self, bytes: &'a [u8]) -> Blocks<'a> {
        Blocks::new(&self.layout, &self.entry, bytes, self.start)
    }
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

    /// The L2 norm of tensor `index`: the square root of Σ v² over its values in wire order, an `f64` chain, where a square
    /// is exact.
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
        let mut blocks = part.blocks(&self.bytes);
        for _ in 0..part.layout.blocks() {
            let visit = |offset, code| {
                offsets.push(offset);
                codes.push(code);
            };
            blocks.next(|_| {}, visit).expect("these bytes were checked");
        }
        SparseTensor { layout: part.layout, offsets, codes, levels: part.entry.levels }
    }

    pub(crate) fn layout(&self, index: usize) -> &Layout {
        &self.tensors[index].layout
    }

    pub(crate) fn part(&self, index: usize) -> &Part {
        &self.tensors[index]
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
            Part::check(layout, entry, bytes, entry_offset(index), start).map_err(|(offset, fault)| {
                DecodeError::Tensor { tensor: spec.name.clone(), offset: offset as u64, fault }
            })
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

/// Checks one tensor and gives its norm, or where and what is wrong. The body of `entry` at `start` lies within `bytes`.
fn tensor(layout: &Layout, entry: &Entry, bytes: &[u8], row: usize, start: usize) -> Result<f64, (usize, Fault)> {
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
    let mut used = [false; LEVELS];
    let mut squares = 0f64;
    let mut watch = CostWatch::default();
    let mut blocks = Blocks::new(layout, entry, bytes, start);
    for _ in 0..layout.blocks() {
        let see = |gap| watch.see(gap, entry.rice.into());
        blocks.next(see, |_, code| {
            used[code as usize] = true;
            let value = f64::from(entry.levels[code as usize]);
            squares += value * value;
        })?;
    }
    blocks.finish()?;
    if !layout.is_whole() && !watch.is_cheapest(entry.rice.into()) {
        return Err((row + 8, Fault::Rice { found: entry.rice }));
    }

    let mut last = None;
    for (code, (&value, &used)) in entry.levels.iter().zip(&used).enumerate() {
        if !used {
            if value != 0.0 {
                return Err((level_offset(code), Fault::UnusedLevel { code, value }));
            }
            continue;
        }
        if last.is_some_and(|last| value <= last) {
            return Err((level_offset(code), Fault::LevelOrder { code }));
        }
        last = Some(value);
    }
    Ok(squares.sqrt())
}

/// One tensor's kept values, block after block in wire order, out of its encoded body: what is decoded is never held.
pub(crate) struct Blocks<'a> {
    layout: Layout,
    entry: Entry,
    reader: BitReader<'a>,
    codes: &'a [u8],
    /// Where the body and its codes begin.
    start: usize,
    codes_start: usize,
    block: usize,
    place: usize,
}

impl<'a> Blocks<'a> {
    /// The entry's `kept` is that of the layout, and its body at `start` lies within the bytes.
    pub(crate) fn new(layout: &Layout, entry: &Entry, bytes: &'a [u8], start: usize) -> Self {
        let codes_start = start + entry.index_bytes as usize;
        let end = start + entry.body_bytes() as usize;
        Self {
            layout: *layout,
            entry: *entry,
            reader: BitReader::new(&bytes[start..codes_start]),
            codes: &bytes[codes_start..end],
            start,
            codes_start,
            block: 0,
            place: 0,
        }
    }

    /// Visits the position in its block and the code of every kept value of the next block, and the gap before each
    /// position that is sent.
    fn next(&mut self, mut see: impl FnMut(u32), mut visit: impl FnMut(u32, u8)) -> Result<(), (usize, Fault)> {
        let (rice, len) = (u32::from(self.entry.rice), self.layout.block_len() as u32);
        let mut next = 0u32;
        for _ in 0..self.layout.kept_per_block() {
            let offset = if self.layout.is_whole() {
                next
            } else {
                // The least that leaves no element: one more than the last position.
                match (len - next).checked_sub(1).and_then(|limit| self.reader.gap(rice, limit)) {
                    Some(gap) => {
                        see(gap);
                        next + gap
                    }
                    None => return Err(self.no_position()),
                }
            };
            next = offset + 1;
            visit(offset, self.codes[self.place / 4] >> (2 * (self.place % 4)) & 3);
            self.place += 1;
        }
        self.block += 1;
        if self.reader.overrun() {
            return Err(self.no_position());
        }
        Ok(())
    }

    /// Visits the position in its block and the value of everything kept in the next block of a body that was checked.
    pub(crate) fn values(&mut self, mut visit: impl FnMut(u32, f32)) {
        let levels = self.entry.levels;
        self.next(|_| {}, |offset, code| visit(offset, levels[code as usize])).expect("these bytes were checked");
    }

    /// Why a position could not be read.
    fn no_position(&self) -> (usize, Fault) {
        if self.reader.overrun() {
            return (self.codes_start, Fault::IndexOverrun(self.entry.index_bytes));
        }
        (self.start + self.reader.byte(), Fault::Position { block: self.block, len: self.layout.block_len() })
    }

    /// After the last block: nothing may be left.
    fn finish(&self) -> Result<(), (usize, Fault)> {
        if !self.reader.is_finished() {
            return Err((self.start + self.reader.byte(), Fault::IndexPadding(self.entry.index_bytes)));
        }
        let place = self.place;
        if !place.is_multiple_of(4) && self.codes[place / 4] >> (2 * (place % 4)) != 0 {
            return Err((self.codes_start + place / 4, Fault::CodePadding));
        }
        Ok(())
    }
}
