//! Softmax of one row and its gradient.

use crate::elementary;
use crate::kernel::kernel;
use crate::reduce;

kernel! {
    fn softmax_row(row: &mut [f32]) {
        let inverse = 1.0 / exponentials(row, reduce::max(row));
        row.iter_mut().for_each(|v| *v *= inverse);
    }
}

kernel! {
    fn softmax_backward_row(p: &[f32], dp: &[f32], ds: &mut [f32]) {
        let d = reduce::lanes2(p, dp, |p, dp| p * dp);
        for ((ds, p), dp) in ds.iter_mut().zip(p).zip(dp) {
            *ds = p * (dp - d);
        }
    }
}

/// Replaces a row by `exp(x - max)` and returns the sum.
#[inline(always)]
pub(crate) fn exponentials(row: &mut [f32], max: f32) -> f32 {
    row.iter_mut().for_each(|v| *v = elementary::exp(*v - max));
    reduce::lanes(row, |v| v)
}
