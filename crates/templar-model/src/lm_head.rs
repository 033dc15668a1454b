//! The output head and the loss: logits of a few rows at a time, so memory does not grow with rows × vocabulary.
//!
//! Rows are independent in the logits and in the input's gradient, and the weight's gradient is a chain over
//! ascending rows that a later piece continues; so the size of a piece cannot be seen in the result.

use templar_device::{Buffer, Device, DeviceError, Matrix, View, ViewMut};

use crate::linear::{self, Sum};

/// Logits held at a time: 16 MiB of them, but at least [`MIN_ROWS`] rows.
const LOGITS: u64 = 1 << 22;
/// Fewest rows in a piece, so that a product is worth its packing at any vocabulary.
const MIN_ROWS: u64 = 128;

fn piece_rows(vocab: u64, rows: u64) -> u64 {
    (LOGITS / vocab).max(MIN_ROWS).min(rows)
}

/// The inputs of the output head.
#[derive(Debug, Clone)]
pub(crate) struct LmHeadInputs<'a> {
    /// The final norm's output, `[rows, hidden]`.
    pub(crate) normed: View<'a>,
    /// The head's weight, `[vocab, hidden]`.
    pub(crate) weight: View<'a>,
    /// Rows of the weight.
    pub(crate) vocab: u64,
    /// The tokens to predict, `[rows]`.
    pub(crate) targets: View<'a, u32>,
    /// The number of rows whose logits are held at a time.
    rows_at_once: u64,
}

impl<'a> LmHeadInputs<'a> {
    /// The head's `weight [vocab, hidden]` for rows `normed` and their `targets`.
    pub(crate) fn new(normed: View<'a>, weight: View<'a>, vocab: u64, targets: View<'a, u32>) -> Self {
        let rows_at_once = piece_rows(vocab, targets.len());
        Self { normed, weight, vocab, targets, rows_at_once }
    }
}

/// The buffers that the output head writes, beside its gradients.
#[derive(Debug)]
pub(crate) struct LmHeadOutputs<'a> {
    /// Room for the logits of some rows.
    pub(crate) logits: &'a mut Buffer,
    /// Negative log-likelihood of each target in nats, `[rows]`.
    pub(crate) losses: &'a mut Buffer,
}

/// The gradients that leave the output head.
#[derive(Debug)]
pub(crate) struct LmHeadGradients<'a> {
    /// Gradient of `normed`, `[rows, hidden]`, overwritten.
    pub(crate) normed: &'a mut Buffer,
    /// Gradient of the weight, `[vocab, hidden]`, overwritten.
    pub(crate) weight: ViewMut<'a>,
}

/// Some rows of a micro-batch.
struct LogitsPiece<'a> {
    rows: std::ops::Range<u64>,
    /// The same rows of a `[rows, hidden]` buffer.
    hidden: std::ops::Range<u64>,
    /// The logits of so many rows, from the start of their buffer.
    logits: std::ops::Range<u64>,
    normed: View<'a>,
    targets: View<'a, u32>,
}

/// The pieces of a micro-batch in order, once there is room for the logits of the first and largest.
fn pieces<'a>(
    device: &dyn Device,
    inputs: &LmHeadInputs<'a>,
    logits: &mut Buffer,
) -> Result<Vec<LogitsPiece<'a>>, DeviceError> {
    let (vocab, rows) = (inputs.vocab, inputs.targets.len());
    let hidden = inputs.weight.len() / vocab;
    let most = inputs.rows_at_once;
    device.resize(logits, most * vocab)?;
    let piece = |start: u64| {
        let end = rows.min(start + most);
        let hidden = start * hidden..end * hidden;
        LogitsPiece {
            normed: inputs.normed.part(hidden.clone()),
            targets: inputs.targets.part(start..end),
            rows: start..end,
            hidden,
            logits: 0..(end - start) * vocab,
        }
    };
    Ok((0..rows).step_by(most as usize).map(piece).collect())
}

/// Computes the losses of all rows, piece by piece.
pub(crate) fn losses(
    device: &dyn Device,
    inputs: &LmHeadInputs<'_>,
    outputs: LmHeadOutputs<'_>,
) -> Result<(), DeviceError> {
    let LmHeadOutputs { logits, losses } = outputs;
    for LogitsPiece { rows, logits: place, normed, targets, .. } in pieces(device, inputs, logits)? {
        linear::forward(device, normed, inputs.weight.clone(), logits.view_mut(place.clone()), targets.len());
        device.cross_entropy_loss(logits.view(place), targets, losses.view_mut(rows));
    }
    Ok(())
}

