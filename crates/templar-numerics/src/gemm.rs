//! Matrix products: how the elements of C are divided among threads.
//!
//! Invariant: an element of C is one chain of fused multiply-adds over k ascending. Instruction set, tile,
//! block and thread do not change it. Only rows and columns are ever split between threads, so none of them can
//! be seen in the result.

mod pack;
mod product;
mod region;
mod tile;

use std::ops::Range;

use rayon::prelude::*;

use crate::isa::Isa;
use crate::matrix::{Mat, MatMut, Op};
pub(crate) use pack::aligned;
pub(crate) use product::Product;
pub(crate) use tile::Tile;

/// Below this many multiply-adds, waking another thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 20;

/// Rows or columns of a thread from which on they are cut in two.
const LONG_PART: usize = 4096;

/// `C = op(A)·op(B) [+ C]` on a given instruction set, which must be available, cut for `threads` threads.
#[allow(clippy::too_many_arguments, reason = "two operands with their forms, and how to compute")]
pub(crate) fn gemm_with(isa: Isa, threads: usize, a: Mat, op_a: Op, b: Mat, op_b: Op, c: MatMut, accumulate: bool) {
    assert!(isa.is_available(), "this machine has no {isa} arithmetic");
    let product = Product::new(a, op_a, b, op_b, c, accumulate);
    // Where A is plain and C narrow, A is read in place and columns cost nothing twice.
    let columns_first = op_a == Op::N && product.shape().1 <= region::IN_PLACE_COLS;
    divide(&product, region::tile_shape(isa), columns_first, threads, |rows, cols| {
        // SAFETY: the instruction set is available (asserted); rectangles do not overlap.
        unsafe { region::compute(isa, &product, rows, cols) };
    });
}

/// Calls `compute` for rectangles that make up C, on `threads` threads. The rectangles do not overlap, and their
/// corners lie at multiples of a tile.
pub(crate) fn divide(
    product: &Product,
    (tile_rows, tile_cols): (usize, usize),
    columns_first: bool,
    threads: usize,
    compute: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let ((m, n), k) = (product.shape(), product.k);
    if m == 0 || n == 0 {
        return;
    }
    if threads <= 1 || m.saturating_mul(n).saturating_mul(k) < PARALLEL_FROM {
        return compute(0..m, 0..n);
    }
    // Twice as many parts as threads, so that a disturbed thread does not hold up the rest, where a part stays
    // so long that packing the other side once more is nothing.
    let parts = if m.max(n) / threads >= LONG_PART { threads.saturating_mul(2) } else { threads };
    let tiles = (m.div_ceil(tile_rows), n.div_ceil(tile_cols));
    let (row_parts, col_parts) = grid(columns_first || n >= m, tiles, parts);
    let rows = m.div_ceil(tile_rows).div_ceil(row_parts) * tile_rows;
    let cols = n.div_ceil(tile_cols).div_ceil(col_parts) * tile_cols;
    let (row_parts, col_parts) = (m.div_ceil(rows), n.div_ceil(cols));
    (0..row_parts * col_parts).into_par_iter().with_max_len(1).for_each(|part| {
        let (i, j) = (part / col_parts * rows, part % col_parts * cols);
        compute(i..m.min(i + rows), j..n.min(j + cols));
    });
}

/// Into how many parts to cut the rows and the columns of C, given its size in tiles.
///
/// Every part of the rows packs all its columns of B, and every part of the columns all its rows of A: so the
/// longer side is cut first.
fn grid(columns_first: bool, (row_tiles, col_tiles): (usize, usize), parts: usize) -> (usize, usize) {
    if columns_first {
        let cols = parts.min(col_tiles);
        (parts.div_ceil(cols).min(row_tiles), cols)
    } else {
        let rows = parts.min(row_tiles);
        (rows, parts.div_ceil(rows).min(col_tiles))
    }
}
