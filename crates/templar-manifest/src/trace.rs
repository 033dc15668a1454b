//! The trace: a miner's commitment to every inner step of a window. A replay compares leaf by leaf and so finds
//! the first step that differs, without asking the miner.
//!
//! Leaf 0 is the start (checkpoint and `state_in`). Leaf `k` is the model and optimiser after inner step `k`.
//! The last leaf, `steps + 1`, is the delta with `state_out`. A leaf holds one hash for each tensor, which
//! tells the tensor that differs.
//!
//! The layout of the blob, where all integers are little-endian:
//!
//! ```text
//! magic     8 bytes  "tplrtrc0"
//! run      32 bytes
//! window    u64
//! miner    32 bytes
//! steps     u32
//! tensors   u32
//! leaves    (steps + 2) times:
//!   loss    u64      bits of the f64 mean loss of the step; 0 in the first and the last leaf
//!   hashes  tensors · 32 bytes
//! ```
//!
//! In leaves 0 to `steps` the hash of a tensor is over its elements, first moments and second moments
//! (little-endian f32, in that order). In the last leaf it is over first moments, second moments and error
//! feedback after the window. The delta itself is named by the contribution.

use crate::id::{Hash, RunId, WindowIndex};
use crate::key::PublicKey;
use crate::kinds::Contribution;

const MAGIC: &[u8; 8] = b"tplrtrc0";
const HEADER_BYTES: usize = 8 + 32 + 8 + 32 + 4 + 4;

/// Why bytes are not the trace that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The bytes do not begin like a trace of this version.
    #[error("not a trace of this version")]
    Magic,
    /// The length is not the one that its numbers of steps and tensors give.
    #[error("trace of {found} bytes, its header says {expected}")]
    Length {
        /// The length that follows from the header.
        expected: u64,
        /// The length of the bytes.
        found: u64,
    },
    /// Another run, window, miner, number of steps or tensors than the contribution's.
    #[error("trace names another {0} than its contribution")]
    Header(&'static str),
}

/// The header of a trace: the window's work that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceHeader {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window in which the miner trained.
    pub window: WindowIndex,
    /// The miner (its owner key).
    pub miner: PublicKey,
    /// The number of inner steps.
    pub steps: u32,
    /// The number of tensors of the model.
    pub tensors: u32,
}

impl TraceHeader {
    /// The header that the trace of `contribution` must have, for a model of `tensors` tensors.
    pub fn of(contribution: &Contribution, tensors: u32) -> Self {
        let Contribution { run, window, miner, steps, .. } = *contribution;
        Self { run, window, miner, steps, tensors }
    }

    /// Reads the header of bytes that may be a trace. `None` where they do not begin like one. Only the header
    /// is read, and nothing is checked.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let mut reader = TraceReader { bytes: header };
        (reader.take() == *MAGIC).then(|| Self {
            run: Hash::from_bytes(reader.take()).into(),
            window: WindowIndex(u64::from_le_bytes(reader.take())),
            miner: PublicKey::from_bytes(reader.take()),
            steps: u32::from_le_bytes(reader.take()),
            tensors: u32::from_le_bytes(reader.take()),
        })
    }

    /// The length of the whole trace in bytes; `u64::MAX` where it is longer, which no trace can be.
    pub fn trace_bytes(&self) -> u64 {
        let leaves = u64::from(self.steps) + 2;
        leaves.saturating_mul(self.leaf_bytes()).saturating_add(HEADER_BYTES as u64)
    }

    fn leaf_bytes(&self) -> u64 {
        8 + 32 * u64::from(self.tensors)
    }
}

/// One leaf of a trace: the loss of a step and the state after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Bits of the f64 mean loss of the step.
    pub loss_bits: u64,
    /// One hash for each tensor, in the model's order.
    pub tensors: Vec<Hash>,
}

/// A whole trace: header and leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The window's work that the trace is about.
    pub header: TraceHeader,
    /// The `steps + 2` leaves.
    pub leaves: Vec<Leaf>,
}

impl Trace {
    /// The bytes of the trace, in the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let header = &self.header;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(header.run.hash().as_bytes());
        bytes.extend_from_slice(&header.window.0.to_le_bytes());
        bytes.extend_from_slice(header.miner.as_bytes());
        bytes.extend_from_slice(&header.steps.to_le_bytes());
        bytes.extend_from_slice(&header.tensors.to_le_bytes());
        for leaf in &self.leaves {
            bytes.extend_from_slice(&leaf.loss_bits.to_le_bytes());
            for hash in &leaf.tensors {
                bytes.extend_from_slice(hash.as_bytes());
            }
        }
        bytes
    }

    /// Decodes a trace that must have the header `expected`. The length is checked before anything is allocated.
    ///
    /// # Errors
    /// [`TraceError`] for any other bytes.
    pub fn decode(bytes: &[u8], expected: &TraceHeader) -> Result<Self, TraceError> {
        let header = TraceHeader::peek(bytes).ok_or(TraceError::Magic)?;
        for (name, equal) in [
            ("run", header.run == expected.run),
            ("window", header.window == expected.window),
            ("miner", header.miner == expected.miner),
            ("number of steps", header.steps == expected.steps),
            ("number of tensors", header.tensors == expected.tensors),
        ] {
            if !equal {
                return Err(TraceError::Header(name));
            }
        }
        if bytes.len() as u64 != header.trace_bytes() {
            return Err(TraceError::Length { expected: header.trace_bytes(), found: bytes.len() as u64 });
        }
        let mut reader = TraceReader { bytes: &bytes[HEADER_BYTES..] };
        let leaves = (0..u64::from(header.steps) + 2)
            .map(|_| Leaf {
                loss_bits: u64::from_le_bytes(reader.take()),
                tensors: (0..header.tensors).map(|_| Hash::from_bytes(reader.take())).collect(),
            })
            .collect();
        Ok(Self { header, leaves })
    }
}

/// Takes fixed-size pieces off bytes whose total length was checked.
struct TraceReader<'a> {
    bytes: &'a [u8],
}

impl TraceReader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.bytes.split_first_chunk::<N>().expect("the length was checked");
        self.bytes = tail;
        *head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let header = TraceHeader {
            run: Hash::of(b"run").into(),
            window: WindowIndex(3),
            miner: PublicKey::from_bytes([9; 32]),
            steps: 2,
            tensors: 3,
        };
        let leaves = (0..4u64)
            .map(|k| Leaf { loss_bits: k, tensors: (0..3u8).map(|t| Hash::of(&[k as u8, t])).collect() })
            .collect();
        Trace { header, leaves }
    }

    #[test]
    fn a_trace_comes_back() {
        let bytes = trace().encode();
        assert_eq!(bytes.len() as u64, trace().header.trace_bytes());
        assert_eq!(Trace::decode(&bytes, &trace().header), Ok(trace()));
        assert_eq!(TraceHeader::peek(&bytes), Some(trace().header));
        assert_eq!(TraceHeader::peek(&bytes[1..]), None);
    }

    #[test]
    fn hostile_traces_are_refused() {
        let expected = trace().header;
        let bytes = trace().encode();
        for length in 0..bytes.len() {
            assert!(Trace::decode(&bytes[..length], &expected).is_err(), "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(Trace::decode(&longer, &expected), Err(TraceError::Length { .. })));
        let mut huge = bytes;
        huge[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Trace::decode(&huge, &expected), Err(TraceError::Header("number of steps")));
    }
}
