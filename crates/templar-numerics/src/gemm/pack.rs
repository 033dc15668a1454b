//! Packing: copies of a block of an operand in the order in which a tile reads it.
//!
//! A panel is `width` elements for each k, contiguous. At an edge of the matrix the missing elements are +0, and the
//! elements of C computed from them are never stored.

use std::ops::Range;

use crate::matrix::Mat;

/// Grows a thread's buffer, if needed, and returns `len` elements of it that begin at a cache line.
#[inline(always)]
pub(crate) fn aligned<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    const LINE: usize = 16;
    const { assert!(size_of::<T>() == 4, "sixteen elements in a line") };
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, T::default());
    }
    let start = buffer.as_ptr().align_offset(4 * LINE).min(LINE);
    &mut buffer[start..start + len]
}

/// Packs `wide` of a stored matrix's columns, for each of the rows `k`, into panels of `WIDTH`.
#[inline(always)]
pub(crate) fn rows<const WIDTH: usize>(from: &Mat, k: Range<usize>, wide: Range<usize>, to: &mut [f32]) {
    let panel_len = k.len() * WIDTH;
    for (panel, start) in to.chunks_exact_mut(panel_len).zip(wide.clone().step_by(WIDTH)) {
        let width = WIDTH.min(wide.end - start);
        for (out, l) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(k.clone()) {
            let row = &from.data[l * from.stride + start..][..width];
            if let Ok(row) = <&[f32; WIDTH]>::try_from(row) {
                *out = *row;
            } else {
                out[..width].copy_from_slice(row);
                out[width..].fill(0.0);
            }
        }
    }
}

/// Packs `wide` of a stored matrix's rows, for each of the columns `k`, into panels of `WIDTH`: a transposition.
#[inline(always)]
pub(crate) fn cols<const WIDTH: usize>(from: &Mat, k: Range<usize>, wide: Range<usize>, to: &mut [f32]) {
    const SIDE: usize = 4;
    let panel_len = k.len() * WIDTH;
    for (panel, start) in to.chunks_exact_mut(panel_len).zip(wide.clone().step_by(WIDTH)) {
        let width = WIDTH.min(wide.end - start);
        if width < WIDTH {
            panel.fill(0.0);
        }
        let panel = panel.as_chunks_mut::<WIDTH>().0;
        let row = |i: usize| &from.data[(start + i) * from.stride + k.start..][..k.len()];
        let squares = width / SIDE * SIDE;
        for i in (0..squares).step_by(SIDE) {
            let quads = [row(i), row(i + 1), row(i + 2), row(i + 3)].map(|r| r.as_chunks::<SIDE>().0);
            let (out, rest) = panel.as_chunks_mut::<SIDE>();
            for (l, out) in out.iter_mut().enumerate() {
                let square = [quads[0][l], quads[1][l], quads[2][l], quads[3][l]];
                for (x, out) in out.iter_mut().enumerate() {
                    for y in 0..SIDE {
                        out[i + y] = square[y][x];
                    }
                }
            }
            let done = k.len() - rest.len();
            for (x, out) in rest.iter_mut().enumerate() {
                for y in 0..SIDE {
                    out[i + y] = row(i + y)[done + x];
                }
            }
        }
        for i in squares..width {
            for (out, x) in panel.iter_mut().zip(row(i)) {
                out[i] = *x;
            }
        }
    }
}
