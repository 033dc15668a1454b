//! A product with its operands, and how a tile of C is read and written.

use std::ops::Range;

use super::tile::Tile;
use crate::matrix::{Mat, MatMut, Op, product_shape};

/// A product, ready for any thread to compute any rectangle of it.
pub(crate) struct Product<'a> {
    pub(crate) a: Mat<'a>,
    pub(crate) op_a: Op,
    pub(crate) b: Mat<'a>,
    pub(crate) op_b: Op,
    c: *mut f32,
    c_shape: (usize, usize),
    c_stride: usize,
    pub(crate) k: usize,
    pub(crate) accumulate: bool,
    /// Holds C's exclusive borrow.
    _c: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: `c` is the only part that is not Sync by itself; it is only reached by functions that compute a
// rectangle, whose callers promise that rectangles computed at the same time do not overlap.
unsafe impl Sync for Product<'_> {}

impl<'a> Product<'a> {
    /// # Panics
    /// If the shapes do not agree.
    pub(crate) fn new(a: Mat<'a>, op_a: Op, b: Mat<'a>, op_b: Op, c: MatMut<'a>, accumulate: bool) -> Self {
        let (_, _, k) = product_shape(&a, op_a, &b, op_b, &c);
        let (c_shape, c_stride) = ((c.rows, c.cols), c.stride);
        let c = c.data.as_mut_ptr();
        Product { a, op_a, b, op_b, c, c_shape, c_stride, k, accumulate, _c: std::marker::PhantomData }
    }

    /// Rows and columns of C.
    pub(crate) fn shape(&self) -> (usize, usize) {
        self.c_shape
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

    /// The accumulators before a block of k: +0, or what C holds.
    #[inline(always)]
    pub(crate) fn start<const MR: usize, const NR: usize>(
        &self,
        fresh: bool,
        rows: &Range<usize>,
        cols: &Range<usize>,
    ) -> Tile<MR, NR> {
        if fresh {
            [[0.0; NR]; MR]
        } else if rows.len() == MR && cols.len() == NR {
            // The same call with lengths that the compiler knows.
            self.load(rows.start..rows.start + MR, cols.start..cols.start + NR)
        } else {
            self.load(rows.clone(), cols.clone())
        }
    }

    /// Writes the accumulators to C.
    #[inline(always)]
    pub(crate) fn finish<const MR: usize, const NR: usize>(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
        tile: &Tile<MR, NR>,
    ) {
        if rows.len() == MR && cols.len() == NR {
            self.store(rows.start..rows.start + MR, cols.start..cols.start + NR, tile);
        } else {
            self.store(rows, cols, tile);
        }
    }

    /// Sets a rectangle of C to +0.
    #[inline(always)]
    pub(crate) fn clear<const NR: usize>(&self, rows: Range<usize>, cols: Range<usize>) {
        for i in rows {
            for j in cols.clone().step_by(NR) {
                self.store::<1, NR>(i..i + 1, j..cols.end.min(j + NR), &[[0.0; NR]]);
            }
        }
    }
}
