//! The statistical model that replaces training: how much a delta lowers the loss, in integers.
//!
//! The drawn validators measure four losses of a contribution: before and after a trial step, on the miner's
//! assigned pages and on unassigned pages. Here the loss before is the model's loss with the noise of the drawn
//! pages, which are the same for all validators. The gain, which the loss after is lower by, is
//!
//! ```text
//! gain = (loss − FLOOR) · TRIAL_GAIN · part of the contribution · (1 ± noise of the pages)
//! ```
//!
//! The verdict of a replay is not drawn. It is fixed with the contribution and is the same for every validator.
//!
//! Each constant states its source. Two follow from the demo (a million parameters, nine plays of Shakespeare),
//! whose loss falls from 7.62 to 6.02 nats in five windows. The others are assumed in favour of the attacker: a
//! made-up delta gains as much as the one that it imitates, so that only the rules keep it from being paid. The
//! earnings in the attack table are no more exact than these assumptions.

use std::collections::BTreeMap;

use templar_manifest::proof::{ProofDraw, prove, witness};
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, Evaluation, Hash, LateVerdict, Losses, Outcome, PublicKey, Refusal,
    Replay, ScoreEntry, Verdict, WindowIndex, payload,
};
use templar_protocol::{EvaluationTask, JudgePlan, Judging, ReplayTask, Stepped, Tried};

use crate::blobs::Reachable;
use crate::rng::ONE_PPM;
use crate::settings::STEPS;

/// The loss of a model that guesses among 2,048 tokens, ln 2048, in 1e-9 nats.
const FIRST_LOSS: u64 = 7_624_618_986;
/// The loss that the model approaches, in 1e-9 nats (assumed; it decides only how gains fall over a run).
const FLOOR: u64 = 3_000_000_000;
/// The part of the loss above the floor that an outer step takes away if every aggregated delta is honest. Five
/// such steps lead from 7.62 to 6.02 nats: `4.62 · (1 − 0.0816)^5 = 3.02`.
const WINDOW_GAIN_PPM: u64 = 81_600;
/// The part of the loss above the floor that a trial step with a full honest delta takes away. A trial step is
/// a fifth of an outer step, and small steps gain in proportion.
const TRIAL_GAIN_PPM: u64 = WINDOW_GAIN_PPM / 5;
/// How much more assigned pages gain than unassigned ones, because the miner has trained on them (assumed).
const OWN_DATA_PPM: i64 = 100_000;
/// The most by which the noise of drawn pages changes a gain, up or down (assumed; below one, so that a helpful
/// delta is never measured as harmful).
const GAIN_NOISE_PPM: u64 = 200_000;
/// The most by which the noise of drawn pages changes a loss, up or down (assumed).
const LOSS_NOISE_PPM: u64 = 10_000;

/// The part of its positions that a delta shares with another miner's of the same window. Eight miners of size
/// `micro` that really train share 11 % (`templar-delta/BENCH.md`).
const ALIKE_PPM: u32 = 110_000;

const NOISE_CONTEXT: &str = "templar-sim 1 noise of drawn pages";

/// How much a delta lowers the loss, in parts per million of the gain of a full honest one. Negative: the delta harms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeltaGain {
    pub(crate) assigned_ppm: i64,
    pub(crate) unassigned_ppm: i64,
}

impl DeltaGain {
    /// A delta that changes nothing.
    pub(crate) const NOTHING: Self = Self { assigned_ppm: 0, unassigned_ppm: 0 };
    /// Noise with an honest delta's norm, which harms a little (assumed).
    pub(crate) const NOISE: Self = Self { assigned_ppm: -100_000, unassigned_ppm: -100_000 };
    /// A delta of an earlier window, which still gains half (assumed).
    pub(crate) const STALE: Self = Self { assigned_ppm: 500_000, unassigned_ppm: 500_000 };
    /// A copy, which gains as the original does, but no more on the copier's own pages.
    pub(crate) const COPIED: Self = Self { assigned_ppm: 1_000_000, unassigned_ppm: 1_000_000 };
    /// Ten times an honest delta, which clipping to the median norm makes as good as the original (assumed).
    pub(crate) const SCALED: Self = Self { assigned_ppm: 1_000_000, unassigned_ppm: 1_000_000 };
    /// An honest delta with the sign flipped.
    pub(crate) const FLIPPED: Self = Self { assigned_ppm: -1_000_000, unassigned_ppm: -1_000_000 };
    /// A delta with a planted trigger, which hardly shows in the loss (assumed).
    pub(crate) const POISONED: Self = Self { assigned_ppm: 950_000, unassigned_ppm: 950_000 };

