//! Sums over tokens, in which the scale of a token lies inside the sum and moves to the other factor.

use super::region::multiply;
use super::scale::{BLOCK, Exponents, split_rows};
use super::unit::Unit;
use crate::isa::Isa;
use crate::kernel::kernel;
use crate::matrix::{Mat, MatMut, Op};

/// The buffers of such sums, kept from one to the next.
#[derive(Default)]
pub(crate) struct TokenBuffers {
    mantissas: Vec<f32>,
    /// One for each token and block of the width.
    factors: Vec<f32>,
    /// The factors of one block of the width.
    of_block: Vec<f32>,
    moved: Vec<f32>,
}

/// `C = op(P)·Y [+ C]` with Y `[tokens, width]`, which is quantised along the width.
pub(crate) fn over_tokens(
    (isa, unit): (Isa, Unit),
    (p, op_p): (Mat, Op),
    y: Mat,
    c: MatMut,
    accumulate: bool,
    buffers: &mut TokenBuffers,
) {
    let (tokens, width, blocks) = (y.rows, y.cols, y.cols.div_ceil(BLOCK));
    let TokenBuffers { mantissas, factors, of_block, moved } = buffers;
    mantissas.resize(tokens * width, 0.0);
    factors.resize(tokens * blocks, 0.0);
    split_rows(isa, y.data, y.stride, width, mantissas, factors);
    moved.resize(p.rows * p.cols, 0.0);
    for block in 0..blocks {
        of_block.clear();
        of_block.extend(factors.iter().skip(block).step_by(blocks));
        for (row, out) in moved.chunks_exact_mut(p.cols).enumerate() {
            let p = &p.data[row * p.stride..][..p.cols];
            match op_p {
                Op::N => move_to_columns(isa, p, of_block, out),
                Op::T => move_to_row(isa, p, of_block[row], out),
            }
        }
        let first = block * BLOCK;
        let cols = BLOCK.min(width - first);
        let mantissas = Mat::strided(&mantissas[first..], tokens, cols, width);
        let c = MatMut::strided(&mut c.data[first..], c.rows, cols, c.stride);
        let p = Mat::new(moved, p.rows, p.cols);
        multiply(unit, 1, (p, op_p), (mantissas, Op::N, Exponents::OfMantissas), c, accumulate);
    }
}

/// `p·factor`, but +0 where p is zero: a token that a row does not see gives it nothing, not even NaN.
#[inline(always)]
fn moved(p: f32, factor: f32) -> f32 {
    if p == 0.0 { 0.0 } else { p * factor }
}

kernel! {
    fn move_to_columns(p: &[f32], factors: &[f32], out: &mut [f32]) {
        for ((out, p), factor) in out.iter_mut().zip(p).zip(factors) {
            *out = moved(*p, *factor);
        }
    }
}

kernel! {
    fn move_to_row(p: &[f32], factor: f32, out: &mut [f32]) {
        for (out, p) in out.iter_mut().zip(p) {
            *out = moved(*p, factor);
        }
    }
}
