//! From bytes that a stranger sent to a delta that can be applied. Every spelling but one is refused.
//!
//! [`decode`] walks every bit once and keeps the bytes; a [`Delta`] then gives out one tensor at a time, so that holding
//! the deltas of a window costs what they cost on the wire, and applying them one tensor of each.

use std::ops::Range;

use rayon::prelude::*;
use templar_manifest::{Hash, Quantiser, TensorSpec};

use crate::body::{Blocks, Body, Fault};
use crate::compress::max_bytes;
use crate::layout::{Layout, ShapeError};
use crate::settings::Settings;
use crate::wire::{self, Header, Unreadable};
#[cfg(test)]
use crate::{body::levels, quantise::Quantised};

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
        found: u64,
        /// What the model has, or the largest number supported.
        expected: usize,
    },
    /// A number of the header or the directory is spelled longer than it must be.
    #[error("byte {offset}: a number is not in its shortest spelling")]
    Number {
        /// Where it begins.
        offset: u64,
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

impl DecodeError {
    pub(crate) const fn unreadable(length: u64, error: Unreadable) -> Self {
        match error {
            Unreadable::Truncated(needed) => Self::Truncated { length, needed },
            Unreadable::Number(offset) => Self::Number { offset },
            Unreadable::Trailing(needed) => Self::Trailing { length, needed },
        }
    }

    pub(crate) fn tensor(tensor: String, offset: usize, fault: Fault) -> Self {
        Self::Tensor { tensor, offset: offset as u64, fault }
    }
}

/// The kept values of one tensor, in wire order.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseTensor {
    pub(crate) layout: Layout,
    /// The positions in their blocks.
    pub(crate) offsets: Vec<u32>,
    pub(crate) values: Vec<f32>,
}

impl SparseTensor {
    /// How many values are sent.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no value is sent; never so for a decoded tensor.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The flat index in the tensor (row-major) and the value of everything sent, block by block.
    pub fn entries(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let layout = &self.layout;
        let kept = layout.kept_per_block();
        self.offsets.iter().zip(&self.values).enumerate().map(move |(place, (&offset, &value))| {
            let block = place / kept;
            let (down, across) = (block / layout.blocks_across(), block % layout.blocks_across());
            let flat = down * layout.band_len() + layout.block_start(across) + layout.within_block(offset as usize);
            (flat as u32, value)
        })
    }
}

/// A delta whose every bit has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    header: Header,
    settings: Settings,
    tensors: Vec<Part>,
    header_bytes: usize,
    bytes: Vec<u8>,
}

/// One tensor of a delta, checked and still encoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) layout: Layout,
    pub(crate) body: Body,
    pub(crate) norm: f64,
}

impl Part {
    /// Checks the tensor whose body is `range` of the bytes.
    pub(crate) fn check(
        layout: Layout,
        quantiser: Quantiser,
        bytes: &[u8],
        range: Range<usize>,
    ) -> Result<Self, (usize, Fault)> {
        let body = Body::parse(bytes, range, quantiser)?;
        let mut blocks = Blocks::new(&layout, &body, bytes)?;
        for _ in 0..layout.blocks() {
            blocks.next(|_, _| ())?;
        }
        let norm = blocks.finish()?;
        Ok(Self { layout, body, norm })
    }

    /// The kept values, block after block.
    pub(crate) fn blocks<'a>(&'a self, bytes: &'a [u8]) -> Blocks<'a> {
        Blocks::new(&self.layout, &self.body, bytes).expect("these bytes were checked")
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

    /// The L2 norm of tensor `index`: the square root of the sum of count · level² of each code of each block, an `f64`
    /// chain in wire order.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn norm(&self, index: usize) -> f64 {
        self.tensors[index].norm
    }

    /// How many values are sent in all.
    pub fn kept(&self) -> u64 {
        self.tensors.iter().map(|part| part.layout.kept() as u64).sum()
    }

    /// The bytes it was decoded from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// BLAKE3 of everything but the header: the same for a delta that was given another run, window or miner.
    pub fn body_hash(&self) -> Hash {
        Hash::of(&self.bytes[self.header_bytes..])
    }

    /// The kept values of tensor `index`.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn tensor(&self, index: usize) -> SparseTensor {
        let part = &self.tensors[index];
        let mut offsets = Vec::with_capacity(part.layout.kept());
        let mut values = Vec::with_capacity(part.layout.kept());
        let mut blocks = part.blocks(&self.bytes);
        for _ in 0..part.layout.blocks() {
            let levels = blocks.levels();
            let visit = |offset, code| {
                offsets.push(offset);
                values.push(levels[usize::from(code)]);
            };
            blocks.next(visit).expect("these bytes were checked");
        }
        SparseTensor { layout: part.layout, offsets, values }
    }

    /// The positions, codes and levels of tensor `index`, as they were encoded.
    #[cfg(test)]
    pub(crate) fn encoded(&self, index: usize) -> (Vec<u32>, Quantised) {
        let part = &self.tensors[index];
        let (mut offsets, mut codes) = (Vec::new(), Vec::new());
        let mut blocks = part.blocks(&self.bytes);
        for _ in 0..part.layout.blocks() {
            let visit = |offset, code| {
                offsets.push(offset);
                codes.push(code);
            };
            blocks.next(visit).unwrap();
        }
        (offsets, Quantised { codes, levels: levels(&part.body, part.layout.scales(), &self.bytes).unwrap() })
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
/// The format is canonical: two byte strings that decode, decode to different deltas. Beside the bytes it holds, of each
/// tensor that a thread reads, two bytes for a scale and a table of 4 KiB.
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
    if front.bodies.len() != specs.len() {
        return Err(DecodeError::TensorCount { found: front.bodies.len() as u64, expected: specs.len() });
    }
    let tensors: Vec<Result<Part, DecodeError>> = specs
        .par_iter()
        .zip(layouts)
        .zip(front.bodies)
        .map(|((spec, layout), range)| {
            Part::check(layout, settings.quantiser(), bytes, range)
                .map_err(|(offset, fault)| DecodeError::tensor(spec.name.clone(), offset, fault))
        })
        .collect();
    let tensors = tensors.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (header, header_bytes) = (front.header, front.header_bytes);
    Ok(Delta { header, settings: *settings, tensors, header_bytes, bytes: bytes.to_vec() })
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
