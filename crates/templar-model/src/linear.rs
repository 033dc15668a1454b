//! The three matrix products of a projection `y = x Wᵀ`, with the weight stored `[out, in]` as Hugging Face does.
//!
//! Each output element is one sum over ascending indices in the order that the arithmetic defines, so
//! projections whose weights lie next to each other may be taken together or apart with the same bits.

use templar_device::{Device, Matrix, MatrixMut, View, ViewMut};

/// `y = x Wᵀ`; `x [rows, inputs]`, `weight [outputs, inputs]`, `y [rows, outputs]`.
pub(crate) fn forward(device: &dyn Device, x: View<'_>, weight: View<'_>, y: ViewMut<'_>, rows: u64) {
    let outputs = y.len() / rows;
    let weight = Matrix::new(weight, outputs).transposed();
    device.gemm(Matrix::new(x, rows), weight, MatrixMut::new(y, rows), false);
}

/// Whether a gradient begins anew, or goes on from what its buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Its chains begin at +0.
    Begins,
    /// Its chains begin with what the buffer holds.
    GoesOn,
}

/// `dx = dy W`, or `dx += dy W`; `dy [rows, outputs]`, `weight [outputs, inputs]`, `dx [rows, inputs]`.
pub(crate) fn backward_input(device: &dyn Device, dy: Matrix<'_>, weight: View<'_>, dx: ViewMut<'_>, sum: Sum) {
    let (rows, outputs) = (dy.rows, dy.cols);
    device.gemm(dy, Matrix::new(weight, outputs), MatrixMut::new(dx, rows), sum == Sum::GoesOn);
}

/// `dW = dyᵀ x`, or `dW += dyᵀ x`, rows ascending; shapes as in [`forward`].
pub(crate) fn backward_weight(device: &dyn Device, dy: Matrix<'_>, x: View<'_>, dweight: ViewMut<'_>, sum: Sum) {
    let (rows, outputs) = (dy.rows, dy.cols);
    let dweight = MatrixMut::new(dweight, outputs);
    device.gemm(dy.transposed(), Matrix::new(x, rows), dweight, sum == Sum::GoesOn);
}
