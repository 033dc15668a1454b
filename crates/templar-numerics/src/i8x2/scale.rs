//! Exponents, scales and quantised numbers, in the form that vectors compute fast. Equal to [`super::twin`] on every
//! number; a test goes through all edges.

use crate::kernel::kernel;

/// Numbers along k that share a scale.
pub const BLOCK: usize = 128;

/// From this exponent on a block is out of range.
pub(super) const OUT_OF_RANGE: u32 = 187;

/// Below this exponent a block counts as zeros.
pub(super) const NEGLIGIBLE: u32 = 74;

/// The exponent that the mantissas of attention are given in.
pub(super) const MANTISSA: u32 = 127;

/// How the blocks of a product's right factor get their exponents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exponents {
    /// From the largest number of each block.
    OfBlocks,
    /// The constant [`MANTISSA`]: the factor is the mantissas of attention.
    OfMantissas,
}

/// `1.5·2^23`: adding it to a number below 2^22 leaves the nearest integer in the last bits, ties to even.
const ROUND: f32 = 12_582_912.0;

/// The exponent E of a block whose largest number has the bits `largest`, without its sign.
#[inline(always)]
pub(crate) fn block_exponent(largest: u32) -> u32 {
    (largest + 0x1_0100) >> 23
}

/// What a block of exponent E is quantised with: `2^(141-E)`, and the scale `2^(E-137)`.
#[inline(always)]
pub(super) fn scales(e: u32) -> (f32, f32) {
    if e < NEGLIGIBLE {
        (0.0, 0.0)
    } else if e < OUT_OF_RANGE {
        (f32::from_bits((141 + 127 - e) << 23), f32::from_bits((e + 127 - 137) << 23))
    } else {
        (0.0, f32::NAN)
    }
}

/// The size of a number as an integer that orders like it; NaN and infinity come last.
#[inline(always)]
pub(super) fn size(x: f32) -> i32 {
    (x.to_bits() & i32::MAX as u32) as i32
}

/// The larger size. A comparison and not `max`, which SSE2 has no instruction for.
#[inline(always)]
pub(super) fn larger(a: i32, b: i32) -> i32 {
    if a > b { a } else { b }
}

/// The exponent of a block that lies in one piece.
#[inline(always)]
pub(super) fn exponent(x: &[f32]) -> u32 {
    // Sixteen maxima side by side, so that none waits for the one before.
    let mut lanes = [0; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, size(*x));
        }
    }
    let largest = lanes.into_iter().chain(rest.iter().map(|x| size(*x))).fold(0, larger);
    block_exponent(largest as u32)
}

/// The integer q. In a block that is out of range it may be any integer: its scale is NaN.
#[inline(always)]
pub(super) fn integer(x: f32, inverse: f32) -> i32 {
    ((x * inverse + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
}

/// Splits a row into factors, one a block, and mantissas: `x ≈ factor·mantissa`.
#[inline(always)]
fn split_row(x: &[f32], mantissas: &mut [f32], factors: &mut [f32]) {
    for ((x, out), factor) in x.chunks(BLOCK).zip(mantissas.chunks_mut(BLOCK)).zip(factors) {
        let (inverse, scale) = scales(exponent(x));
        // 2^(E-127), which is in range: E is at most 186.
        *factor = scale * f32::from_bits((127 + 137 - MANTISSA) << 23);
        for (x, out) in x.iter().zip(out) {
            *out = if inverse == 0.0 { 0.0 } else { integer(*x, inverse) as f32 / 16384.0 };
        }
    }
}

kernel! {
    /// Splits rows of `width` that are `stride` apart. `mantissas` is `[rows, width]`, `factors` `[rows, blocks]`.
    fn split_rows(x: &[f32], stride: usize, width: usize, mantissas: &mut [f32], factors: &mut [f32]) {
        let blocks = width.div_ceil(BLOCK);
        let outs = mantissas.chunks_exact_mut(width).zip(factors.chunks_exact_mut(blocks));
        for (row, (mantissas, factors)) in outs.enumerate() {
            split_row(&x[row * stride..][..width], mantissas, factors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i8x2::twin;
    use crate::vectors::Generator;

    /// Every exponent with the significands at which a rounding turns, alone and as the largest of a block.
    #[test]
    fn fast_quantisation_equals_the_twin_at_every_edge() {
        let significands = [0, 1, 0xff, 0x100, 0x101, 0x180, 0x7e_feff, 0x7e_ff00, 0x7f_feff, 0x7f_feff - 0x1_0000];
        let edges = [0x7e_fefe, 0x7e_feff, 0x7e_ff00, 0x7e_ff01, 0x7f_ffff, 0x40_0000, 0x2a_aaaa];
        let mut checked = 0u32;
        for exponent in 0..=255u32 {
            for significand in significands.into_iter().chain(edges) {
                let largest = f32::from_bits(exponent << 23 | significand);
                for lower in (0..=exponent).rev().take(40).chain([0]) {
                    for other in significands.into_iter().chain(edges) {
                        let x = [largest, -f32::from_bits((lower << 23 | other).min(largest.to_bits()))];
                        same_block(&x);
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 1_000_000);
    }

    #[test]
    fn fast_quantisation_equals_the_twin_on_wild_blocks() {
        let mut numbers = Generator::new(5);
        for length in (1..=BLOCK).chain([BLOCK; 500]) {
            same_block(&numbers.wild(length));
            same_block(&numbers.ordinary(length));
            let any: Vec<f32> = (0..length).map(|_| f32::from_bits((numbers.bits() >> 33) as u32)).collect();
            same_block(&any.iter().map(|x| if x.to_bits() >= 0x5d00_0000 { 0.0 } else { *x }).collect::<Vec<f32>>());
        }
    }

    #[track_caller]
    fn same_block(x: &[f32]) {
        let block = twin::quantise(x);
        let (inverse, scale) = scales(exponent(x));
        assert!(scale.to_bits() == block.scale.to_bits() || (scale.is_nan() && block.scale.is_nan()), "{x:?}");
        if !scale.is_nan() {
            assert_eq!(x.iter().map(|x| integer(*x, inverse)).collect::<Vec<i32>>(), block.integers, "{x:?}");
            assert!(block.integers.iter().all(|q| q.abs() <= 32_639), "{x:?}");
        }
    }
}