    /// An honest delta of this many of the [`STEPS`] steps. It gains in proportion to the steps (assumed; if
    /// the first steps of a window gain more than the last, many keys with few steps each earn more than one
    /// key with all steps).
    pub(crate) const fn honest(steps: u32) -> Self {
        let part = ONE_PPM as i64 * steps as i64 / STEPS as i64;
        Self { assigned_ppm: part * (ONE_PPM as i64 + OWN_DATA_PPM) / ONE_PPM as i64, unassigned_ppm: part }
    }
}

/// The truth about a contribution, which is the same for every observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) gain: DeltaGain,
    /// The verdict of a replay.
    pub(crate) replay: Replay,
    /// Whether its miner serves delta, trace and state after the cut.
    pub(crate) served: bool,
    /// The name of the delta's body; `None` where the delta cannot be decoded, so that no trial step is possible.
    pub(crate) body: Option<Hash>,
}

/// The contributions that exist, and the losses of the checkpoints that they lead to.
#[derive(Debug, Clone, Default)]
pub(crate) struct LossModel {
    truths: BTreeMap<(WindowIndex, ContributionId), Truth>,
    losses: BTreeMap<CheckpointId, u64>,
}

impl LossModel {
    /// Adds a contribution that a miner has made.
    pub(crate) fn add(&mut self, contribution: &Contribution, truth: Truth) {
        self.truths.insert((contribution.window, payload::id_of(contribution).into()), truth);
    }

    /// The truth about a contribution; `None` where nobody made it.
    pub(crate) fn truth(&self, window: WindowIndex, id: &ContributionId) -> Option<&Truth> {
        self.truths.get(&(window, *id))
    }

    /// Drops contributions of windows before this one, and the losses of checkpoints that no node starts from.
    pub(crate) fn forget(&mut self, before: WindowIndex, is_current: impl Fn(&CheckpointId) -> bool) {
        self.truths = self.truths.split_off(&(before, ContributionId::new(Hash::from_bytes([0; 32]))));
        self.losses.retain(|checkpoint, _| is_current(checkpoint));
    }

    fn loss(&self, checkpoint: &CheckpointId) -> u64 {
        self.losses.get(checkpoint).copied().unwrap_or(FIRST_LOSS)
    }

    /// The entries of a validator's score, in the order of the cut.
    pub(crate) fn measure(&self, judging: &Judging, plan: &JudgePlan, reachable: Reachable<'_>) -> Vec<ScoreEntry> {
        let entries = judging.cut().contributions.iter();
        let mut measured: Vec<ScoreEntry> = entries
            .map(|entry| {
                let truth = self.truth(plan.window, &entry.contribution);
                let drawn = plan.replay.binary_search(&entry.miner).is_ok();
                let has_state = !(drawn && reachable.stateless.contains(&entry.miner));
                let here = truth.is_some() && reachable.has(plan.window, &entry.contribution) && has_state;
                let mut measured = ScoreEntry {
                    miner: entry.miner,
                    contribution: entry.contribution,
                    // Like the judge of `templar-audit`, it refuses what it cannot fetch as withheld, drawn or not.
                    replay: if drawn || !here { replayed(truth, here) } else { Replay::NotDrawn },
                    proof: None,
                    evaluation: Evaluation::NotDrawn,
                    body: truth.filter(|_| here).and_then(|truth| truth.body),
                    nearest: None,
                    overlap_ppm: 0,
                };
                if measured.replay == Replay::Match {
                    let claims = claims(&plan.draws[&entry.miner], &entry.contribution);
                    measured.proof = prove(&plan.draws[&entry.miner], &claims, &plan.validator);
                }
                if let Some(task) = plan.evaluations.iter().find(|task| task.id == entry.contribution) {
                    let truth = truth.filter(|_| measured.body.is_some());
                    let tried = truth.map(|truth| (self.losses(task, truth), states(task)));
                    measured.evaluation = task.evaluation(&plan.validator, tried);
                }
                measured
            })
            .collect();
        find_nearest(&mut measured);
        measured
    }

