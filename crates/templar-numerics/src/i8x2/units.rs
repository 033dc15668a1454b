//! One tile of C over one block of k, for each unit: the sums T of all its elements, and one addition to each.
//!
//! The units differ in the instruction that multiplies limbs, and in the size of the tile that fits their registers.
//! Sums of integers have no order, so nothing here can be seen in a result but a wrong product.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::pack::{self, Panel, Side, Source};
use super::scale::BLOCK;
use crate::gemm::Tile;

/// The two panels of a tile over one block of k.
pub(super) struct Operands<'a, const MR: usize, const NR: usize> {
    /// Numbers along k, at most [`BLOCK`].
    pub(super) length: usize,
    /// Whether each row of the left panel lies along k.
    pub(super) along: bool,
    pub(super) left: &'a [i32],
    pub(super) left_scales: &'a [f32; MR],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for units with an unsigned factor"))]
    pub(super) corrections: &'a [i32; MR],
    pub(super) right: &'a [i32],
    pub(super) right_scales: &'a [f32; NR],
}

/// A unit, with the rows and columns of its tile.
pub(super) trait Multiplier<const MR: usize, const NR: usize> {
    /// Dwords that a row or a column takes in a panel.
    const DWORDS: usize;

    /// Packs rows of `op(A)`.
    ///
    /// # Safety
    /// The machine must have the unit.
    unsafe fn pack_left(source: &Source, to: Panel<MR>);

    /// Packs columns of `op(B)`.
    ///
    /// # Safety
    /// The machine must have the unit.
    unsafe fn pack_right(source: &Source, to: Panel<NR>);

    /// Adds the block's term to every element of a tile.
    ///
    /// # Safety
    /// The machine must have the unit.
    unsafe fn multiply(operands: &Operands<MR, NR>, tile: &mut Tile<MR, NR>);
}

/// Plain Rust, for every machine without a faster unit. On aarch64 the compiler makes NEON instructions of it.
pub(super) struct Plain;

/// x86-64's baseline.
#[cfg(target_arch = "x86_64")]
pub(super) struct Sse2;

/// AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

/// AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
pub(super) struct Vnni;

/// Adds `f32(T)·(sA·sB)` to every element of a tile.
#[inline(always)]
fn add_terms<const MR: usize, const NR: usize>(
    sums: &[[i32; NR]; MR],
    operands: &Operands<MR, NR>,
    tile: &mut Tile<MR, NR>,
) {
    for i in 0..MR {
        for j in 0..NR {
            tile[i][j] += sums[i][j] as f32 * (operands.left_scales[i] * operands.right_scales[j]);
        }
    }
}

impl<const MR: usize, const NR: usize> Multiplier<MR, NR> for Plain {
    const DWORDS: usize = BLOCK;

    unsafe fn pack_left(source: &Source, to: Panel<MR>) {
        pack::words(Side::Left, source, to);
    }

    unsafe fn pack_right(source: &Source, to: Panel<NR>) {
        pack::words(Side::Right, source, to);
    }

    unsafe fn multiply(operands: &Operands<MR, NR>, tile: &mut Tile<MR, NR>) {
        let (row, step) = if operands.along { (BLOCK, 1) } else { (1, MR) };
        let mut sums = [[0i32; NR]; MR];
        for (k, right) in operands.right.as_chunks::<NR>().0.iter().enumerate().take(operands.length) {
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = operands.left[i * row + k * step];
                for (sum, right) in sums.iter_mut().zip(right) {
                    // Neither product nor sum overflows, but in a block that is out of range.
                    let high = (left >> 16).wrapping_mul(right >> 16);
                    let low = i32::from(left as i16).wrapping_mul(i32::from(*right as i16));
                    *sum = sum.wrapping_add(high).wrapping_add(low);
                }
            }
        }
        add_terms(&sums, operands, tile);
    }
}
