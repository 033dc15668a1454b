//! RMSNorm and its gradients (Zhang and Sennrich 2019, in the form of Llama).

use rayon::prelude::*;

use crate::isa::Isa;
use crate::kernel::{PARALLEL_COPY, grain, kernel};
use crate::reduce;

/// Columns of `dweight` that one task sums over all rows.
const COLUMNS: usize = 128;

pub(crate) fn rms_norm_with(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
    check(x.len(), weight.len(), out.len(), inv_rms.len());
    let width = weight.len();
    if width == 0 {
        // 0 / 0 as the twin has it: no element will see it.
        return inv_rms.fill(f32::NAN);
    }
    let grain = grain(x.len(), width, PARALLEL_COPY);
    let tasks = out.par_chunks_mut(grain).zip(x.par_chunks(grain)).zip(inv_rms.par_chunks_mut(grain / width));
    tasks.for_each(|((out, x), inv_rms)| forward_rows(isa, x, weight, eps, out, inv_rms));
}

pub(crate) fn rms_norm_backward_with(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    inv_rms: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    check(x.len(), weight.len(), dy.len(), inv_rms.len());
    check(x.len(), dweight.len(), dx.len(), inv_rms.len());
    let width = weight.len();
    if width == 0 {
        return;
    }
    let grain = grain(x.len(), width, PARALLEL_COPY);
    let tasks = dx.par_chunks_mut(grain).zip(x.par_chunks(grain)).zip(dy.par_chunks(grain));
    let tasks = tasks.zip(inv_rms.par_chunks(grain / width));
    tasks.for_each(|(((dx, x), dy), inv_rms)| input_rows(isa, x, weight, inv_rms, dy, dx));
    if grain >= x.len() {
        return weight_columns(isa, x, inv_rms, dy, 0, width, dweight);
    }
    dweight.par_chunks_mut(COLUMNS).enumerate().for_each(|(i, dweight)| {
        weight_columns(isa, x, inv_rms, dy, i * COLUMNS, width, dweight);
    });
}

kernel! {
    fn forward_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
        let width = weight.len();
        for ((x, out), inv) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(inv_rms) {
            *inv = 1.0 / (reduce::lanes(x, |x| x * x) / width as f32 + eps).sqrt();
            for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                *out = (x * *inv) * w;
            }
        }
    }
}

kernel! {
    fn input_rows(x: &[f32], weight: &[f32], inv_rms: &[f32], dy: &[f32], dx: &mut [f32]) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), inv) in rows.zip(inv_rms) {
            // t goes through dx's row only as a value: dy · weight is the same product both times.
            let d = dot3(dy, weight, x);
            let c = (inv * inv) * (d / width as f32);
            for (((dx, x), dy), w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                *dx += inv * (dy * w - x * c);
            }
        }
    }
}

kernel! {
    /// Columns `first..` of `dweight`, over all rows.
    fn weight_columns(x: &[f32], inv_rms: &[f32], dy: &[f32], first: usize, width: usize, dweight: &mut [f32]) {
        for ((x, dy), inv) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(inv_rms) {
            for ((dw, x), dy) in dweight.iter_mut().zip(&x[first..]).zip(&dy[first..]) {
                *dw += dy * (x * inv);
            }
        }
    }
}

/// The 32-lane sum of `(a · b) · c`.
#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let width = a.len();
    let (b, c) = (&b[..width], &c[..width]);
    let mut lanes = [0.0f32; reduce::LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest), (c_chunks, c_rest)) = (a.as_chunks(), b.as_chunks(), c.as_chunks());
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        let (a, b, c): (&[f32; reduce::LANES], &[f32; reduce::LANES], &[f32; reduce::LANES]) = (a, b, c);
        for i in 0..reduce::LANES {
            lanes[i] += (a[i] * b[i]) * c[i];
        }
    }
    for (((lane, a), b), c) in lanes.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
        *lane += (a * b) * c;
    }
    reduce::tree(lanes, |a, b| a + b)
}

/// Checks that all are `[rows, width]` with one `inv_rms` a row.
pub(crate) fn check(x: usize, width: usize, out: usize, rows: usize) {
    assert!(
        x == out && Some(x) == rows.checked_mul(width),
        "RMSNorm of {x} elements into {out}, as {rows} rows of {width}"
    );
}