    /// The verdict of a replay about which others disagree, as far as the task goes. A match comes with the witnesses of
    /// the drawn validators.
    pub(crate) fn confirm(&self, task: &ReplayTask, here: bool) -> (Replay, Vec<u64>) {
        let replay = match (replayed(self.truth(task.window, &task.id), here), task.upto) {
            (Replay::Refused(Refusal::Mismatch { step, .. }), Some(upto)) if step > upto => Replay::Match,
            (replay, _) => replay,
        };
        let claims = if replay == Replay::Match { claims(&task.draws, &task.id) } else { Vec::new() };
        (replay, claims.iter().map(witness).collect())
    }

    /// The result of measuring a contribution about which others disagree.
    pub(crate) fn remeasure(&self, task: &EvaluationTask, here: bool) -> Tried {
        let Some(truth) = self.truth(task.window, &task.id).filter(|_| here) else { return Tried::Unavailable };
        task.tried(truth.body.map(|_| (self.losses(task, truth), states(task))))
    }

    /// The losses of a contribution on the pages of the task.
    fn losses(&self, task: &EvaluationTask, truth: &Truth) -> Losses {
        let loss = self.loss(&task.checkpoint);
        let unassigned = PageNoise { pages: &task.unassigned, window: task.window, of: b"everybody" };
        let miner = task.contribution.miner;
        let assigned = PageNoise { pages: &task.assigned, window: task.window, of: miner.as_bytes() };
        let gain = PageNoise { of: miner.as_bytes(), ..unassigned };
        let (assigned_before, unassigned_before) = (assigned.loss(loss), unassigned.loss(loss));
        Losses {
            assigned_before_nanonats: assigned_before,
            assigned_after_nanonats: assigned.after(assigned_before, truth.gain.assigned_ppm),
            unassigned_before_nanonats: unassigned_before,
            unassigned_after_nanonats: gain.after(unassigned_before, truth.gain.unassigned_ppm),
        }
    }

    /// The verdict of a validator that has replayed a contribution to a closed window.
    pub(crate) fn verdict(&self, task: &ReplayTask, validator: &PublicKey) -> LateVerdict {
        let replay = replayed(self.truth(task.window, &task.id), true);
        let claims = if replay == Replay::Match { claims(&task.draws, &task.id) } else { Vec::new() };
        task.verdict(validator, replay, &claims)
    }

    /// The outer step: a new checkpoint, whose loss has fallen by the mean gain of the aggregated deltas. Every
    /// node computes the same.
    pub(crate) fn apply(&mut self, checkpoint: CheckpointId, window: WindowIndex, outcomes: &[Outcome]) -> Stepped {
        let aggregated: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated).collect();
        let mut hasher = blake3::Hasher::new_derive_key("templar-sim 1 checkpoint");
        hasher.update(checkpoint.hash().as_bytes());
        hasher.update(&window.0.to_le_bytes());
        let mut worth = 0i64;
        for outcome in &aggregated {
            hasher.update(outcome.contribution.hash().as_bytes());
            worth += self.truth(window, &outcome.contribution).map_or(0, |truth| truth.gain.unassigned_ppm);
        }
        let mean = worth / (aggregated.len() as i64).max(1);
        let loss = moved(self.loss(&checkpoint), WINDOW_GAIN_PPM, mean);
        let after = Hash::from(hasher.finalize());
        self.losses.insert(after.into(), loss);
        Stepped {
            aggregate: Hash::of(after.as_bytes()).into(),
            aggregate_bytes: 64 + 1000 * aggregated.len() as u64,
            checkpoint: after.into(),
            held_out_loss_nanonats: loss,
        }
    }
}

/// The claims that a replay gives, one for each draw. They are hashes over a stand-in for the tensors, which
/// only a simulated replay may use: a member that does not replay must make its claims up.
fn claims(draws: &[ProofDraw], contribution: &ContributionId) -> Vec<Hash> {
    let mut hasher = blake3::Hasher::new_derive_key("templar-sim 1 state in the middle of a window");
    hasher.update(contribution.hash().as_bytes());
    let state = hasher.finalize();
    draws.iter().map(|draw| draw.hasher().update(state.as_bytes()).finalize().into()).collect()
}

