//! Results of a window that are well formed in every byte and that nobody computed.
//!
//! All lengths, links and headers are right, so only a replay or an evaluation can tell such a result from work.

use templar_manifest::Hash;
use templar_manifest::trace::Leaf;
use templar_train::{TrainError, WindowResult, WindowRun, nanonats};

/// The result of `run`, of which no step is taken, with `delta` in it. The leaves of the steps are made up from
/// `seed`.
///
/// # Errors
/// The run's state cannot be compressed.
pub fn forge(run: WindowRun<'_>, delta: Vec<u8>, seed: &Hash) -> Result<WindowResult, TrainError> {
    let mut result = run.finish()?;
    result.delta = delta;
    make_up(&mut result, 0, seed);
    Ok(result)
}

/// Claims more steps than were taken. After the leaves of the first `taken` steps come made-up ones, up to the
/// number of steps in the header of the trace.
pub fn make_up(result: &mut WindowResult, taken: u32, seed: &Hash) {
    let Some(last) = result.trace.leaves.pop() else { return };
    result.trace.leaves.truncate(taken as usize + 1);
    for step in taken + 1..=result.trace.header.steps {
        let made_up = |index: usize| Hash::of(format!("{seed} {step} {index}").as_bytes());
        let tensors = (0..last.tensors.len()).map(made_up).collect();
        let loss = 7.0 - 0.05 * f64::from(step);
        result.trace.leaves.push(Leaf { loss_bits: loss.to_bits(), tensors });
        result.loss_nanonats = nanonats(loss);
    }
    result.trace.leaves.push(last);
}
