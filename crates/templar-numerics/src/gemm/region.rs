//! One thread's rectangle of C: blocks of columns and of k, packing, and the tiles.
//!
//! Between two blocks of k the partial sums rest in C, as the `f32` they are, so blocking changes no bit.

use std::cell::RefCell;
use std::ops::Range;

use super::pack;
use super::product::Product;
use super::tile::{self, Hardware, MultiplyAdd, Soft};
use crate::isa::Isa;
use crate::matrix::Op;

/// Most k of a block. Longer blocks carry a tile between registers and C less often; the panels of a tile,
/// `BLOCK_K` times NR and MR floats, come from the second-level cache as fast as they are used.
const BLOCK_K: usize = 512;
/// Most rows of A packed at once: with `BLOCK_K` columns half of a second-level cache.
const BLOCK_ROWS: usize = 240;
/// Most columns of B packed at once. A is packed anew for each such block.
const BLOCK_COLS: usize = 2048;
/// Up to so many columns, packing a plain A costs more than reading its rows where they lie.
pub(crate) const IN_PLACE_COLS: usize = 128;

/// Buffers of a thread, kept between calls.
#[derive(Default)]
struct Buffers {
    a: Vec<f32>,
    b: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Rows and columns of a tile.
pub(crate) fn tile_shape(isa: Isa) -> (usize, usize) {
    match isa {
        Isa::Soft => (4, 8),
        Isa::Avx2 => (6, 16),
        Isa::Avx512 => (12, 32),
        Isa::Neon => (8, 12),
    }
}

/// Computes a rectangle of C.
///
/// # Safety
/// `isa` must be available on this machine, and rectangles computed at the same time must not overlap.
pub(crate) unsafe fn compute(isa: Isa, product: &Product, rows: Range<usize>, cols: Range<usize>) {
    BUFFERS.with_borrow_mut(|buffers| match isa {
        // SAFETY: the caller says that this machine has the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(product, rows, cols, buffers) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(product, rows, cols, buffers) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => region::<Hardware, 8, 12>(product, rows, cols, buffers),
        _ => region::<Soft, 4, 8>(product, rows, cols, buffers),
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(product: &Product, rows: Range<usize>, cols: Range<usize>, buffers: &mut Buffers) {
    region::<Hardware, 12, 32>(product, rows, cols, buffers);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(product: &Product, rows: Range<usize>, cols: Range<usize>, buffers: &mut Buffers) {
    region::<Hardware, 6, 16>(product, rows, cols, buffers);
}

#[inline(always)]
fn region<F: MultiplyAdd, const MR: usize, const NR: usize>(
    product: &Product,
    rows: Range<usize>,
    cols: Range<usize>,
    buffers: &mut Buffers,
) {
    if product.k == 0 {
        if !product.accumulate {
            product.clear::<NR>(rows, cols);
        }
        return;
    }
    // Blocks of equal size rather than full ones and a thin rest.
    let block_k = product.k.div_ceil(product.k.div_ceil(BLOCK_K));
    for first_col in cols.clone().step_by(BLOCK_COLS) {
        let cols = first_col..cols.end.min(first_col + BLOCK_COLS);
        for first_k in (0..product.k).step_by(block_k) {
            let k = first_k..product.k.min(first_k + block_k);
            let packed_b = pack::aligned(&mut buffers.b, cols.len().div_ceil(NR) * NR * k.len());
            match product.op_b {
                Op::N => pack::rows::<NR>(&product.b, k.clone(), cols.clone(), packed_b),
                Op::T => pack::cols::<NR>(&product.b, k.clone(), cols.clone(), packed_b),
            }
            for first_row in rows.clone().step_by(BLOCK_ROWS / MR * MR) {
                let rows = first_row..rows.end.min(first_row + BLOCK_ROWS / MR * MR);
                if product.op_a == Op::N && cols.len() <= IN_PLACE_COLS {
                    strip_in_place::<F, MR, NR>(product, rows, cols.clone(), k.clone(), packed_b);
                    continue;
                }
                let packed_a = pack::aligned(&mut buffers.a, rows.len().div_ceil(MR) * MR * k.len());
                match product.op_a {
                    Op::N => pack::cols::<MR>(&product.a, k.clone(), rows.clone(), packed_a),
                    Op::T => pack::rows::<MR>(&product.a, k.clone(), rows.clone(), packed_a),
                }
                strip_packed::<F, MR, NR>(product, rows, cols.clone(), k.clone(), packed_a, packed_b);
            }
        }
    }
}

/// All tiles of a block of rows and columns over one block of k, A packed.
#[inline(always)]
fn strip_packed<F: MultiplyAdd, const MR: usize, const NR: usize>(
    product: &Product,
    rows: Range<usize>,
    cols: Range<usize>,
    k: Range<usize>,
    packed_a: &[f32],
    packed_b: &[f32],
) {
    let fresh = k.start == 0 && !product.accumulate;
    for (j, b) in cols.clone().step_by(NR).zip(packed_b.chunks_exact(k.len() * NR)) {
        let cols = j..cols.end.min(j + NR);
        for (i, a) in rows.clone().step_by(MR).zip(packed_a.chunks_exact(k.len() * MR)) {
            let rows = i..rows.end.min(i + MR);
            let start = product.start::<MR, NR>(fresh, &rows, &cols);
            let tile = tile::packed::<F, MR, NR>(a, b, start);
            product.finish(rows, cols.clone(), &tile);
        }
    }
}

/// The same, A read in place.
#[inline(always)]
fn strip_in_place<F: MultiplyAdd, const MR: usize, const NR: usize>(
    product: &Product,
    rows: Range<usize>,
    cols: Range<usize>,
    k: Range<usize>,
    packed_b: &[f32],
) {
    let fresh = k.start == 0 && !product.accumulate;
    let a = &product.a;
    for (j, b) in cols.clone().step_by(NR).zip(packed_b.chunks_exact(k.len() * NR)) {
        let cols = j..cols.end.min(j + NR);
        for i in rows.clone().step_by(MR) {
            let rows = i..rows.end.min(i + MR);
            // Rows beyond the edge read the last row again; their results are not stored.
            let a = std::array::from_fn(|r| {
                let row = (i + r).min(rows.end - 1);
                &a.data[row * a.stride + k.start..][..k.len()]
            });
            let start = product.start::<MR, NR>(fresh, &rows, &cols);
            let tile = tile::in_place::<F, MR, NR>(a, b, start);
            product.finish(rows, cols.clone(), &tile);
        }
    }
}
