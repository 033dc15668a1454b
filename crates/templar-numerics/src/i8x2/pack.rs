//! Quantising and packing in one pass over a panel: the numbers come from memory once as floats, for the exponent, and
//! once more from the nearest cache, for the limbs.
//!
//! A panel is `W` rows of `op(A)`, or `W` columns of `op(B)`, over one block of k. It lies as a tile reads it, in
//! dwords of two forms. A **word** is one k as two 16-bit integers. **Bytes** are four k of one limb. Where a row of A
//! has its k side by side in memory it keeps them so, because a tile broadcasts its numbers one by one from any place.
//! Everything else lies k by k.
//!
//! Rows beyond the edge of a matrix have the scale +0 and any integers. What is computed from them is not stored.

#[cfg(target_arch = "x86_64")]
mod bytes;

use std::ops::Range;

use super::scale::{BLOCK, Exponents, MANTISSA, block_exponent, exponent, integer, larger, scales, size};
use crate::matrix::{Mat, Op};
#[cfg(target_arch = "x86_64")]
pub(super) use bytes::{GROUPS, bytes};

/// Which factor of a product a panel belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Rows of `op(A)`.
    Left,
    /// Columns of `op(B)`.
    Right,
}

/// The part of a stored matrix that a panel is made of.
pub(super) struct Source<'a> {
    pub(super) from: &'a Mat<'a>,
    /// Whether a stored row lies along k, as it does in A of NN and in B of NT.
    pub(super) along: bool,
    /// At most [`BLOCK`].
    pub(super) k: Range<usize>,
    /// At most `W` rows of `op(A)` or columns of `op(B)`.
    pub(super) wide: Range<usize>,
    pub(super) exponents: Exponents,
}

/// Where a panel goes.
pub(super) struct Panel<'a, const W: usize> {
    pub(super) dwords: &'a mut [i32],
    pub(super) scales: &'a mut [f32; W],
    /// What a unit with an unsigned factor must take off every sum of a row; written for the left side's bytes alone.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for units with an unsigned factor"))]
    pub(super) corrections: &'a mut [i32; W],
}

impl<'a> Source<'a> {
    pub(super) fn left(from: &'a Mat<'a>, op: Op, k: Range<usize>, wide: Range<usize>) -> Self {
        Self { from, along: op == Op::N, k, wide, exponents: Exponents::OfBlocks }
    }

    pub(super) fn right(from: &'a Mat<'a>, op: Op, k: Range<usize>, wide: Range<usize>, exponents: Exponents) -> Self {
        Self { from, along: op == Op::T, k, wide, exponents }
    }

    /// Stored row `wide.start + i`, which lies along k.
    #[inline(always)]
    fn row(&self, i: usize) -> &[f32] {
        &self.from.data[(self.wide.start + i) * self.from.stride + self.k.start..][..self.k.len()]
    }

    /// The numbers of one k, side by side in a stored row; +0 beyond the edge.
    #[inline(always)]
    fn across<const W: usize>(&self, k: usize) -> [f32; W] {
        let row = &self.from.data[k * self.from.stride + self.wide.start..][..self.wide.len()];
        <[f32; W]>::try_from(row).unwrap_or_else(|_| {
            let mut padded = [0.0; W];
            padded[..row.len()].copy_from_slice(row);
            padded
        })
    }

    #[inline(always)]
    fn exponent(&self, row: &[f32]) -> u32 {
        if self.exponents == Exponents::OfMantissas { MANTISSA } else { exponent(row) }
    }

    /// The inverse scales of a panel whose stored rows lie across k, and its scales.
    #[inline(always)]
    fn scales_across<const W: usize>(&self, to: &mut [f32; W]) -> [f32; W] {
        let mut largest = [0; W];
        for k in self.k.clone() {
            let row = self.across::<W>(k);
            for i in 0..W {
                largest[i] = larger(largest[i], size(row[i]));
            }
        }
        let mut inverses = [0.0; W];
        for i in 0..W {
            let of_block = block_exponent(largest[i] as u32);
            let exponent = if self.exponents == Exponents::OfMantissas { MANTISSA } else { of_block };
            (inverses[i], to[i]) = scales(exponent);
        }
        inverses
    }
}

/// One k in a dword. The products of the halves of a left and a right word, added, are the k's part of T:
/// `(hi, lo) · (q, hi) = 256·hi·hi + hi·lo + lo·hi`.
#[inline(always)]
fn word(side: Side, q: i32) -> i32 {
    let raised = q.wrapping_add(128);
    match side {
        // hi above, lo below.
        Side::Left => (raised << 8) & !0xffff | ((raised & 0xff) - 128) & 0xffff,
        // q above, hi below.
        Side::Right => q << 16 | (raised >> 8) & 0xffff,
    }
}

/// Packs words, k by k, or for a left row that lies along k, [`BLOCK`] dwords a row.
#[inline(always)]
pub(super) fn words<const W: usize>(side: Side, source: &Source, to: Panel<W>) {
    if !source.along {
        let inverses = source.scales_across(to.scales);
        for (k, out) in source.k.clone().zip(to.dwords.as_chunks_mut::<W>().0) {
            let row = source.across::<W>(k);
            for i in 0..W {
                out[i] = word(side, integer(row[i], inverses[i]));
            }
        }
        return;
    }
    to.scales.fill(0.0);
    let quantise = |i: usize, out: &mut [i32]| {
        let row = source.row(i);
        let (inverse, scale) = scales(source.exponent(row));
        for (out, x) in out.iter_mut().zip(row) {
            *out = word(side, integer(*x, inverse));
        }
        scale
    };
    let rows = source.wide.len();
    if side == Side::Left {
        for (i, out) in to.dwords.chunks_exact_mut(BLOCK).take(rows).enumerate() {
            to.scales[i] = quantise(i, out);
        }
        return;
    }
    // Four rows are turned at a time, so that what is written lies side by side.
    let mut turned = [[0; BLOCK]; 4];
    for first in (0..rows).step_by(4) {
        let some = (rows - first).min(4);
        for (i, row) in turned.iter_mut().enumerate().take(some) {
            to.scales[first + i] = quantise(first + i, row);
        }
        for (k, out) in to.dwords.as_chunks_mut::<W>().0.iter_mut().enumerate().take(source.k.len()) {
            if some == 4 {
                let out = &mut out[first..first + 4];
                out.copy_from_slice(&[turned[0][k], turned[1][k], turned[2][k], turned[3][k]]);
            } else {
                (0..some).for_each(|i| out[first + i] = turned[i][k]);
            }
        }
    }
}
