//! A product of `i8x2/1`: the rectangles of C, their panels, and the tiles.
//!
//! Panels of several blocks of k are packed together, so that a tile of C stays in the nearest cache from one block's
//! addition to the next. The additions go through C in the order of the blocks whatever is packed together.

use std::cell::RefCell;
use std::ops::Range;

use super::pack::{Panel, Source};
use super::scale::{BLOCK, Exponents};
use super::unit::Unit;
#[cfg(target_arch = "x86_64")]
use super::units;
use super::units::{Multiplier, Operands, Plain};
use crate::gemm::{Product, aligned, divide};
use crate::matrix::{Mat, MatMut, Op};

/// Most blocks of k that are packed together.
const RUN: usize = 4;
/// Most rows of A packed at once: with the numbers of a run half of a second-level cache.
const ROWS: usize = 240;
/// Most columns of B packed at once. A is packed anew for each such part.
const COLS: usize = 2048;

/// `C = op(A)·op(B) [+ C]` on a unit, which must be available, cut for `threads` threads.
pub(crate) fn multiply(
    unit: Unit,
    threads: usize,
    (a, op_a): (Mat, Op),
    (b, op_b, exponents): (Mat, Op, Exponents),
    c: MatMut,
    accumulate: bool,
) {
    assert!(unit.is_available(), "this machine has no {unit}");
    let product = Product::new(a, op_a, b, op_b, c, accumulate);
    divide(&product, tile_shape(unit), false, threads, |rows, cols| {
        // SAFETY: the unit is available (asserted); rectangles do not overlap.
        unsafe { compute(unit, &product, exponents, rows, cols) };
    });
}

/// Rows and columns of a tile.
fn tile_shape(unit: Unit) -> (usize, usize) {
    match unit {
        Unit::Scalar => (4, 4),
        Unit::Sse2 => (4, 8),
        Unit::Avx2 => (6, 16),
        Unit::Vnni => (6, 32),
        Unit::Neon => (8, 8),
    }
}

