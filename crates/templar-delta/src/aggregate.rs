//! The deltas of one window as one blob, which is all that the outer step of the window needs.
//!
//! A node that has the checkpoint before a window fetches this one blob, whose hash the record of the window
//! names. It takes the step and compares the result with the checkpoint in the record. It needs neither
//! contributions nor scores.
//!
//! For each tensor, an aggregate holds the encoded values of each contributor, in the order of the record. Only
//! the headers of the deltas are left out. Sums alone would not do: the step must be exact, and each
//! contributor is clipped by a factor of its own, which depends on its values. `BENCH.md` compares the size
//! with that of positions and sums written out.

mod wire;

use rayon::prelude::*;
use templar_manifest::{Hash, TensorSpec};

use crate::decode::{CheckedTensor, Delta};
use crate::layout::{BlockLayout, ShapeError};
use crate::settings::DeltaSettings;
use crate::wire::max_bytes;
use crate::{AggregateError, OuterStepError};

pub use wire::{AggregateHeader, MAX_CONTRIBUTORS};

/// The deltas of one window, checked. [`Aggregate::new`] makes it from deltas, and [`Aggregate::decode`] from bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    contributors: usize,
    tensors: Vec<Tensor>,
    bytes: Vec<u8>,
}

/// One tensor of an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) layout: BlockLayout,
    /// The encoded values of each contributor, in the order of the record.
    pub(crate) parts: Vec<CheckedTensor>,
}

impl Aggregate {
    /// Merges the deltas of one window, in the order of its record.
    ///
    /// # Errors
    /// [`OuterStepError`] when the tensors cannot be laid out, there are more deltas than [`MAX_CONTRIBUTORS`],
    /// or a delta was made for another run or window, other tensors or other settings.
    pub fn new(
        specs: &[TensorSpec],
        settings: &DeltaSettings,
        run: Hash,
        window: u64,
        deltas: &[&Delta],
    ) -> Result<Self, OuterStepError> {
        if deltas.len() > MAX_CONTRIBUTORS {
            return Err(OuterStepError::TooMany(deltas.len()));
        }
        let (layouts, _) = BlockLayout::all(specs, settings)?;
        for (position, delta) in deltas.iter().enumerate() {
            let fits = (delta.header().run, delta.header().window) == (run, window)
                && delta.settings() == settings
                && delta.tensor_count() == specs.len()
                && layouts.iter().enumerate().all(|(index, layout)| delta.part(index).layout == *layout);
            if !fits {
                return Err(OuterStepError::OtherDelta { position });
            }
        }
        let header = AggregateHeader { run, window, contributors: deltas.len() };
        let (bytes, parts) = wire::write(&header, settings, specs.len(), deltas);
        Ok(Self::assemble(specs, layouts, deltas.len(), parts, bytes))
    }

    /// Decodes the aggregate of `expected` in the run with these tensors and settings.
    ///
    /// The format is canonical: two different byte strings never decode to the same aggregate. Nothing larger
    /// than the bytes themselves is allocated, as in [`crate::decode`].
    ///
    /// # Errors
    /// [`AggregateError`], with the tensor, the contributor and the byte where one is to blame.
    pub fn decode(
        bytes: Vec<u8>,
        specs: &[TensorSpec],
        settings: &DeltaSettings,
        expected: &AggregateHeader,
    ) -> Result<Self, AggregateError> {
        let limit = Self::max_bytes(specs, settings, expected.contributors)?;
        if bytes.len() as u64 > limit {
            let (length, contributors) = (bytes.len() as u64, expected.contributors);
            return Err(AggregateError::TooLong { length, contributors, limit });
        }
        let (layouts, _) = BlockLayout::all(specs, settings)?;
        let bodies = wire::parse(&bytes, specs.len(), settings, expected)?;
        let parts: Vec<Result<CheckedTensor, AggregateError>> = bodies
            .into_par_iter()
            .enumerate()
            .map(|(place, range)| {
                let (index, contributor) = (place / expected.contributors, place % expected.contributors);
                CheckedTensor::check(layouts[index], settings.quantiser(), &bytes, range).map_err(|(offset, fault)| {
                    AggregateError::Tensor {
                        tensor: specs[index].name.clone(),
                        contributor,
                        offset: offset as u64,
                        fault,
                    }
                })
            })
            .collect();
        let parts = parts.into_iter().collect::<Result<_, _>>()?;
        Ok(Self::assemble(specs, layouts, expected.contributors, parts, bytes))
    }

    /// Groups `parts` by tensor. They come tensor by tensor, and for each tensor in the order of the contributors.
    fn assemble(
        specs: &[TensorSpec],
        layouts: Vec<BlockLayout>,
        contributors: usize,
        parts: Vec<CheckedTensor>,
        bytes: Vec<u8>,
    ) -> Self {
        let mut parts = parts.into_iter();
        let tensor = |(spec, layout): (&TensorSpec, BlockLayout)| Tensor {
            name: spec.name.clone(),
            layout,
            parts: parts.by_ref().take(contributors).collect(),
        };
        Self { contributors, tensors: specs.iter().zip(layouts).map(tensor).collect(), bytes }
    }

    /// The most bytes that a valid aggregate of so many deltas can have. It is the bound for fetching one.
    ///
    /// # Errors
    /// When the tensors cannot be laid out.
    pub fn max_bytes(specs: &[TensorSpec], settings: &DeltaSettings, contributors: usize) -> Result<u64, ShapeError> {
        // A delta's own header counts for each and is longer than the one header here.
        Ok(wire::MAX_HEADER_BYTES as u64 + max_bytes(specs, settings)?.saturating_mul(contributors as u64))
    }

    /// The number of deltas that it is made of.
    pub const fn contributors(&self) -> usize {
        self.contributors
    }

    /// The canonical bytes of the aggregate.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The canonical bytes of the aggregate, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}
