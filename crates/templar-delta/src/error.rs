//! Errors of the delta's operations: a stranger's bytes, an aggregate's bytes, and the outer step.
//!
//! Each names the tensor and the byte where one is to blame.

use templar_manifest::Hash;

use crate::body::TensorFault;
use crate::fields::Unreadable;
use crate::layout::ShapeError;

/// Bytes are not a delta that this run, window and miner could have made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeltaError {
    /// The run's own tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The bytes do not begin with the magic number of a delta.
    #[error("not a delta: it does not begin with TPLDELTA")]
    NotADelta,
    /// The version of the format is not known to this program.
    #[error("delta version {found} is not known, expected 0")]
    Version {
        /// The version in the bytes.
        found: u8,
    },
    /// No quantiser has this number.
    #[error("quantiser {found} is not known")]
    Quantiser {
        /// The number in the bytes.
        found: u8,
    },
    /// The bytes are longer than any delta of this run can be.
    #[error("{length} bytes, and no delta of this run has more than {limit}")]
    TooLong {
        /// The number of bytes that are there.
        length: u64,
        /// The most bytes that a delta of this run can have.
        limit: u64,
    },
    /// The bytes end before what they announce.
    #[error("truncated: {length} bytes, needs {needed}")]
    Truncated {
        /// The number of bytes that are there.
        length: u64,
        /// The number of bytes that are needed.
        needed: u64,
    },
    /// There are bytes after the last tensor.
    #[error("{length} bytes, but the delta ends at {needed}")]
    Trailing {
        /// The number of bytes that are there.
        length: u64,
        /// The position at which the last tensor ends.
        needed: u64,
    },
    /// The delta was made with another setting of the compressor than the run has.
    #[error("{what} is {found}, the run has {expected}")]
    Setting {
        /// The name of the setting.
        what: &'static str,
        /// The setting in the bytes.
        found: String,
        /// The setting that genesis fixes.
        expected: String,
    },
    /// The delta was made for another run.
    #[error("made for run {found}, expected {expected}")]
    Run {
        /// The run that the bytes name.
        found: Hash,
        /// The run that is expected.
        expected: Hash,
    },
    /// The delta was made for another window.
    #[error("made for window {found}, expected {expected}")]
    Window {
        /// The window that the bytes name.
        found: u64,
        /// The window that is expected.
        expected: u64,
    },
    /// The delta was made by another miner.
    #[error("made by miner {found}, expected {expected}")]
    Miner {
        /// The identity that the bytes name: 32 bytes, printed like a hash.
        found: Hash,
        /// The identity of the miner that is expected.
        expected: Hash,
    },
    /// The delta has another number of tensors than the model, or more than any model.
    #[error("{found} tensors, expected {expected}")]
    TensorCount {
        /// The number of tensors in the bytes.
        found: u64,
        /// The number of tensors of the model, or the largest number that is supported.
        expected: usize,
    },
    /// A number of the header or the directory is spelled longer than it must be.
    #[error("byte {offset}: a number is not in its shortest spelling")]
    Number {
        /// The position at which the number begins.
        offset: u64,
    },
    /// One tensor is malformed.
    #[error("tensor {tensor}, byte {offset}: {fault}")]
    Tensor {
        /// The name of the tensor.
        tensor: String,
        /// The position in the delta, counted from its first byte.
        offset: u64,
        /// The rule that the tensor breaks.
        fault: TensorFault,
    },
}

impl DeltaError {
    pub(crate) const fn unreadable(length: u64, error: Unreadable) -> Self {
        match error {
            Unreadable::Truncated(needed) => Self::Truncated { length, needed },
            Unreadable::Number(offset) => Self::Number { offset },
            Unreadable::Trailing(needed) => Self::Trailing { length, needed },
        }
    }

    pub(crate) fn tensor(tensor: String, offset: usize, fault: TensorFault) -> Self {
        Self::Tensor { tensor, offset: offset as u64, fault }
    }
}

/// Bytes are not the aggregate of this window.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AggregateError {
    /// The run's own tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The bytes do not begin with the magic number of an aggregate.
    #[error("not an aggregate: it does not begin with TPLAGGRE")]
    NotAnAggregate,
    /// The version of the format is not known to this program.
    #[error("aggregate version {found} is not known, expected 0")]
    Version {
        /// The version in the bytes.
        found: u8,
    },
    /// The bytes are longer than any aggregate of so many contributors can be.
    #[error("{length} bytes, and no aggregate of {contributors} deltas of this run has more than {limit}")]
    TooLong {
        /// The number of bytes that are there.
        length: u64,
        /// The number of contributors that is expected.
        contributors: usize,
        /// The most bytes that such an aggregate can have.
        limit: u64,
    },
    /// A number of the header or the directory is spelled longer than it must be.
    #[error("byte {offset}: a number is not in its shortest spelling")]
    Number {
        /// The position at which the number begins.
        offset: u64,
    },
    /// The bytes end before what they announce.
    #[error("truncated: {length} bytes, needs {needed}")]
    Truncated {
        /// The number of bytes that are there.
        length: u64,
        /// The number of bytes that are needed.
        needed: u64,
    },
    /// There are bytes after the last tensor.
    #[error("{length} bytes, but the aggregate ends at {needed}")]
    Trailing {
        /// The number of bytes that are there.
        length: u64,
        /// The position at which the last tensor ends.
        needed: u64,
    },
    /// The aggregate was made for another run or window, or with other settings.
    #[error("{what} is {found}, expected {expected}")]
    Other {
        /// The name of the value that differs.
        what: &'static str,
        /// The value in the bytes.
        found: String,
        /// The value that the run, the window and its record give.
        expected: String,
    },
    /// The body of one contributor for one tensor is malformed.
    #[error("tensor {tensor}, contributor {contributor}, byte {offset}: {fault}")]
    Tensor {
        /// The name of the tensor.
        tensor: String,
        /// The place of the contributor in the order of the record.
        contributor: usize,
        /// The position in the aggregate, counted from its first byte.
        offset: u64,
        /// The rule that the tensor breaks.
        fault: TensorFault,
    },
}

/// The deltas of a window cannot be merged, or the outer step cannot be taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OuterStepError {
    /// The tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The parameters have another length than the tensors together.
    #[error("{found} parameters, the tensors have {expected}")]
    Length {
        /// The number of parameters that were given.
        found: usize,
        /// The number of parameters that the tensors have.
        expected: usize,
    },
    /// A delta was decoded for other tensors or settings, or made for another run or window.
    #[error("delta {position} was made for other tensors or settings, or another window")]
    OtherDelta {
        /// The place of the delta in the order given, from 0.
        position: usize,
    },
    /// There are more deltas than an aggregate can hold.
    #[error("{0} deltas, more than can be aggregated")]
    TooMany(usize),
    /// The outer learning rate is not finite.
    #[error("learning rate {0} is not finite")]
    LearningRate(f32),
    /// A parameter would not be finite. The parameters are partly stepped then, and must be discarded.
    #[error("tensor {tensor}: parameter {index} would not be finite")]
    NonFinite {
        /// The name of the tensor.
        tensor: String,
        /// The position in the flat tensor.
        index: usize,
    },
}
