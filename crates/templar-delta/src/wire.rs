//! The front of a delta's bytes: the header and the directory of tensors. The crate's documentation specifies both.
//!
//! Parsing needs nothing but the bytes. Every count is compared with the bytes that are there before anything
//! is allocated for it. [`crate::decode`] compares the header with the run.

use std::ops::Range;

use templar_manifest::{Hash, Quantiser, TensorSpec};

use crate::DeltaError;
use crate::body::max_body_bytes;
use crate::fields::{Fields, put_number};
use crate::layout::{BlockLayout, MAX_TENSORS, ShapeError};
use crate::settings::{DeltaSettings, quantiser_byte, quantiser_of};

pub(crate) const MAGIC: [u8; 8] = *b"TPLDELTA";
pub(crate) const VERSION: u8 = 0;
/// The length of the fixed part of the header, which ends with the miner.
pub(crate) const FIXED_BYTES: usize = 74;
/// The most bytes of a header. After the fixed part it has four numbers: the window, the block side, top-k and
/// the number of tensors.
pub(crate) const MAX_HEADER_BYTES: usize = FIXED_BYTES + 10 + 2 + 3 + 3;

/// The run, the window and the miner that a delta was made for. They are part of the bytes, so another miner
/// cannot commit to the hash of a delta that it copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeader {
    /// The id of the run.
    pub run: Hash,
    /// The window, counted from 0.
    pub window: u64,
    /// The identity of the miner, a public key.
    pub miner: [u8; 32],
}

/// The header and the directory, parsed.
pub(crate) struct Preamble {
    pub(crate) header: DeltaHeader,
    pub(crate) quantiser: Quantiser,
    pub(crate) block_side: u64,
    pub(crate) top_k: u64,
    /// The position at which the directory begins.
    pub(crate) header_bytes: usize,
    /// The place of the body of each tensor.
    pub(crate) bodies: Vec<Range<usize>>,
}

/// Writes a whole delta: header, directory, and the body of each tensor, in order.
pub(crate) fn write(settings: &DeltaSettings, header: &DeltaHeader, bodies: &[Vec<u8>]) -> Vec<u8> {
    let total: usize = bodies.iter().map(Vec::len).sum();
    let mut bytes = Vec::with_capacity(MAX_HEADER_BYTES + 4 * bodies.len() + total);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.push(quantiser_byte(settings.quantiser()));
    bytes.extend_from_slice(header.run.as_bytes());
    bytes.extend_from_slice(&header.miner);
    put_number(&mut bytes, header.window);
    put_number(&mut bytes, settings.block_side().into());
    put_number(&mut bytes, settings.top_k().into());
    put_number(&mut bytes, bodies.len() as u64);
    for body in bodies {
        put_number(&mut bytes, body.len() as u64);
    }
    for body in bodies {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// Parses the header and the directory, and checks that the lengths in it add up to that of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Preamble, DeltaError> {
    let error = |error| DeltaError::unreadable(bytes.len() as u64, error);
    let mut fields = Fields::new(bytes);
    if fields.take::<8>().map_err(error)? != MAGIC {
        return Err(DeltaError::NotADelta);
    }
    let [version] = fields.take().map_err(error)?;
    if version != VERSION {
        return Err(DeltaError::Version { found: version });
    }
    let [quantiser] = fields.take().map_err(error)?;
    let quantiser = quantiser_of(quantiser).ok_or(DeltaError::Quantiser { found: quantiser })?;
    let run = Hash::from_bytes(fields.take().map_err(error)?);
    let miner = fields.take().map_err(error)?;
    let window = fields.number().map_err(error)?;
    let block_side = fields.number().map_err(error)?;
    let top_k = fields.number().map_err(error)?;
    let tensors = fields.number().map_err(error)?;
    if tensors > MAX_TENSORS as u64 {
        return Err(DeltaError::TensorCount { found: tensors, expected: MAX_TENSORS });
    }
    let header_bytes = fields.at();
    let bodies = fields.directory(tensors).map_err(error)?;
    Ok(Preamble { header: DeltaHeader { run, window, miner }, quantiser, block_side, top_k, header_bytes, bodies })
}

/// The most bytes that a valid delta of these tensors can have. It is the bound for fetching one.
///
/// # Errors
/// When the tensors cannot be laid out.
pub fn max_bytes(specs: &[TensorSpec], settings: &DeltaSettings) -> Result<u64, ShapeError> {
    let (layouts, _) = BlockLayout::all(specs, settings)?;
    // A length takes at most six bytes: a tensor has less than 2^32 elements, and 2^42 bits are more than it can need.
    let fixed = (MAX_HEADER_BYTES + 6 * layouts.len()) as u64;
    let bodies = layouts.iter().map(|layout| max_body_bytes(layout, settings.quantiser()));
    Ok(bodies.fold(fixed, u64::saturating_add))
}