/// The logits of the rows with these numbers, `[rows, vocab]`, out of all rows `normed` and the head's `weight`.
pub(crate) fn logits_of_rows(
    device: &dyn Device,
    normed: View<'_>,
    weight: View<'_>,
    hidden: u64,
    rows: &[u32],
) -> Result<Vec<f32>, DeviceError> {
    let mut ids = Buffer::default();
    device.upload_ids(rows, &mut ids)?;
    let count = rows.len() as u64;
    let mut gathered = device.zeros(count * hidden)?;
    // The rows are gathered out of a table, as an embedding's are.
    device.embedding(normed, ids.all(), gathered.all_mut());
    let mut logits = device.zeros(count * (weight.len() / hidden))?;
    linear::forward(device, gathered.all(), weight, logits.all_mut(), count);
    device.download(logits)
}

/// [`losses`], and the gradients of their sum times `grad_scale`.
pub(crate) fn losses_and_gradients(
    device: &dyn Device,
    inputs: &LmHeadInputs<'_>,
    grad_scale: f32,
    outputs: LmHeadOutputs<'_>,
    gradients: LmHeadGradients<'_>,
) -> Result<(), DeviceError> {
    let LmHeadOutputs { logits, losses } = outputs;
    let LmHeadGradients { normed: dnormed, weight: mut dweight } = gradients;
    let whole = 0..dweight.len();
    for LogitsPiece { rows, hidden, logits: place, normed, targets } in pieces(device, inputs, logits)? {
        let count = targets.len();
        linear::forward(device, normed.clone(), inputs.weight.clone(), logits.view_mut(place.clone()), count);
        device.cross_entropy(logits.view_mut(place.clone()), targets, grad_scale, losses.view_mut(rows.clone()));
        let dlogits = Matrix::new(logits.view(place), count);
        let dnormed = dnormed.view_mut(hidden);
        linear::backward_input(device, dlogits.clone(), inputs.weight.clone(), dnormed, Sum::Begins);
        let sum = if rows.start == 0 { Sum::Begins } else { Sum::GoesOn };
        linear::backward_weight(device, dlogits, normed, dweight.part(whole.clone()), sum);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use templar_device::Cpu;

    use super::*;

    #[test]
    fn pieces_are_bounded_and_never_empty() {
        assert_eq!(piece_rows(4096, 512), 512);
        assert_eq!(piece_rows(4096, 10_000), 1024);
        assert_eq!(piece_rows(262_144, 4096), MIN_ROWS);
        assert_eq!(piece_rows(262_144, 5), 5);
    }

    /// 1,300 rows at a vocabulary of 4,096 take two pieces. With pieces of any size the rows' losses and gradients
    /// are the same, and each element of the weight's gradient is one chain.
    #[test]
    fn pieces_cannot_be_seen() {
        let (rows, hidden, vocab) = (1300, 2, 4096);
        let wave = |i: usize, step: usize| ((i * step) % 257) as f32 / 128.0 - 1.0;
        let normed: Vec<f32> = (0..rows * hidden).map(|i| wave(i, 31)).collect();
        let weight: Vec<f32> = (0..vocab * hidden).map(|i| wave(i, 57)).collect();
        let targets: Vec<u32> = (0..rows).map(|i| (i * 37 % vocab) as u32).collect();
        let cpu = Cpu::best();
        let upload = |values: &[f32]| cpu.upload(values.into()).unwrap();
        let (normed, weight) = (upload(&normed), upload(&weight));
        let mut ids = Buffer::default();
        cpu.upload_ids(&targets, &mut ids).unwrap();
        let inputs = LmHeadInputs::new(normed.all(), weight.all(), vocab as u64, ids.all());
        assert_eq!(inputs.rows_at_once, 1024);
        let run = |rows_at_once: u64| {
            let [mut losses, mut dnormed, mut dweight] =
                [rows, rows * hidden, vocab * hidden].map(|len| cpu.zeros(len as u64).unwrap());
            let inputs = LmHeadInputs { rows_at_once, ..inputs.clone() };
            let outputs = LmHeadOutputs { logits: &mut Buffer::default(), losses: &mut losses };
            let gradients = LmHeadGradients { normed: &mut dnormed, weight: dweight.all_mut() };
            losses_and_gradients(&cpu, &inputs, 0.5, outputs, gradients).unwrap();
            [losses, dnormed, dweight].map(|buffer| cpu.download(buffer).unwrap())
        };
        let whole = run(rows as u64);
        for rows_at_once in [1024, 500, 7] {
            assert_eq!(run(rows_at_once), whole, "{rows_at_once} rows at a time");
        }
    }
}