/// Computes a rectangle of C.
///
/// # Safety
/// The machine must have the unit, and rectangles computed at the same time must not overlap.
unsafe fn compute(unit: Unit, product: &Product, exponents: Exponents, rows: Range<usize>, cols: Range<usize>) {
    BUFFERS.with_borrow_mut(|buffers| {
        let rectangle = Rectangle { product, exponents, rows, cols };
        match unit {
            // SAFETY: the caller says that this machine has the unit.
            #[cfg(target_arch = "x86_64")]
            Unit::Vnni => unsafe { rectangle.compute::<units::Vnni, 6, 32>(buffers) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => unsafe { rectangle.compute::<units::Avx2, 6, 16>(buffers) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Unit::Sse2 => unsafe { rectangle.compute::<units::Sse2, 4, 8>(buffers) },
            // SAFETY: every machine can run plain code.
            Unit::Neon => unsafe { rectangle.compute::<Plain, 8, 8>(buffers) },
            // SAFETY: as above.
            _ => unsafe { rectangle.compute::<Plain, 4, 4>(buffers) },
        }
    });
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Buffers of a thread, kept between calls.
#[derive(Default)]
struct Buffers {
    left: Packed,
    right: Packed,
}

/// The buffers of one factor's panels.
#[derive(Default)]
struct Packed {
    dwords: Vec<i32>,
    scales: Vec<f32>,
    corrections: Vec<i32>,
}

/// Panels of one factor: for each `W` rows or columns, one panel a block of k.
struct Panels<'a> {
    dwords: &'a [i32],
    scales: &'a [f32],
    corrections: &'a [i32],
}

/// A rectangle of C to compute.
struct Rectangle<'a> {
    product: &'a Product<'a>,
    exponents: Exponents,
    rows: Range<usize>,
    cols: Range<usize>,
}

/// The blocks of a run of k.
fn blocks(k: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = k.end;
    k.clone().step_by(BLOCK).map(move |start| start..end.min(start + BLOCK))
}

impl Rectangle<'_> {
    /// # Safety
    /// As [`compute`].
    unsafe fn compute<U: Multiplier<MR, NR>, const MR: usize, const NR: usize>(&self, buffers: &mut Buffers) {
        let Self { product, exponents, .. } = *self;
        if product.k == 0 {
            if !product.accumulate {
                product.clear::<NR>(self.rows.clone(), self.cols.clone());
            }
            return;
        }
        let Buffers { left, right } = buffers;
        // Runs of equal length rather than full ones and a thin rest.
        let count = product.k.div_ceil(BLOCK);
        let run = count.div_ceil(count.div_ceil(RUN)) * BLOCK;
        for first_col in self.cols.clone().step_by(COLS) {
            let cols = first_col..self.cols.end.min(first_col + COLS);
            for first_k in (0..product.k).step_by(run) {
                let k = first_k..product.k.min(first_k + run);
                let right = right.pack::<NR>(&k, cols.clone(), U::DWORDS, |k, cols, panel| {
                    let source = Source::right(&product.b, product.op_b, k, cols, exponents);
                    // SAFETY: the caller says that this machine has the unit.
                    unsafe { U::pack_right(&source, panel) };
                });
                for first_row in self.rows.clone().step_by(ROWS / MR * MR) {
                    let rows = first_row..self.rows.end.min(first_row + ROWS / MR * MR);
                    let left = left.pack::<MR>(&k, rows.clone(), U::DWORDS, |k, rows, panel| {
                        let source = Source::left(&product.a, product.op_a, k, rows);
                        // SAFETY: as above.
                        unsafe { U::pack_left(&source, panel) };
                    });
                    // SAFETY: as above.
                    unsafe { self.tiles::<U, MR, NR>(&rows, &cols, &k, &left, &right) };
                }
            }
        }
    }

    /// All tiles of a part of the rows and columns over a run of k.
    ///
    /// # Safety
    /// As [`compute`].
    unsafe fn tiles<U: Multiplier<MR, NR>, const MR: usize, const NR: usize>(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        k: &Range<usize>,
        left: &Panels,
        right: &Panels,
    ) {
        let product = self.product;
        let count = k.len().div_ceil(BLOCK);
        let fresh = k.start == 0 && !product.accumulate;
        for (panel_col, j) in cols.clone().step_by(NR).enumerate() {
            let cols = j..cols.end.min(j + NR);
            for (panel_row, i) in rows.clone().step_by(MR).enumerate() {
                let rows = i..rows.end.min(i + MR);
                let mut tile = product.start::<MR, NR>(fresh, &rows, &cols);
                for (index, block) in blocks(k).enumerate() {
                    let (row, col) = (panel_row * count + index, panel_col * count + index);
                    let operands = Operands {
                        length: block.len(),
                        along: product.op_a == Op::N,
                        left: &left.dwords[row * MR * U::DWORDS..][..MR * U::DWORDS],
                        left_scales: &left.scales.as_chunks::<MR>().0[row],
                        corrections: &left.corrections.as_chunks::<MR>().0[row],
                        right: &right.dwords[col * NR * U::DWORDS..][..NR * U::DWORDS],
                        right_scales: &right.scales.as_chunks::<NR>().0[col],
                    };
                    // SAFETY: the caller says that this machine has the unit.
                    unsafe { U::multiply(&operands, &mut tile) };
                }
                product.finish(rows, cols.clone(), &tile);
            }
        }
    }
}

impl Packed {
    /// Packs `wide` rows or columns over a run of k, `dwords` for each of them and each block.
    fn pack<const W: usize>(
        &mut self,
        k: &Range<usize>,
        wide: Range<usize>,
        dwords: usize,
        mut pack: impl FnMut(Range<usize>, Range<usize>, Panel<W>),
    ) -> Panels<'_> {
        let panels = wide.len().div_ceil(W) * k.len().div_ceil(BLOCK);
        let all_dwords = aligned(&mut self.dwords, panels * W * dwords);
        let all_scales = aligned(&mut self.scales, panels * W);
        let all_corrections = aligned(&mut self.corrections, panels * W);
        let scales = all_scales.as_chunks_mut::<W>().0;
        let corrections = all_corrections.as_chunks_mut::<W>().0;
        let places = wide.clone().step_by(W).flat_map(|start| blocks(k).map(move |block| (start, block)));
        let panels = all_dwords.chunks_exact_mut(W * dwords).zip(scales).zip(corrections);
        for ((start, block), ((dwords, scales), corrections)) in places.zip(panels) {
            pack(block, start..wide.end.min(start + W), Panel { dwords, scales, corrections });
        }
        Panels { dwords: all_dwords, scales: all_scales, corrections: all_corrections }
    }
}
