//! Replays a contribution: the same function that made it, compared leaf by leaf.

use std::borrow::Cow;
use std::ops::ControlFlow;

use templar_device::DeviceError;
use templar_manifest::proof::ProofDraw;
use templar_manifest::trace::{Leaf, Trace};
use templar_manifest::{Contribution, Hash, Refusal, Replay};
use templar_model::StepError;

use crate::Recipe;
use crate::recheck::{differs, first_difference};
use crate::state::MinerState;
use crate::task::{TrainError, WindowTask};
use crate::window::{PageSource, Watch, WindowResult, WindowRun, run_window, take_steps};

/// The claim of a miner: its contribution and the trace that the contribution names.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The contribution, whose links and numbers were checked against the record.
    pub contribution: &'a Contribution,
    /// The decoded trace that the contribution names.
    pub trace: &'a Trace,
}

/// Stops at the first leaf that differs or behind the last that is asked for, and makes the claims of those who were drawn
/// to replay on the way.
struct Comparison<'a> {
    recipe: &'a Recipe,
    trace: &'a Trace,
    /// The last leaf that is asked for; `None` for the whole window.
    upto: Option<u32>,
    difference: Option<Refusal>,
    draws: &'a [ProofDraw],
    claims: Vec<Hash>,
    /// Why no claim could be made.
    failure: Option<DeviceError>,
}

impl Comparison<'_> {
    fn compare(&mut self, index: u32, leaf: &Leaf) -> ControlFlow<()> {
        let Some(tensor) = first_difference(self.recipe, &self.trace.leaves[index as usize], leaf) else {
            let is_enough = self.upto.is_some_and(|upto| index >= upto);
            return if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        };
        self.difference = Some(Refusal::Mismatch { step: index, tensor: tensor.to_owned() });
        ControlFlow::Break(())
    }
}

impl Watch for Comparison<'_> {
    fn leaf(&mut self, run: &WindowRun<'_>, index: u32, leaf: &Leaf) -> ControlFlow<()> {
        let steps = self.trace.header.steps;
        for (draw, claim) in self.draws.iter().zip(&mut self.claims) {
            if draw.step(steps) == index {
                match run.claim(draw) {
                    Ok(made) => *claim = made,
                    Err(failure) => {
                        self.failure = Some(failure);
                        return ControlFlow::Break(());
                    }
                }
            }
        }
        self.compare(index, leaf)
    }
}

/// The start of a window that is replayed.
#[derive(Debug, Clone)]
pub struct WindowStart<'a> {
    /// The task, derived from the record.
    pub task: &'a WindowTask,
    /// The parameters of the window's checkpoint, flat. A caller that keeps them may lend them.
    pub parameters: Cow<'a, [f32]>,
    /// The miner's state before the window.
    pub state: MinerState,
}

/// The outcome of a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// Whether everything was found again.
    pub verdict: Replay,
    /// The miner's state after the window, where all of it was replayed and found again.
    pub state: Option<MinerState>,
    /// Of a match, the claim of each validator whose draw was given, in their order; else none.
    pub claims: Vec<Hash>,
}

impl Replayed {
    /// The outcome of a refusal, which leaves no state and proves nothing.
    pub fn without_state(verdict: Replay) -> Self {
        Self { verdict, state: None, claims: Vec::new() }
    }

    fn refused(step: u32, tensor: impl Into<String>) -> Self {
        let verdict = Replay::Refused(Refusal::Mismatch { step, tensor: tensor.into() });
        Self::without_state(verdict)
    }
}

/// The recipe of another device, and the number of inner steps after which it takes over.
type Relay<'a> = (u32, &'a Recipe);

/// [`run_window`] from the start of a window, on two devices one after the other if there is a relay.
fn run_with_relay<'a>(
    recipe: &'a Recipe,
    relay: Option<Relay<'a>>,
    start: WindowStart<'a>,
    pages: PageSource<'_>,
    watch: &mut dyn Watch,
) -> Result<Option<WindowResult>, TrainError> {
    let begins_with = match relay {
        Some((0, other)) => other,
        _ => recipe,
    };
    let mut run = WindowRun::new(begins_with, start.task, start.parameters, start.state)?;
    if let Some((steps @ 1.., other)) = relay {
        if take_steps(&mut run, steps, pages, watch)?.is_break() {
            return Ok(None);
        }
        run = run.go_on_with(other)?;
    }
    run_window(run, pages, watch)
}

