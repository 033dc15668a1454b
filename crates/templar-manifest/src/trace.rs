//! The trace: what a miner commits to about every inner step, so that the first difference is found without asking.
//!
//! Leaf 0 is the start (checkpoint and `state_in`), leaf `k` the model and optimiser after inner step `k`, and the last
//! leaf, `steps + 1`, the delta with `state_out`. A leaf holds one hash for each tensor, so that a difference has a place.
//!
//! The blob, all integers little-endian:
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
//! The hash of a tensor is over its elements, first moments and second moments (little-endian f32, in that order) in leaves
//! 0 to `steps`; over first moments, second moments and error feedback after the window in the last leaf. The delta itself
//! is named by the contribution.

use crate::id::{Hash, RunId, WindowIndex};
use crate::key::PublicKey;
use crate::kinds::Contribution;

const MAGIC: &[u8; 8] = b"tplrtrc0";
const HEADER_BYTES: usize = 8 + 32 + 8 + 32 + 4 + 4;

/// Why bytes are not the trace that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Not a trace of this version.
    #[error("not a trace of this version")]
    Magic,
    /// The length is not the one that its numbers of steps and tensors give.
    #[error("trace of {found} bytes, its header says {expected}")]
    Length {
        /// What the header gives.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Another run, window, miner, number of steps or tensors than the contribution's.
    #[error("trace names another {0} than its contribution")]
    Header(&'static str),
}

/// What a trace is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceHeader {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// Who trained.
    pub miner: PublicKey,
    /// Inner steps.
    pub steps: u32,
    /// Tensors of the model.
    pub tensors: u32,
}

impl TraceHeader {
    /// The header that the trace of `contribution` must have, for a model of so many tensors.
    pub fn of(contribution: &Contribution, tensors: u32) -> Self {
        let Contribution { run, window, miner, steps, .. } = *contribution;
        Self { run, window, miner, steps, tensors }
    }

    /// What bytes that look like a trace say that they are about; `None` for others. Nothing is checked beyond the header.
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

    /// Length of the whole trace.
    pub fn trace_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + (u64::from(self.steps) + 2) * self.leaf_bytes()
    }

    fn leaf_bytes(&self) -> u64 {
        8 + 32 * u64::from(self.tensors)
    }
}

/// One leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Bits of the f64 mean loss of the step.
    pub loss_bits: u64,
    /// One hash for each tensor.
    pub tensors: Vec<Hash>,
}

/// A whole trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What it is about.
    pub header: TraceHeader,
    /// `steps + 2` leaves.
    pub leaves: Vec<Leaf>,
}

impl Trace {
    /// The canonical bytes.
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

    /// Decodes a trace that must be about `expected`. The length is checked before anything is allocated.
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
