//! The deltas of one window as one blob: all that the outer step of the window needs.
//!
//! Whoever has the checkpoint before a window fetches this one blob, whose hash the window's record names, takes the step
//! and compares the result with the record's checkpoint. It needs neither contributions nor scores.
//!
//! An aggregate holds, for each tensor, what each contributor sent of it, tensor by tensor and in the order of the record.
//! It leaves out nothing but the deltas' headers, because nothing else can be left out: the step is exact, each
//! contributor is clipped by a factor of its own, and so a sum tells who sent its terms. `BENCH.md` compares this with
//! positions and sums written out.

mod wire;

use rayon::prelude::*;
use templar_manifest::{Hash, TensorSpec};

use crate::apply::ApplyError;
use crate::body::Fault;
use crate::compress::max_bytes;
use crate::decode::{Delta, Part};
use crate::layout::{Layout, ShapeError};
use crate::settings::Settings;

pub use wire::MAX_CONTRIBUTORS;

/// The deltas of one window, checked: made by [`Aggregate::new`] out of deltas, or by [`Aggregate::decode`] out of bytes.
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
    pub(crate) layout: Layout,
    /// What each contributor sent, in the order of the record.
    pub(crate) parts: Vec<Part>,
}

/// Bytes are not the aggregate of this window.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AggregateError {
    /// The run's own tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The magic number is another.
    #[error("not an aggregate: it does not begin with TPLAGGRE")]
    NotAnAggregate,
    /// A layout of bytes that this program does not know.
    #[error("aggregate version {found} is not known, expected 0")]
    Version {
        /// What the bytes say.
        found: u8,
    },
    /// Longer than any aggregate of so many contributors can be.
    #[error("{length} bytes, and no aggregate of {contributors} deltas of this run has more than {limit}")]
    TooLong {
        /// How long it is.
        length: u64,
        /// How many contributors are expected.
        contributors: usize,
        /// The longest possible.
        limit: u64,
    },
    /// A number of the header or the directory is spelled longer than it must be.
    #[error("byte {offset}: a number is not in its shortest spelling")]
    Number {
        /// Where it begins.
        offset: u64,
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
    #[error("{length} bytes, but the aggregate ends at {needed}")]
    Trailing {
        /// How long it is.
        length: u64,
        /// Where the last tensor ends.
        needed: u64,
    },
    /// Made for another run or window, or with other settings.
    #[error("{what} is {found}, expected {expected}")]
    Other {
        /// What differs.
        what: &'static str,
        /// What the bytes say.
        found: String,
        /// What the run, the window and its record say.
        expected: String,
    },
    /// Something about what one contributor sent of a tensor.
    #[error("tensor {tensor}, contributor {contributor}, byte {offset}: {fault}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// The contributor's place in the order of the record.
        contributor: usize,
        /// Where in the aggregate, from its first byte.
        offset: u64,
        /// What is wrong.
        fault: Fault,
    },
}

/// Which aggregate is expected: the run, the window, and of how many deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregateHeader {
    /// The run's id.
    pub run: Hash,
    /// The window, counted from 0.
    pub window: u64,
    /// How many deltas it is made of.
    pub contributors: usize,
}

impl Aggregate {
    /// Merges the deltas of one window, in the order of its record.
    ///
    /// # Errors
    /// When the tensors cannot be laid out, or a delta was made for another window, other tensors or other settings.
    pub fn new(
        specs: &[TensorSpec],
        settings: &Settings,
        run: Hash,
        window: u64,
        deltas: &[&Delta],
    ) -> Result<Self, ApplyError> {
        if deltas.len() > MAX_CONTRIBUTORS {
            return Err(ApplyError::TooMany(deltas.len()));
        }
        let (layouts, _) = Layout::all(specs, settings)?;
        for (position, delta) in deltas.iter().enumerate() {
            let fits = (delta.header().run, delta.header().window) == (run, window)
                && delta.settings() == settings
                && delta.tensor_count() == specs.len()
                && layouts.iter().enumerate().all(|(index, layout)| delta.part(index).layout == *layout);
            if !fits {
                return Err(ApplyError::OtherDelta { position });
            }
        }
        let header = AggregateHeader { run, window, contributors: deltas.len() };
        let (bytes, parts) = wire::write(&header, settings, specs.len(), deltas);
        Ok(Self::assemble(specs, layouts, deltas.len(), parts, bytes))
    }

    /// Decodes the aggregate of `expected` in the run with these tensors and settings.
    ///
    /// The format is canonical: two byte strings that decode, decode to different aggregates. Nothing larger than the
    /// bytes themselves is allocated, as in [`crate::decode`].
    ///
    /// # Errors
    /// What is wrong, with the tensor, the contributor and the byte where one is to blame.
    pub fn decode(
        bytes: Vec<u8>,
        specs: &[TensorSpec],
        settings: &Settings,
        expected: &AggregateHeader,
    ) -> Result<Self, AggregateError> {
        let limit = Self::max_bytes(specs, settings, expected.contributors)?;
        if bytes.len() as u64 > limit {
            let (length, contributors) = (bytes.len() as u64, expected.contributors);
            return Err(AggregateError::TooLong { length, contributors, limit });
        }
        let (layouts, _) = Layout::all(specs, settings)?;
        let bodies = wire::parse(&bytes, specs.len(), settings, expected)?;
        let parts: Vec<Result<Part, AggregateError>> = bodies
            .into_par_iter()
            .enumerate()
            .map(|(place, range)| {
                let (index, contributor) = (place / expected.contributors, place % expected.contributors);
                Part::check(layouts[index], settings.quantiser(), &bytes, range).map_err(|(offset, fault)| {
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

    /// `parts` are those of the first tensor in the order of the contributors, then those of the next.
    fn assemble(
        specs: &[TensorSpec],
        layouts: Vec<Layout>,
        contributors: usize,
        parts: Vec<Part>,
        bytes: Vec<u8>,
    ) -> Self {
        let mut parts = parts.into_iter();
        let tensor = |(spec, layout): (&TensorSpec, Layout)| Tensor {
            name: spec.name.clone(),
            layout,
            parts: parts.by_ref().take(contributors).collect(),
        };
        Self { contributors, tensors: specs.iter().zip(layouts).map(tensor).collect(), bytes }
    }

    /// No valid aggregate of so many deltas is longer: the bound for fetching one.
    ///
    /// # Errors
    /// When the tensors cannot be laid out.
    pub fn max_bytes(specs: &[TensorSpec], settings: &Settings, contributors: usize) -> Result<u64, ShapeError> {
        // A delta's own header counts for each and is longer than the one header here.
        Ok(wire::MAX_HEADER_BYTES as u64 + max_bytes(specs, settings)?.saturating_mul(contributors as u64))
    }

    /// How many deltas it is made of.
    pub const fn contributors(&self) -> usize {
        self.contributors
    }

    /// Its canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its canonical bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}
