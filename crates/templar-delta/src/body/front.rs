//! The front of a body: the parameters of the parts behind it, and their places.

use std::ops::Range;

use templar_manifest::Quantiser;

use super::TensorFault;
use crate::fields::take_number;
use crate::quantise::LEVELS;
use crate::rans;
use crate::scale::{MAX_MAGNITUDE, MAX_SCALE};

/// The largest Golomb parameter, which is the largest number of elements of a block.
const MAX_PARAMETER: u64 = 1 << 20;

/// The front of a body, parsed, and the places of its parts in the bytes of the delta.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorBody {
    pub(crate) start: usize,
    /// The Golomb parameter of the positions.
    pub(crate) m: u32,
    /// The frequencies of the codes; all zero where the codes are signs.
    pub(crate) frequencies: [u16; LEVELS],
    pub(crate) levels: FrontLevels,
    pub(crate) indices: Range<usize>,
    pub(crate) scales: Range<usize>,
    pub(crate) codes: Range<usize>,
}

/// The levels as the front states them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FrontLevels {
    /// The level of each code; zero for a code that does not occur.
    Table([f32; LEVELS]),
    /// The first scale, the Golomb parameter of the steps to the others, and the two multiples if the quantiser
    /// has any.
    Scales { first: u16, m: u32, ratios: Option<[u16; 2]> },
}

impl TensorBody {
    /// The place of the whole body.
    pub(crate) const fn range(&self) -> Range<usize> {
        self.start..self.codes.end
    }

    /// The same body in other bytes, where it begins at `start`.
    pub(crate) fn moved(&self, start: usize) -> Self {
        let moved = |range: &Range<usize>| range.start - self.start + start..range.end - self.start + start;
        let (indices, scales, codes) = (moved(&self.indices), moved(&self.scales), moved(&self.codes));
        Self { start, indices, scales, codes, ..*self }
    }

    /// Parses the front of the body at `range` of the bytes of a delta. The parts that the front announces lie
    /// within the range.
    pub(crate) fn parse(bytes: &[u8], range: Range<usize>, quantiser: Quantiser) -> Result<Self, (usize, TensorFault)> {
        let Range { start, end } = range;
        let mut at = start;
        let truncated = |at: usize| (at, TensorFault::Truncated((end - start) as u64));
        let byte = |at: &mut usize| match bytes[..end].get(*at) {
            Some(&byte) => {
                *at += 1;
                Ok(byte)
            }
            None => Err(truncated(*at)),
        };
        let number = |at: &mut usize, limit: u64| {
            let first = *at;
            let mut rest = &bytes[first..end];
            let number = take_number(&mut rest).map_err(|error| match error {
                None => truncated(end),
                Some(()) => (first, TensorFault::Number),
            })?;
            *at = end - rest.len();
            if number > limit { Err((first, TensorFault::Number)) } else { Ok(number as usize) }
        };
        let half = |at: &mut usize| Ok(u16::from_le_bytes([byte(at)?, byte(at)?]));

        let m = number(&mut at, MAX_PARAMETER)? as u32;
        let index_bytes = number(&mut at, u32::MAX.into())?;
        let mut frequencies = [0; LEVELS];
        if quantiser != Quantiser::BlockSign {
            let set = byte(&mut at)?;
            if set == 0 || set >> LEVELS != 0 {
                return Err((at - 1, TensorFault::CodeSet(set)));
            }
            let mut rest = rans::FREQUENCY_SUM;
            let last = set.ilog2() as usize;
            for code in (0..last).filter(|code| set >> code & 1 == 1) {
                let first = at;
                let frequency = half(&mut at)?;
                if frequency == 0 || frequency >= rest {
                    return Err((first, TensorFault::Frequencies));
                }
                (frequencies[code], rest) = (frequency, rest - frequency);
            }
            frequencies[last] = rest;
        }
        let mut scale_bytes = 0;
        let levels = match quantiser {
            Quantiser::Templar4 => {
                let mut levels = [0f32; LEVELS];
                let mut last = None;
                for code in (0..LEVELS).filter(|&code| frequencies[code] > 0) {
                    let first = at;
                    let value = f32::from_le_bytes([byte(&mut at)?, byte(&mut at)?, byte(&mut at)?, byte(&mut at)?]);
                    let usable = value.abs() <= MAX_MAGNITUDE && value.to_bits() != (-0f32).to_bits(); // false for NaN
                    if !usable {
                        return Err((first, TensorFault::Level { code, value }));
                    }
                    if last.is_some_and(|last| value <= last) {
                        return Err((first, TensorFault::LevelOrder { code }));
                    }
                    (levels[code], last) = (value, Some(value));
                }
                FrontLevels::Table(levels)
            }
            Quantiser::BlockSign | Quantiser::BlockLevels => {
                let ratios = match quantiser {
                    Quantiser::BlockLevels => Some([half(&mut at)?, half(&mut at)?]),
                    _ => None,
                };
                let first = number(&mut at, MAX_SCALE.into())? as u16;
                let m = number(&mut at, MAX_PARAMETER)? as u32;
                scale_bytes = number(&mut at, u32::MAX.into())?;
                FrontLevels::Scales { first, m, ratios }
            }
        };
        // Each is below 2^32, so the sums do not overflow.
        let (indices, scales) = (at + index_bytes, at + index_bytes + scale_bytes);
        if scales > end {
            return Err(truncated(end));
        }
        let (indices, scales, codes) = (at..indices, indices..scales, scales..end);
        Ok(Self { start, m, frequencies, levels, indices, scales, codes })
    }
}
