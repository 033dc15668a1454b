//! The inner optimiser's step.

use rayon::prelude::*;

use crate::isa::Isa;
use crate::kernel::{PARALLEL_EXP, grain, kernel};

/// The numbers of one AdamW step. All in `f32`; the caller computes the schedule and the bias corrections in
/// `f64` and rounds once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the unbiased second moment.
    pub eps: f32,
    /// Decoupled weight decay, multiplied by `lr`.
    pub weight_decay: f32,
    /// `1 - beta1^t`, t counted from 1.
    pub bias1: f32,
    /// `1 - beta2^t`, as for `bias1`.
    pub bias2: f32,
}

pub(crate) fn adamw_with(isa: Isa, settings: &AdamW, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    let n = params.len();
    assert!([grads.len(), m.len(), v.len()] == [n; 3], "an AdamW step over different lengths");
    let grain = grain(n, 1, PARALLEL_EXP);
    let tasks = params.par_chunks_mut(grain).zip(grads.par_chunks(grain));
    let tasks = tasks.zip(m.par_chunks_mut(grain)).zip(v.par_chunks_mut(grain));
    tasks.for_each(|(((params, grads), m), v)| step(isa, settings, params, grads, m, v));
}

kernel! {
    fn step(settings: &AdamW, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
        let AdamW { lr, beta1, beta2, eps, weight_decay, bias1, bias2 } = *settings;
        let (new1, new2) = (1.0 - beta1, 1.0 - beta2);
        let keep = 1.0 - lr * weight_decay;
        let size = lr / bias1;
        let unbias = 1.0 / bias2;
        for (((p, g), m), v) in params.iter_mut().zip(grads).zip(m).zip(v) {
            *m = beta1 * *m + new1 * g;
            *v = beta2 * *v + new2 * (g * g);
            *p = *p * keep - (size * *m) / ((*v * unbias).sqrt() + eps);
        }
    }
}
