//! Quantising and packing in one pass over a panel: the numbers come from memory once as floats, for the exponent, and
//! once more from the nearest cache, for the limbs.
//!
//! A panel is `W` rows of `op(A)`, or `W` columns of `op(B)`, over one block of k. It lies as a tile reads it, in dwords
//! of two forms. A **word** is one k as two 16-bit integers. **Bytes** are four k of one limb. Where a row of A has its
//! k side by side in memory it keeps them so, because a tile broadcasts its numbers one by one from any place. Everything
//! else lies k by k.
//!
//! Rows beyond the edge of a matrix have the scale +0 and any integers. What is computed from them is not stored.

use std::ops::Range;

use super::scale::{block_exponent, exponent, integer, larger, scales, size};
use super::{BLOCK, Exponents, MANTISSA};
use crate::matrix::{Mat, Op};

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

/// k that share a dword of bytes.
const GROUP: usize = 4;

/// Groups of a whole block.
pub(super) const GROUPS: usize = BLOCK / GROUP;

/// The right side's bytes are unsigned, 128 more than the limb.
const UNSIGNED: i32 = i32::from_le_bytes([128; GROUP]);

/// What `Σ (b + 128)·a` has too much in T, where `hi` and `lo` are the sums of a row's limbs.
#[inline(always)]
fn correction(hi: i32, lo: i32) -> i32 {
    // 256·Σ hi·(hi + 128), then Σ hi·(lo + 128) + lo·(hi + 128).
    128i32.wrapping_mul(hi.wrapping_mul(257).wrapping_add(lo))
}

/// Packs bytes, group by group: the high limbs of all rows, then the low limbs. A left row that lies along k has its
/// groups of high limbs and then those of low limbs, 2 [`GROUPS`] dwords in all.
#[inline(always)]
pub(super) fn bytes<const W: usize>(side: Side, source: &Source, to: Panel<W>) {
    let flip = if side == Side::Right { UNSIGNED } else { 0 };
    if !source.along {
        return bytes_across(side, flip, source, to);
    }
    to.scales.fill(0.0);
    for i in 0..source.wide.len() {
        let row = source.row(i);
        let (inverse, scale) = scales(source.exponent(row));
        to.scales[i] = scale;
        let (mut hi, mut lo) = ([0u8; BLOCK], [0u8; BLOCK]);
        let mut sums = (0i32, 0i32);
        for ((hi, lo), x) in hi.iter_mut().zip(&mut lo).zip(row) {
            let q = integer(*x, inverse);
            let high = q.wrapping_add(128) >> 8;
            (*hi, *lo) = (high as u8, q as u8);
            sums = (sums.0.wrapping_add(high), sums.1.wrapping_add(i32::from(q as i8)));
        }
        let groups = hi.as_chunks::<GROUP>().0.iter().zip(lo.as_chunks::<GROUP>().0);
        let groups = groups.map(|(hi, lo)| [hi, lo].map(|limb| i32::from_le_bytes(*limb) ^ flip));
        match side {
            Side::Left => {
                to.corrections[i] = correction(sums.0, sums.1);
                let (high, low) = to.dwords[2 * GROUPS * i..][..2 * GROUPS].split_at_mut(GROUPS);
                for ([hi, lo], (high, low)) in groups.zip(high.iter_mut().zip(low)) {
                    (*high, *low) = (hi, lo);
                }
            }
            Side::Right => {
                for ([hi, lo], out) in groups.zip(to.dwords.chunks_exact_mut(2 * W)) {
                    (out[i], out[W + i]) = (hi, lo);
                }
            }
        }
    }
}

#[inline(always)]
fn bytes_across<const W: usize>(side: Side, flip: i32, source: &Source, to: Panel<W>) {
    let inverses = source.scales_across(to.scales);
    let (mut high_sums, mut low_sums) = ([0i32; W], [0i32; W]);
    let starts = source.k.clone().step_by(GROUP);
    for (start, out) in starts.zip(to.dwords.chunks_exact_mut(2 * W)) {
        let (high, low) = out.split_at_mut(W);
        let (mut his, mut los) = ([flip; W], [flip; W]);
        for (place, k) in (start..source.k.end.min(start + GROUP)).enumerate() {
            let row = source.across::<W>(k);
            for i in 0..W {
                let q = integer(row[i], inverses[i]);
                let hi = q.wrapping_add(128) >> 8;
                his[i] ^= (hi & 0xff) << (8 * place);
                los[i] ^= (q & 0xff) << (8 * place);
                high_sums[i] = high_sums[i].wrapping_add(hi);
                low_sums[i] = low_sums[i].wrapping_add(q.wrapping_sub(hi << 8));
            }
        }
        high.copy_from_slice(&his);
        low.copy_from_slice(&los);
    }
    if side == Side::Left {
        for i in 0..W {
            to.corrections[i] = correction(high_sums[i], low_sums[i]);
        }
    }
}
