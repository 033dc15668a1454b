//! One thread's rectangle of C: blocks of columns and of k, packing, and the tiles.
//!
//! Between two blocks of k the partial sums rest in C, as the `f32` they are, so blocking changes no bit.

use std::cell::RefCell;
use std::ops::Range;

use super::pack;
use super::tile::{self, Hardware, MultiplyAdd, Soft, Tile};
use crate::isa::Isa;
use crate::matrix::{Mat, MatMut, Op};

/// Most k of a block. Longer blocks carry a tile between registers and C less often; the panels of a tile,
/// `BLOCK_K` times NR and MR floats, come from the second-level cache as fast as they are used.
const BLOCK_K: usize = 512;
/// Most rows of A packed at once: with `BLOCK_K` columns half of a second-level cache.
const BLOCK_ROWS: usize = 240;
/// Most columns of B packed at once. A is packed anew for each such block.
const BLOCK_COLS: usize = 2048;
/// Up to so many columns, packing a plain A costs more than reading its rows where they lie.
pub(crate) const IN_PLACE_COLS: usize = 128;

/// A product, ready for any thread to compute any rectangle of it.
pub(crate) struct Product<'a> {
    a: Mat<'a>,
    op_a: Op,
    b: Mat<'a>,
    op_b: Op,
    c: *mut f32,
    c_shape: (usize, usize),
    c_stride: usize,
    k: usize,
    accumulate: bool,
    /// Holds C's exclusive borrow.
    _c: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: `c` is the only part that is not Sync by itself; it is only reached through `compute`, whose callers
// promise disjoint rectangles.
unsafe impl Sync for Product<'_> {}

impl<'a> Product<'a> {
    pub(crate) fn new(a: Mat<'a>, op_a: Op, b: Mat<'a>, op_b: Op, c: MatMut<'a>, accumulate: bool) -> Self {
        let (_, k) = a.shape(op_a);
        let (c_shape, c_stride) = ((c.rows, c.cols), c.stride);
        let c = c.data.as_mut_ptr();
        Product { a, op_a, b, op_b, c, c_shape, c_stride, k, accumulate, _c: std::marker::PhantomData }
    }

    /// Row `i` of C, columns `cols`, as a pointer to its first element.
    #[inline(always)]
    fn c_at(&self, i: usize, cols: Range<usize>) -> *mut f32 {
        assert!(i < self.c_shape.0 && cols.start <= cols.end && cols.end <= self.c_shape.1, "inside C");
        // SAFETY: MatMut checked when it was made that every (i, j) of its shape lies inside its slice.
        unsafe { self.c.add(i * self.c_stride + cols.start) }
    }

    #[inline(always)]
    fn load<const MR: usize, const NR: usize>(&self, rows: Range<usize>, cols: Range<usize>) -> Tile<MR, NR> {
        let mut tile = [[0.0; NR]; MR];
        for (i, out) in rows.zip(&mut tile) {
            let width = cols.len();
            let from = self.c_at(i, cols.clone());
            // SAFETY: `width` elements of row i lie inside C, and this thread alone has this rectangle.
            let from = unsafe { std::slice::from_raw_parts(from, width) };
            out[..width].copy_from_slice(from);
        }
        tile
    }

    #[inline(always)]
    fn store<const MR: usize, const NR: usize>(&self, rows: Range<usize>, cols: Range<usize>, tile: &Tile<MR, NR>) {
        for (i, from) in rows.zip(tile) {
            let width = cols.len();
            let to = self.c_at(i, cols.clone());
            // SAFETY: `width` elements of row i lie inside C, and this thread alone has this rectangle.
            let to = unsafe { std::slice::from_raw_parts_mut(to, width) };
            to.copy_from_slice(&from[..width]);
        }
    }
}

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
            clear::<NR>(product, rows, cols);
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
            let start = start::<MR, NR>(product, fresh, &rows, &cols);
            let tile = tile::packed::<F, MR, NR>(a, b, start);
            finish(product, rows, cols.clone(), &tile);
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
            let start = start::<MR, NR>(product, fresh, &rows, &cols);
            let tile = tile::in_place::<F, MR, NR>(a, b, start);
            finish(product, rows, cols.clone(), &tile);
        }
    }
}

/// The accumulators before a block of k: +0, or what C holds.
#[inline(always)]
fn start<const MR: usize, const NR: usize>(
    product: &Product,
    fresh: bool,
    rows: &Range<usize>,
    cols: &Range<usize>,
) -> Tile<MR, NR> {
    if fresh {
        [[0.0; NR]; MR]
    } else if rows.len() == MR && cols.len() == NR {
        // The same call with lengths that the compiler knows.
        product.load(rows.start..rows.start + MR, cols.start..cols.start + NR)
    } else {
        product.load(rows.clone(), cols.clone())
    }
}

/// Writes the accumulators to C.
#[inline(always)]
fn finish<const MR: usize, const NR: usize>(
    product: &Product,
    rows: Range<usize>,
    cols: Range<usize>,
    tile: &Tile<MR, NR>,
) {
    if rows.len() == MR && cols.len() == NR {
        product.store(rows.start..rows.start + MR, cols.start..cols.start + NR, tile);
    } else {
        product.store(rows, cols, tile);
    }
}

/// Sets a rectangle of C to +0.
#[inline(always)]
fn clear<const NR: usize>(product: &Product, rows: Range<usize>, cols: Range<usize>) {
    for i in rows {
        for j in cols.clone().step_by(NR) {
            product.store::<1, NR>(i..i + 1, j..cols.end.min(j + NR), &[[0.0; NR]]);
        }
    }
}
