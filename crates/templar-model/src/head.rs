//! The output head and the loss: logits of a few rows at a time, so memory does not grow with rows × vocabulary.
//!
//! Rows are independent in the logits and in the input's gradient, and the weight's gradient is a chain over ascending
//! rows that a later piece continues; so the size of a piece cannot be seen in the result.

use templar_numerics::{cross_entropy, cross_entropy_loss};

use crate::linear;

/// Logits held at a time: 16 MiB of them, but at least [`MIN_ROWS`] rows.
const LOGITS: usize = 1 << 22;
/// Fewest rows in a piece, so that a product is worth its packing at any vocabulary.
const MIN_ROWS: usize = 128;

fn piece_rows(vocab: usize, rows: usize) -> usize {
    (LOGITS / vocab).max(MIN_ROWS).min(rows)
}

/// What the head reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadInputs<'a> {
    /// The final norm's output, `[rows, hidden]`.
    pub(crate) normed: &'a [f32],
    /// `[vocab, hidden]`.
    pub(crate) weight: &'a [f32],
    /// Rows of the weight.
    pub(crate) vocab: usize,
    /// The tokens to predict, `[rows]`.
    pub(crate) targets: &'a [u32],
}

/// The gradients that leave the head.
#[derive(Debug)]
pub(crate) struct HeadGradients<'a> {
    /// Gradient of `normed`, `[rows, hidden]`, overwritten.
    pub(crate) normed: &'a mut [f32],
    /// Gradient of the weight, `[vocab, hidden]`, added to.
    pub(crate) weight: &'a mut [f32],
}

/// Fills `losses [rows]`, in nats; `logits` is a buffer.
pub(crate) fn losses(inputs: HeadInputs<'_>, logits: &mut Vec<f32>, losses: &mut [f32]) {
    let HeadInputs { normed, weight, vocab, targets } = inputs;
    let hidden = weight.len() / vocab;
    let piece = piece_rows(vocab, targets.len());
    logits.resize(piece * vocab, 0.0);
    let pieces = normed.chunks(piece * hidden).zip(targets.chunks(piece));
    for ((normed, targets), losses) in pieces.zip(losses.chunks_mut(piece)) {
        let logits = &mut logits[..targets.len() * vocab];
        linear::forward(normed, weight, logits, targets.len());
        cross_entropy_loss(logits, targets, losses);
    }
}

/// [`losses`], and the gradients of their sum times `grad_scale`.
pub(crate) fn losses_and_gradients(
    inputs: HeadInputs<'_>,
    grad_scale: f32,
    logits: &mut Vec<f32>,
    losses: &mut [f32],
    gradients: HeadGradients<'_>,
) {
    let HeadInputs { normed, weight, vocab, targets } = inputs;
    let hidden = weight.len() / vocab;
    let piece = piece_rows(vocab, targets.len());
    logits.resize(piece * vocab, 0.0);
    let pieces = normed.chunks(piece * hidden).zip(targets.chunks(piece));
    let outputs = losses.chunks_mut(piece).zip(gradients.normed.chunks_mut(piece * hidden));
    for ((normed, targets), (losses, dnormed)) in pieces.zip(outputs) {
        let rows = targets.len();
        let logits = &mut logits[..rows * vocab];
        linear::forward(normed, weight, logits, rows);
        cross_entropy(logits, targets, grad_scale, losses);
        linear::backward_input(logits, weight, dnormed, rows, false);
        linear::backward_weight(logits, normed, gradients.weight, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_never_empty() {
        assert_eq!(piece_rows(4096, 512), 512);
        assert_eq!(piece_rows(4096, 10_000), 1024);
        assert_eq!(piece_rows(262_144, 4096), MIN_ROWS);
        assert_eq!(piece_rows(262_144, 5), 5);
    }

    /// 1,300 rows at a vocabulary of 4,096 take two pieces; the rows' losses and gradients must be those of two calls,
    /// and the weight's gradient that of one chain.
    #[test]
    fn pieces_cannot_be_seen() {
        let (rows, hidden, vocab) = (1300, 2, 4096);
        let wave = |i: usize, step: usize| ((i * step) % 257) as f32 / 128.0 - 1.0;
        let normed: Vec<f32> = (0..rows * hidden).map(|i| wave(i, 31)).collect();
        let weight: Vec<f32> = (0..vocab * hidden).map(|i| wave(i, 57)).collect();
        let targets: Vec<u32> = (0..rows).map(|i| (i * 37 % vocab) as u32).collect();
        let run = |cuts: &[usize]| {
            let (mut losses, mut dnormed) = (vec![0.0; rows], vec![0.0; rows * hidden]);
            let (mut dweight, mut logits) = (vec![0.0; vocab * hidden], Vec::new());
            let mut start = 0;
            for &end in cuts {
                let normed = &normed[start * hidden..end * hidden];
                let inputs = HeadInputs { normed, weight: &weight, vocab, targets: &targets[start..end] };
                let gradients =
                    HeadGradients { normed: &mut dnormed[start * hidden..end * hidden], weight: &mut dweight };
                losses_and_gradients(inputs, 0.5, &mut logits, &mut losses[start..end], gradients);
                start = end;
            }
            (losses, dnormed, dweight)
        };
        assert_eq!(run(&[rows]), run(&[7, 500, 1299, rows]));
    }
}