/// Fills in the most similar other delta for every delta that decodes: the first one with the same body, else
/// the first of all.
fn find_nearest(entries: &mut [ScoreEntry]) {
    let mut same = BTreeMap::<Hash, Vec<PublicKey>>::new();
    let mut first = Vec::new();
    for entry in &*entries {
        let Some(body) = entry.body else { continue };
        same.entry(body).or_default().push(entry.miner);
        if first.len() < 2 {
            first.push(entry.miner);
        }
    }
    for entry in entries {
        let Some(body) = entry.body else { continue };
        let other = |miners: &[PublicKey]| miners.iter().copied().find(|miner| *miner != entry.miner);
        let copy = other(&same[&body]).map(|miner| (miner, ONE_PPM as u32));
        if let Some((miner, overlap_ppm)) = copy.or_else(|| Some((other(&first)?, ALIKE_PPM))) {
            (entry.nearest, entry.overlap_ppm) = (Some(miner), overlap_ppm);
        }
    }
}

/// The verdict of a replay, or `withheld` where the blobs are missing.
fn replayed(truth: Option<&Truth>, here: bool) -> Replay {
    match truth.filter(|_| here) {
        Some(truth) => truth.replay.clone(),
        None => Replay::Refused(Refusal::Withheld),
    }
}

/// A stand-in for the hidden states of an evaluation, which only a simulated evaluation may use.
fn states(task: &EvaluationTask) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("templar-sim 1 hidden states of an evaluation");
    hasher.update(task.id.hash().as_bytes());
    hasher.finalize().into()
}

/// The noise of drawn pages, for everybody or for one miner.
#[derive(Clone, Copy)]
struct PageNoise<'a> {
    pages: &'a [u64],
    window: WindowIndex,
    of: &'a [u8],
}

impl PageNoise<'_> {
    fn noisy(&self, value: u64, noise_ppm: u64, what: &[u8]) -> u64 {
        let pages: Vec<u8> = self.pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        noisy(value, noise_ppm, &[what, &self.window.0.to_le_bytes(), self.of, &pages])
    }

    fn loss(&self, loss: u64) -> u64 {
        self.noisy(loss, LOSS_NOISE_PPM, b"loss")
    }

    fn after(&self, before: u64, part_ppm: i64) -> u64 {
        let part = self.noisy(part_ppm.unsigned_abs(), GAIN_NOISE_PPM, b"gain") as i64;
        moved(before, TRIAL_GAIN_PPM, part * part_ppm.signum())
    }
}

/// The loss after a step that takes away `gain_ppm · part_ppm` of the loss above the floor. All are parts per million.
fn moved(loss: u64, gain_ppm: u64, part_ppm: i64) -> u64 {
    let left = loss.saturating_sub(FLOOR);
    let gain = i128::from(left) * i128::from(gain_ppm) * i128::from(part_ppm) / i128::from(ONE_PPM * ONE_PPM);
    (i128::from(loss) - gain).clamp(0, i128::from(u64::MAX)) as u64
}

/// `value · (1 ± noise)`, drawn evenly from a hash of `parts`.
fn noisy(value: u64, noise_ppm: u64, parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(NOISE_CONTEXT);
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    let draw = u64::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[index]));
    let factor = ONE_PPM - noise_ppm + draw % (2 * noise_ppm + 1);
    (u128::from(value) * u128::from(factor) / u128::from(ONE_PPM)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_delta_always_helps_and_more_on_its_own_pages() {
        for steps in 1..=STEPS {
            let worth = DeltaGain::honest(steps);
            assert!(worth.assigned_ppm > worth.unassigned_ppm && worth.unassigned_ppm > 0);
        }
        assert_eq!(DeltaGain::honest(STEPS).unassigned_ppm, 1_000_000);
        let before = FIRST_LOSS;
        assert!(moved(before, TRIAL_GAIN_PPM, 800_000) < before);
        assert!(moved(before, TRIAL_GAIN_PPM, -800_000) > before);
        assert_eq!(moved(before, TRIAL_GAIN_PPM, 0), before);
    }

    #[test]
    fn noise_stays_in_its_bounds_and_reaches_them() {
        let found: Vec<u64> = (0..1000u32).map(|trial| noisy(1_000_000, 200_000, &[&trial.to_le_bytes()])).collect();
        assert!(found.iter().all(|value| (800_000..=1_200_000).contains(value)));
        assert!(found.iter().any(|value| *value < 810_000) && found.iter().any(|value| *value > 1_190_000));
        let mean = found.iter().sum::<u64>() / 1000;
        assert!((985_000..1_015_000).contains(&mean), "{mean}");
    }
}
