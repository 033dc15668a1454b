//! Softmax cross-entropy of logits against target ids, with its gradient, in nats.

use rayon::prelude::*;

use crate::elementary::{exp, ln};
use crate::isa::Isa;
use crate::kernel::{PARALLEL_EXP, grain, kernel};
use crate::reduce;
use crate::softmax::exponentials;

pub(crate) fn cross_entropy_with(isa: Isa, logits: &mut [f32], targets: &[u32], grad_scale: f32, losses: &mut [f32]) {
    let vocab = check(logits.len(), targets, losses.len());
    if vocab == 0 {
        return;
    }
    let grain = grain(logits.len(), vocab, PARALLEL_EXP);
    let tasks = logits.par_chunks_mut(grain).zip(targets.par_chunks(grain / vocab));
    tasks.zip(losses.par_chunks_mut(grain / vocab)).for_each(|((logits, targets), losses)| {
        for ((row, target), loss) in logits.chunks_exact_mut(vocab).zip(targets).zip(losses) {
            *loss = row_with_gradient(isa, row, *target as usize, grad_scale);
        }
    });
}

pub(crate) fn cross_entropy_loss_with(isa: Isa, logits: &[f32], targets: &[u32], losses: &mut [f32]) {
    let vocab = check(logits.len(), targets, losses.len());
    if vocab == 0 {
        return;
    }
    let grain = grain(logits.len(), vocab, PARALLEL_EXP);
    let tasks = logits.par_chunks(grain).zip(targets.par_chunks(grain / vocab));
    tasks.zip(losses.par_chunks_mut(grain / vocab)).for_each(|((logits, targets), losses)| {
        for ((row, target), loss) in logits.chunks_exact(vocab).zip(targets).zip(losses) {
            *loss = row_loss(isa, row, *target as usize);
        }
    });
}

kernel! {
    fn row_with_gradient(row: &mut [f32], target: usize, grad_scale: f32) -> f32 {
        let m = reduce::max(row);
        let shifted = row[target] - m;
        let s = exponentials(row, m);
        let inverse = 1.0 / s;
        let at_target = (row[target] * inverse - 1.0) * grad_scale;
        row.iter_mut().for_each(|v| *v = (*v * inverse) * grad_scale);
        row[target] = at_target;
        ln(s) - shifted
    }
}

kernel! {
    fn row_loss(row: &[f32], target: usize) -> f32 {
        let m = reduce::max(row);
        ln(reduce::lanes(row, |v| exp(v - m))) - (row[target] - m)
    }
}

/// Checks shapes and targets; returns the vocabulary's size.
pub(crate) fn check(logits: usize, targets: &[u32], losses: usize) -> usize {
    assert_eq!(targets.len(), losses, "cross-entropy: one loss a target");
    let vocab = logits.checked_div(targets.len()).unwrap_or(0);
    assert_eq!(vocab * targets.len(), logits, "cross-entropy: {logits} logits for {} targets", targets.len());
    if let Some(target) = targets.iter().find(|t| **t as usize >= vocab) {
        panic!("cross-entropy: target {target} outside a vocabulary of {vocab}");
    }
    vocab
}
