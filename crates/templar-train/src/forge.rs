//! What a cheat sends: a result that is well formed in every byte and that nobody computed. The demo's cheat sends one, and
//! so do those that the rules are tried against.

use templar_manifest::Hash;
use templar_manifest::trace::Leaf;

use crate::Recipe;
use crate::evaluate::nanonats;
use crate::state::MinerState;
use crate::window::{Task, TrainError, WindowResult, WindowRun};

/// The result of `task` with `delta` in it and nothing trained: all lengths and links are right, and the leaves of the steps
/// are made up from `seed`.
///
/// # Errors
/// As [`WindowRun::new`] and [`WindowRun::finish`].
pub fn forge(
    recipe: &Recipe,
    task: &Task,
    start: &[f32],
    state: MinerState,
    delta: Vec<u8>,
    seed: &Hash,
) -> Result<WindowResult, TrainError> {
    let mut result = WindowRun::new(recipe, task, start, state)?.finish()?;
    result.delta = delta;
    make_up(&mut result, 0, seed);
    Ok(result)
}

/// Claims more steps than were taken: after the leaves of the first `taken` steps come made-up ones, as many as the header
/// of the trace says.
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
