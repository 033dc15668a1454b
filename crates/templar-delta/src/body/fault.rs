//! The faults of one tensor of a delta: one name for each rule of the format.

/// The rule of the format that a tensor of a delta breaks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorFault {
    /// The bytes of the tensor end within its front, or before the parts that the front announces.
    #[error("the tensor ends after {0} bytes, before what its front announces")]
    Truncated(u64),
    /// A number is spelled longer than it must be, or beyond its range.
    #[error("a number is not in its shortest spelling or out of range")]
    Number,
    /// A Golomb parameter is not that of the mean.
    #[error("golomb parameter {found} of the {what} is not that of their mean")]
    Golomb {
        /// The part: "positions" or "scales".
        what: &'static str,
        /// The parameter in the bytes.
        found: u32,
    },
    /// A position lies beyond its block.
    #[error("a position of block {block} is beyond its {len} elements")]
    Position {
        /// The block, in wire order.
        block: usize,
        /// The number of its elements.
        len: usize,
    },
    /// Positions or scales need more bytes than announced.
    #[error("the {what} go on beyond their {bytes} bytes")]
    Overrun {
        /// The part: "positions" or "scales".
        what: &'static str,
        /// The number of bytes that the front announces.
        bytes: usize,
    },
    /// Positions or scales end before the bytes announced do, or their padding is not zero.
    #[error("the {what} end before their {bytes} bytes do, or the padding is not zero")]
    Padding {
        /// The part: "positions" or "scales".
        what: &'static str,
        /// The number of bytes that the front announces.
        bytes: usize,
    },
    /// The shape asks for another number of code bytes.
    #[error("{found} bytes of codes, the tensor's shape asks for {expected}")]
    CodeBytes {
        /// The number of code bytes that are there.
        found: usize,
        /// The number of code bytes that the shape asks for.
        expected: usize,
    },
    /// The padding of the last byte of signs is not zero.
    #[error("the padding after the codes is not zero")]
    CodePadding,
    /// The codes do not end where their bytes do, in the state in which a writer begins.
    #[error("the codes do not end with their {0} bytes")]
    Codes(usize),
    /// The set of codes is empty, or of others than the four.
    #[error("no set of codes is {0:#x}")]
    CodeSet(u8),
    /// The frequencies of the codes are not those of the codes that follow.
    #[error("the frequencies are not those of the codes")]
    Frequencies,
    /// A level is not finite, too large, or −0.
    #[error("level {code} is {value}, not a number of magnitude at most 2^100")]
    Level {
        /// The code of the level, from 0 to 3.
        code: usize,
        /// The value of the level.
        value: f32,
    },
    /// Levels do not ascend.
    #[error("level {code} is not above the one before it")]
    LevelOrder {
        /// The code of the level, from 0 to 3.
        code: usize,
    },
    /// A scale is below zero or beyond 2^100.
    #[error("scale {place} is none")]
    Scale {
        /// The place of the scale among those of the tensor, from 0.
        place: usize,
    },
    /// A block of zeros has a sign.
    #[error("block {block} has scale 0 and a code that is not 0")]
    ZeroBlock {
        /// The block, in wire order.
        block: usize,
    },
    /// The multiples of the scale do not agree with the values.
    #[error("ratios {small} and {large}: not ascending, or not used as they say")]
    Ratios {
        /// The smaller one, in 4096ths.
        small: u16,
        /// The larger one, in 4096ths.
        large: u16,
    },
}
