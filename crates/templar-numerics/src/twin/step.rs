//! The parts of a training step that surround the kernels: gathering and scattering embeddings, the sum of
//! losses, the gradient's norm and its clipping, and the numbers of an AdamW step. Each is a few operations in
//! a stated order.

use super::{scale_in_place, squared_norm_f64};
use crate::adamw::AdamW;

/// `out` `[ids, width]`: row r is row `ids[r]` of `table` `[vocab, width]`, copied.
///
/// # Panics
/// If an id has no row or the lengths do not agree.
pub fn embedding(table: &[f32], width: usize, ids: &[u32], out: &mut [f32]) {
    for (r, id) in ids.iter().enumerate() {
        out[r * width..][..width].copy_from_slice(&table[*id as usize * width..][..width]);
    }
}

/// Adds row r of `dout` `[ids, width]` to row `ids[r]` of `dtable`, rows ascending: an id that comes twice gets
/// the earlier row first.
///
/// # Panics
/// As [`embedding`].
pub fn embedding_backward(dout: &[f32], width: usize, ids: &[u32], dtable: &mut [f32]) {
    for (r, id) in ids.iter().enumerate() {
        for j in 0..width {
            dtable[*id as usize * width + j] += dout[r * width + j];
        }
    }
}

/// The losses added in `f64`, from +0, in token order.
pub fn sum_of_losses(losses: &[f32]) -> f64 {
    let mut sum = 0.0;
    for loss in losses {
        sum += f64::from(*loss);
    }
    sum
}

/// The global norm of a gradient given tensor by tensor: the root of the tensors' [`squared_norm_f64`], added
/// from +0 in their order.
pub fn gradient_norm(tensors: &[&mut [f32]]) -> f64 {
    let mut squares = 0.0;
    for tensor in tensors {
        squares += squared_norm_f64(tensor);
    }
    squares.sqrt()
}

/// Multiplies a gradient whose [`gradient_norm`] is above `limit` by `limit / norm`, divided in `f64` and
/// rounded to `f32`. Returns the norm before. A limit of 0 leaves everything as it is.
pub fn clip(tensors: &mut [&mut [f32]], limit: f64) -> f64 {
    let norm = gradient_norm(tensors);
    if limit > 0.0 && norm > limit {
        let factor = (limit / norm) as f32;
        for tensor in tensors {
            scale_in_place(tensor, factor);
        }
    }
    norm
}

/// `base^exponent` by squaring: the exponent's bits from the lowest; a set bit multiplies the result by the
/// present square, and after each bit the square is squared.
pub fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

/// The numbers of step `t` (from 1): betas and weight decay are parts per million, divided by 1e6 in `f64`; the bias
/// corrections come from those `f64`, and each is rounded once. A one-dimensional tensor has no weight decay.
pub fn adamw_settings(t: u64, lr: f32, beta1_ppm: u32, beta2_ppm: u32, eps: f32, weight_decay_ppm: u32) -> AdamW {
    let part = |ppm: u32| f64::from(ppm) / 1e6;
    let (beta1, beta2) = (part(beta1_ppm), part(beta2_ppm));
    AdamW {
        lr,
        beta1: beta1 as f32,
        beta2: beta2 as f32,
        eps,
        weight_decay: part(weight_decay_ppm) as f32,
        bias1: (1.0 - power(beta1, t)) as f32,
        bias2: (1.0 - power(beta2, t)) as f32,
    }
}
