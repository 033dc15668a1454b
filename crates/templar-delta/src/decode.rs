//! Decodes a stranger's bytes into a delta that can be applied. Every spelling but one is refused.
//!
//! [`decode`] reads every bit once and keeps the bytes. A [`Delta`] then gives out one tensor at a time. So the
//! deltas of a window take no more memory than they have bytes on the wire, and applying them takes one block
//! of each more.

use std::ops::Range;

use rayon::prelude::*;
use templar_manifest::{Hash, Quantiser, TensorSpec};

use crate::DeltaError;
use crate::body::{Blocks, TensorBody, TensorFault};
use crate::layout::BlockLayout;
use crate::settings::DeltaSettings;
use crate::wire::{self, DeltaHeader, max_bytes};
#[cfg(test)]
use crate::{body::levels, quantise::Quantised};

/// The kept values of one tensor, in wire order.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseTensor {
    pub(crate) layout: BlockLayout,
    /// The position of each value, counted from the start of its block.
    pub(crate) offsets: Vec<u32>,
    pub(crate) values: Vec<f32>,
}

impl SparseTensor {
    /// The number of values that are sent.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Tells whether no value is sent, which is never so for a decoded tensor.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values that are sent, block by block, each with its flat index in the tensor (row-major).
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
    header: DeltaHeader,
    settings: DeltaSettings,
    tensors: Vec<CheckedTensor>,
    header_bytes: usize,
    bytes: Vec<u8>,
}

/// One tensor of a delta, checked and still encoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedTensor {
    pub(crate) layout: BlockLayout,
    pub(crate) body: TensorBody,
    pub(crate) norm: f64,
}

impl CheckedTensor {
    /// Checks the tensor whose body lies at `range` of the bytes. The error names the byte at fault.
    pub(crate) fn check(
        layout: BlockLayout,
        quantiser: Quantiser,
        bytes: &[u8],
        range: Range<usize>,
    ) -> Result<Self, (usize, TensorFault)> {
        let body = TensorBody::parse(bytes, range, quantiser)?;
        let mut blocks = Blocks::new(&layout, &body, bytes)?;
        for _ in 0..layout.blocks() {
            blocks.next(|_, _| ())?;
        }
        let norm = blocks.finish()?;
        Ok(Self { layout, body, norm })
    }

    /// A reader of the kept values, block after block.
    pub(crate) fn blocks<'a>(&'a self, bytes: &'a [u8]) -> Blocks<'a> {
        Blocks::new(&self.layout, &self.body, bytes).expect("these bytes were checked")
    }
}

impl Delta {
    /// The run, window and miner that the delta was made for.
    pub const fn header(&self) -> &DeltaHeader {
        &self.header
    }

    /// The compression settings that the delta was made with.
    pub const fn settings(&self) -> &DeltaSettings {
        &self.settings
    }

    /// The number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// The L2 norm of tensor `index`: √(Σ count · level²) over the codes of each block, summed in `f64` in wire order.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn norm(&self, index: usize) -> f64 {
        self.tensors[index].norm
    }

    /// The number of values that are sent, of all tensors.
    pub fn kept(&self) -> u64 {
        self.tensors.iter().map(|part| part.layout.kept() as u64).sum()
    }

    /// The bytes that the delta was decoded from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The BLAKE3 hash of everything but the header. It stays the same where somebody gives a copied delta
    /// another run, window or miner.
    pub fn body_hash(&self) -> Hash {
        Hash::of(&self.bytes[self.header_bytes..])
    }

    /// The values of tensor `index` that are sent.
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

    pub(crate) fn layout(&self, index: usize) -> &BlockLayout {
        &self.tensors[index].layout
    }

    pub(crate) fn part(&self, index: usize) -> &CheckedTensor {
        &self.tensors[index]
    }
}

/// Decodes a delta of the run with these tensors and settings, made for `expected`.
///
/// The format is canonical: two different byte strings never decode to the same delta. Beside the bytes, each
/// thread holds two bytes for every scale of the tensor that it reads, and a table of 4 KiB.
///
/// # Errors
/// [`DeltaError`], with the tensor and the byte where one is to blame.
pub fn decode(
    bytes: &[u8],
    specs: &[TensorSpec],
    settings: &DeltaSettings,
    expected: &DeltaHeader,
) -> Result<Delta, DeltaError> {
    let limit = max_bytes(specs, settings)?;
    if bytes.len() as u64 > limit {
        return Err(DeltaError::TooLong { length: bytes.len() as u64, limit });
    }
    let (layouts, _) = BlockLayout::all(specs, settings)?;
    let front = wire::parse(bytes)?;
    compare(&front, settings, expected)?;
    if front.bodies.len() != specs.len() {
        return Err(DeltaError::TensorCount { found: front.bodies.len() as u64, expected: specs.len() });
    }
    let tensors: Vec<Result<CheckedTensor, DeltaError>> = specs
        .par_iter()
        .zip(layouts)
        .zip(front.bodies)
        .map(|((spec, layout), range)| {
            CheckedTensor::check(layout, settings.quantiser(), bytes, range)
                .map_err(|(offset, fault)| DeltaError::tensor(spec.name.clone(), offset, fault))
        })
        .collect();
    let tensors = tensors.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (header, header_bytes) = (front.header, front.header_bytes);
    Ok(Delta { header, settings: *settings, tensors, header_bytes, bytes: bytes.to_vec() })
}

/// Compares the header with the run, the window and the miner that are expected.
fn compare(front: &wire::Preamble, settings: &DeltaSettings, expected: &DeltaHeader) -> Result<(), DeltaError> {
    let header = &front.header;
    if header.run != expected.run {
        return Err(DeltaError::Run { found: header.run, expected: expected.run });
    }
    if header.window != expected.window {
        return Err(DeltaError::Window { found: header.window, expected: expected.window });
    }
    if header.miner != expected.miner {
        let (found, expected) = (Hash::from_bytes(header.miner), Hash::from_bytes(expected.miner));
        return Err(DeltaError::Miner { found, expected });
    }
    let setting = |what, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(DeltaError::Setting { what, found, expected }) }
    };
    setting("quantiser", front.quantiser.to_string(), settings.quantiser().to_string())?;
    setting("block side", front.block_side.to_string(), settings.block_side().to_string())?;
    setting("top-k", front.top_k.to_string(), settings.top_k().to_string())
}
