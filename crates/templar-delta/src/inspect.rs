//! Describes a delta for people: the header, and the size of each of its parts.

use templar_manifest::Quantiser;

use crate::DeltaError;
use crate::body::TensorBody;
use crate::wire::{DeltaHeader, parse};

/// The sizes of the parts of a delta, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaSizes {
    /// The quantiser that the header names.
    pub quantiser: Quantiser,
    /// The block side that the header names.
    pub block_side: u64,
    /// The number of values that are sent of a full block, as the header states it.
    pub top_k: u64,
    /// The size of the header.
    pub header_bytes: u64,
    /// The size of the directory, which has the length of each tensor.
    pub directory_bytes: u64,
    /// The sizes of the parts of each tensor, in order.
    pub tensors: Vec<TensorSizes>,
}

/// The sizes of the parts of one tensor in a delta, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorSizes {
    /// The size of its front: lengths, parameters and levels.
    pub front_bytes: u64,
    /// The size of the positions; 0 where every value is sent.
    pub index_bytes: u64,
    /// The size of the scales of blocks; 0 where the quantiser has none.
    pub scale_bytes: u64,
    /// The size of the codes.
    pub code_bytes: u64,
}

impl TensorSizes {
    /// The size of the whole tensor.
    pub const fn bytes(&self) -> u64 {
        self.front_bytes + self.index_bytes + self.scale_bytes + self.code_bytes
    }
}

impl DeltaSizes {
    /// The sizes of the parts, summed over all tensors.
    pub fn sum(&self) -> TensorSizes {
        self.tensors.iter().fold(TensorSizes::default(), |sum, tensor| TensorSizes {
            front_bytes: sum.front_bytes + tensor.front_bytes,
            index_bytes: sum.index_bytes + tensor.index_bytes,
            scale_bytes: sum.scale_bytes + tensor.scale_bytes,
            code_bytes: sum.code_bytes + tensor.code_bytes,
        })
    }

    /// The size of the whole delta.
    pub fn bytes(&self) -> u64 {
        self.header_bytes + self.directory_bytes + self.sum().bytes()
    }
}

/// Reads the header of a delta and the sizes of its parts. It needs no run, so it can describe any delta. It
/// does not check that the delta is valid: only [`crate::decode`] does.
///
/// # Errors
/// [`DeltaError`] when the bytes are not a delta, or their lengths do not add up.
pub fn inspect(bytes: &[u8]) -> Result<(DeltaHeader, DeltaSizes), DeltaError> {
    let front = parse(bytes)?;
    let mut tensors = Vec::with_capacity(front.bodies.len());
    for (index, range) in front.bodies.iter().enumerate() {
        let body = TensorBody::parse(bytes, range.clone(), front.quantiser)
            .map_err(|(offset, fault)| DeltaError::tensor(format!("{index}"), offset, fault))?;
        tensors.push(TensorSizes {
            front_bytes: (body.indices.start - body.start) as u64,
            index_bytes: body.indices.len() as u64,
            scale_bytes: body.scales.len() as u64,
            code_bytes: body.codes.len() as u64,
        });
    }
    let directory_end = front.bodies.first().map_or(bytes.len(), |body| body.start);
    let parts = DeltaSizes {
        quantiser: front.quantiser,
        block_side: front.block_side,
        top_k: front.top_k,
        header_bytes: front.header_bytes as u64,
        directory_bytes: (directory_end - front.header_bytes) as u64,
        tensors,
    };
    Ok((front.header, parts))
}
