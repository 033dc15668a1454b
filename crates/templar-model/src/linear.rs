//! The three matrix products of a projection `y = x Wᵀ`, with the weight stored `[out, in]` as Hugging Face does.
//!
//! Each output element is one chain of fused multiply-adds in ascending order of the summed index, as `templar-numerics`
//! defines it, so projections whose weights lie next to each other may be taken together or apart with the same bits.

use templar_numerics::{Mat, MatMut, Op, gemm};

/// `y = x Wᵀ`; `x [rows, inputs]`, `weight [outputs, inputs]`, `y [rows, outputs]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], y: &mut [f32], rows: usize) {
    let (inputs, outputs) = (x.len() / rows, y.len() / rows);
    gemm(
        Mat::new(x, rows, inputs),
        Op::N,
        Mat::new(weight, outputs, inputs),
        Op::T,
        MatMut::new(y, rows, outputs),
        false,
    );
}

/// `dx = dy W`, or `dx += dy W`; shapes as in [`forward`].
pub(crate) fn backward_input(dy: &[f32], weight: &[f32], dx: &mut [f32], rows: usize, accumulate: bool) {
    let (inputs, outputs) = (dx.len() / rows, dy.len() / rows);
    gemm(
        Mat::new(dy, rows, outputs),
        Op::N,
        Mat::new(weight, outputs, inputs),
        Op::N,
        MatMut::new(dx, rows, inputs),
        accumulate,
    );
}

/// `dW += dyᵀ x`, rows ascending; shapes as in [`forward`].
pub(crate) fn backward_weight(dy: &[f32], x: &[f32], dweight: &mut [f32], rows: usize) {
    let (inputs, outputs) = (x.len() / rows, dy.len() / rows);
    gemm(
        Mat::new(dy, rows, outputs),
        Op::T,
        Mat::new(x, rows, inputs),
        Op::N,
        MatMut::new(dweight, outputs, inputs),
        true,
    );
}