/// Replays the window that a miner claims, and compares every leaf of its trace.
///
/// `start` holds the parameters of the window's checkpoint and the state that `contribution.state_in` names.
/// For each of `draws` the replay also makes a claim, the proof that its validator did the work.
///
/// A mismatch names the first leaf that differs and the first tensor in it. In the last leaf it may also name
/// `delta`, `state_out` or `loss_nanonats`, which the contribution states beside the trace.
///
/// # Errors
/// The window cannot be run at all: a page is missing, for example, or the device fails. A device that is
/// [rechecked](templar_device::Device::is_rechecked) and disagrees with the miner where the CPU does not is such an
/// error too, and no verdict. An invalid step (one
/// that gives a number that is not finite) was invalid for the miner too, so it is a mismatch and not an error.
pub fn replay(
    recipe: &Recipe,
    start: WindowStart<'_>,
    claim: Claim<'_>,
    draws: &[ProofDraw],
    pages: PageSource<'_>,
) -> Result<Replayed, TrainError> {
    replay_up_to(recipe, start, claim, draws, None, pages)
}

/// As [`replay`], but with `upto` no further than that leaf: 0 for the start, then one for each inner step. A match then
/// says that all leaves up to there are those of the trace. The steps of `draws` must not lie behind it.
///
/// This decides what two statements differ about at the cost of the steps up to there. There is no cheaper way to that
/// leaf: a miner publishes the states before and after a window and only hashes of those between.
///
/// # Errors
/// As of [`replay`].
pub fn replay_up_to(
    recipe: &Recipe,
    start: WindowStart<'_>,
    claim: Claim<'_>,
    draws: &[ProofDraw],
    upto: Option<u32>,
    pages: PageSource<'_>,
) -> Result<Replayed, TrainError> {
    if !recipe.is_rechecked() {
        return compare(recipe, None, start, (claim, draws, upto), pages);
    }
    let again = start.clone();
    let found = compare(recipe, None, start, (claim, draws, upto), pages)?;
    let Replay::Refused(Refusal::Mismatch { step, tensor }) = &found.verdict else { return Ok(found) };
    // Only the CPU accuses: it goes on from the last leaf on which device and miner agree.
    let cpu = recipe.on_cpu();
    let confirmed = compare(recipe, Some((step.saturating_sub(1), &cpu)), again, (claim, draws, upto), pages)?;
    if confirmed.verdict == found.verdict { Ok(confirmed) } else { Err(differs(recipe, *step, tensor)) }
}

/// [`replay`] as the devices find it, not confirmed.
fn compare<'a>(
    recipe: &'a Recipe,
    relay: Option<Relay<'a>>,
    start: WindowStart<'a>,
    (claim, draws, upto): (Claim<'_>, &[ProofDraw], Option<u32>),
    pages: PageSource<'_>,
) -> Result<Replayed, TrainError> {
    let claims = vec![Hash::default(); draws.len()];
    let mut comparison =
        Comparison { recipe, trace: claim.trace, upto, difference: None, draws, claims, failure: None };
    let last = start.task.steps + 1;
    let result = match run_with_relay(recipe, relay, start, pages, &mut comparison) {
        Ok(result) => result,
        Err(TrainError::Step { step, source: StepError::NonFiniteGradient { tensor, .. } }) => {
            return Ok(Replayed::refused(step, tensor));
        }
        Err(error) if error.is_of_device() => return Err(error),
        Err(TrainError::Step { step, .. }) => return Ok(Replayed::refused(step, "loss")),
        Err(TrainError::Compress(_)) => return Ok(Replayed::refused(last, "delta")),
        Err(error) => return Err(error),
    };
    if let Some(failure) = comparison.failure {
        return Err(failure.into());
    }
    if let Some(result) = &result {
        comparison.upto = None;
        _ = comparison.compare(last, &result.trace.leaves[last as usize]);
    }
    if let Some(difference) = comparison.difference {
        return Ok(Replayed::without_state(Replay::Refused(difference)));
    }
    let Some(result) = result else {
        return Ok(Replayed { verdict: Replay::Match, state: None, claims: comparison.claims });
    };
    let claimed = claim.contribution;
    let found = result.contribution(recipe, claimed.parent, claimed.state_in);
    let parts = [
        ("delta", found.delta == claimed.delta),
        ("state_out", found.state_out == claimed.state_out),
        ("loss_nanonats", found.loss_nanonats == claimed.loss_nanonats),
        ("contribution", found == *claimed),
    ];
    Ok(match parts.into_iter().find(|(_, equal)| !equal) {
        Some((part, _)) => Replayed::refused(last, part),
        None => Replayed { verdict: Replay::Match, state: Some(result.state), claims: comparison.claims },
    })
}
