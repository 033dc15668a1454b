//! The statistical model that stands where training would: what a delta is worth, in integers.
//!
//! A validator measures four losses of each contribution: before and after a trial step, on pages that the miner was
//! assigned and on pages that nobody was. Here the loss before is the model's loss with the noise of the drawn pages, and
//! the gain is
//!
//! ```text
//! gain = (loss − FLOOR) · TRIAL_GAIN · part of the contribution · (1 ± noise of the pages)
//! ```
//!
//! A replay's verdict is not drawn: it is what a replay would find of that contribution, and it is the same for everybody.
//!
//! Where the numbers come from is said at each of them. Two follow from the demo that the README documents (a million
//! parameters, nine plays of Shakespeare): its loss falls from 7.62 to 6.02 nats in five windows. The others are assumed,
//! and on the side of the attacker: what is made up is worth as much as what it imitates, so that only the rules keep it
//! from being paid. No earning in the attack table should be read as more exact than that.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::proof::{ProofDraw, prove, witness};
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, Hash, LateVerdict, Outcome, PublicKey, Refusal, Replay, ScoreEntry,
    Verdict, WindowIndex, payload,
};
use templar_protocol::{JudgePlan, Judging, ReplayTask, Stepped};

use crate::dice::ONE_PPM;
use crate::start::STEPS;

/// The loss of a model that guesses among 2,048 tokens, ln 2048, in 1e-9 nats.
const FIRST_LOSS: u64 = 7_624_618_986;
/// What the model's loss approaches (assumed; it decides only how gains fall over a run).
const FLOOR: u64 = 3_000_000_000;
/// Part of what is left above the floor that the outer step of a window gains, when all it aggregates is honest: five of
/// them lead from 7.62 to 6.02, `(4.62 · (1 − 0.0816)^5 = 3.02)`.
const WINDOW_GAIN_PPM: u64 = 81_600;
/// Part of what is left above the floor that a trial step with a full honest delta gains: a trial step is a fifth of an
/// outer step, and a small step gains in proportion.
const TRIAL_GAIN_PPM: u64 = WINDOW_GAIN_PPM / 5;
/// What assigned pages gain more than unassigned ones: the miner has trained on them (assumed).
const OWN_DATA_PPM: i64 = 100_000;
/// The most by which the noise of drawn pages changes a gain, to either side (assumed; below one, so that what helps is
/// never measured as harm).
const GAIN_NOISE_PPM: u64 = 200_000;
/// The most by which the noise of drawn pages changes a loss, to either side (assumed).
const LOSS_NOISE_PPM: u64 = 10_000;

/// Part of its positions that a delta shares with another miner's of the same window (eight miners of the `micro` size that
/// really train choose 11 % alike, `templar-delta/BENCH.md`).
const ALIKE_PPM: u32 = 110_000;

const NOISE_CONTEXT: &str = "templar-sim 1 noise of drawn pages";

/// What a delta gains, in parts per million of what a full honest one gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Worth {
    pub(crate) assigned_ppm: i64,
    pub(crate) unassigned_ppm: i64,
}

impl Worth {
    /// A delta that changes nothing.
    pub(crate) const NOTHING: Self = Self { assigned_ppm: 0, unassigned_ppm: 0 };
    /// Noise of an honest delta's norm does some harm (assumed).
    pub(crate) const NOISE: Self = Self { assigned_ppm: -100_000, unassigned_ppm: -100_000 };
    /// A delta of an earlier window still helps (assumed: by half).
    pub(crate) const STALE: Self = Self { assigned_ppm: 500_000, unassigned_ppm: 500_000 };
    /// A copy helps as the original does, but knows nothing of the copier's pages.
    pub(crate) const COPIED: Self = Self { assigned_ppm: 1_000_000, unassigned_ppm: 1_000_000 };
    /// Ten times the delta, clipped to the median norm: as good as it was (assumed).
    pub(crate) const SCALED: Self = Self { assigned_ppm: 1_000_000, unassigned_ppm: 1_000_000 };
    /// The delta with the other sign.
    pub(crate) const FLIPPED: Self = Self { assigned_ppm: -1_000_000, unassigned_ppm: -1_000_000 };
    /// A planted trigger does not show in the loss.
    pub(crate) const POISONED: Self = Self { assigned_ppm: 950_000, unassigned_ppm: 950_000 };

    /// An honest delta of this many of the [`STEPS`] steps: in proportion to the steps (assumed; where the first steps of a
    /// window gain more than the last, many keys of few steps earn more than one of many).
    pub(crate) const fn honest(steps: u32) -> Self {
        let part = ONE_PPM as i64 * steps as i64 / STEPS as i64;
        Self { assigned_ppm: part * (ONE_PPM as i64 + OWN_DATA_PPM) / ONE_PPM as i64, unassigned_ppm: part }
    }
}

/// What is true of a contribution, whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) worth: Worth,
    /// What a replay finds.
    pub(crate) replay: Replay,
    /// Whether its miner serves delta, trace and state after the cut.
    pub(crate) served: bool,
    /// The name of the delta without its header; none where it can't be decoded, and so not tried.
    pub(crate) body: Option<Hash>,
}

/// Everything that blobs would tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    truths: BTreeMap<(WindowIndex, ContributionId), Truth>,
    losses: BTreeMap<CheckpointId, u64>,
}

impl World {
    /// Puts a contribution into the world.
    pub(crate) fn add(&mut self, contribution: &Contribution, truth: Truth) {
        self.truths.insert((contribution.window, payload::id_of(contribution).into()), truth);
    }

    /// What is true of a contribution; of one that nobody made, that it is not there.
    pub(crate) fn truth(&self, window: WindowIndex, id: &ContributionId) -> Option<&Truth> {
        self.truths.get(&(window, *id))
    }

    /// Forgets contributions of windows before this one, and models that nobody needs any more.
    pub(crate) fn forget(&mut self, before: WindowIndex) {
        self.truths = self.truths.split_off(&(before, ContributionId::new(Hash::from_bytes([0; 32]))));
    }

    fn loss(&self, checkpoint: &CheckpointId) -> u64 {
        self.losses.get(checkpoint).copied().unwrap_or(FIRST_LOSS)
    }

    /// The entries of a validator's score. `here` says whether it could fetch a contribution's blobs, `kept` of whose it could not
    /// have the state before.
    pub(crate) fn measure(
        &self,
        checkpoint: &CheckpointId,
        judging: &Judging,
        plan: &JudgePlan,
        here: impl Fn(&ContributionId) -> bool,
        kept: &BTreeSet<PublicKey>,
    ) -> Vec<ScoreEntry> {
        let loss = self.loss(checkpoint);
        let measures = !plan.unassigned.is_empty();
        let unassigned_before = noisy(loss, LOSS_NOISE_PPM, &[plan.validator.as_bytes(), plan.seed.as_bytes()]);
        let entries = judging.cut().contributions.iter();
        let mut measured: Vec<ScoreEntry> = entries
            .map(|entry| {
                let truth = self.truth(plan.window, &entry.contribution);
                let drawn = plan.replay.binary_search(&entry.miner).is_ok();
                let here = truth.is_some() && here(&entry.contribution) && !(drawn && kept.contains(&entry.miner));
                let mut measured = ScoreEntry {
                    miner: entry.miner,
                    contribution: entry.contribution,
                    // As the judge of `templar-audit`: what it can't have it calls withheld, drawn or not.
                    replay: if drawn || !here { replayed(truth, here) } else { Replay::NotDrawn },
                    proof: None,
                    assigned_before_nanonats: 0,
                    assigned_after_nanonats: 0,
                    unassigned_before_nanonats: 0,
                    unassigned_after_nanonats: 0,
                    body: truth.filter(|_| here).and_then(|truth| truth.body),
                    nearest: None,
                    overlap_ppm: 0,
                };
                if measured.replay == Replay::Match {
                    let claims = claims(&plan.draws[&entry.miner], &entry.contribution);
                    measured.proof = prove(&plan.draws[&entry.miner], &claims, &plan.validator);
                }
                if let Some(truth) = truth.filter(|_| measured.body.is_some() && measures) {
                    let draw = |part: &[u8]| Draw { plan, miner: &entry.miner, part: part.to_vec() };
                    let assigned_before = draw(b"assigned").loss(loss);
                    measured.assigned_before_nanonats = assigned_before;
                    measured.assigned_after_nanonats =
                        draw(b"assigned gain").after(assigned_before, truth.worth.assigned_ppm);
                    measured.unassigned_before_nanonats = unassigned_before;
                    measured.unassigned_after_nanonats =
                        draw(b"unassigned gain").after(unassigned_before, truth.worth.unassigned_ppm);
                }
                measured
            })
            .collect();
        find_nearest(&mut measured);
        measured
    }

    /// What a validator finds that replays one contribution of which others say different things; of a match with the short
    /// forms of the claims of all who were drawn.
    pub(crate) fn confirm(&self, task: &ReplayTask, here: bool) -> (Replay, Vec<u64>) {
        let replay = replayed(self.truth(task.window, &task.id), here);
        let claims = if replay == Replay::Match { claims(&task.draws, &task.id) } else { Vec::new() };
        (replay, claims.iter().map(witness).collect())
    }

    /// What a validator says of a contribution of a closed window that it has replayed.
    pub(crate) fn verdict(&self, task: &ReplayTask, validator: &PublicKey) -> LateVerdict {
        let replay = replayed(self.truth(task.window, &task.id), true);
        let claims = if replay == Replay::Match { claims(&task.draws, &task.id) } else { Vec::new() };
        task.verdict(validator, replay, &claims)
    }

    /// The outer step: a new checkpoint whose loss has fallen as far as what was aggregated is worth. Everybody computes
    /// the same.
    pub(crate) fn apply(&mut self, checkpoint: CheckpointId, window: WindowIndex, outcomes: &[Outcome]) -> Stepped {
        let aggregated: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated).collect();
        let mut hasher = blake3::Hasher::new_derive_key("templar-sim 1 checkpoint");
        hasher.update(checkpoint.hash().as_bytes());
        hasher.update(&window.0.to_le_bytes());
        let mut worth = 0i64;
        for outcome in &aggregated {
            hasher.update(outcome.contribution.hash().as_bytes());
            worth += self.truth(window, &outcome.contribution).map_or(0, |truth| truth.worth.unassigned_ppm);
        }
        let mean = worth / (aggregated.len() as i64).max(1);
        let loss = moved(self.loss(&checkpoint), WINDOW_GAIN_PPM, mean);
        let after = Hash::from(hasher.finalize());
        self.losses.insert(after.into(), loss);
        // Two candidates of a few windows are enough: what is further back nobody asks for.
        Stepped {
            aggregate: Hash::of(after.as_bytes()).into(),
            aggregate_bytes: 64 + 1000 * aggregated.len() as u64,
            checkpoint: after.into(),
            held_out_loss_nanonats: loss,
        }
    }

    /// Keeps the losses of these models only.
    pub(crate) fn keep_models(&mut self, wanted: impl Fn(&CheckpointId) -> bool) {
        self.losses.retain(|checkpoint, _| wanted(checkpoint));
    }
}

/// The claims that a replay gives, over a state that stands for tensors: only those have it who ask the world, and who does not
/// replay does not ask.
fn claims(draws: &[ProofDraw], contribution: &ContributionId) -> Vec<Hash> {
    let mut hasher = blake3::Hasher::new_derive_key("templar-sim 1 state in the middle of a window");
    hasher.update(contribution.hash().as_bytes());
    let state = hasher.finalize();
    draws.iter().map(|draw| draw.hasher().update(state.as_bytes()).finalize().into()).collect()
}

/// The most alike other of every delta that decodes: the first of those with the same body, else the first of all.
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

fn replayed(truth: Option<&Truth>, here: bool) -> Replay {
    match truth.filter(|_| here) {
        Some(truth) => truth.replay.clone(),
        None => Replay::Refused(Refusal::Withheld),
    }
}

/// The noise of the pages that one validator drew for one miner.
struct Draw<'a> {
    plan: &'a JudgePlan,
    miner: &'a PublicKey,
    part: Vec<u8>,
}

impl Draw<'_> {
    fn noisy(&self, value: u64, noise_ppm: u64) -> u64 {
        let (plan, miner) = (self.plan, self.miner);
        noisy(value, noise_ppm, &[plan.validator.as_bytes(), plan.seed.as_bytes(), miner.as_bytes(), &self.part])
    }

    fn loss(&self, loss: u64) -> u64 {
        self.noisy(loss, LOSS_NOISE_PPM)
    }

    fn after(&self, before: u64, part_ppm: i64) -> u64 {
        let part = self.noisy(part_ppm.unsigned_abs(), GAIN_NOISE_PPM) as i64;
        moved(before, TRIAL_GAIN_PPM, part * part_ppm.signum())
    }
}

/// A loss after a gain of `gain_ppm` of what is left above the floor, times `part_ppm`.
fn moved(loss: u64, gain_ppm: u64, part_ppm: i64) -> u64 {
    let left = loss.saturating_sub(FLOOR);
    let gain = i128::from(left) * i128::from(gain_ppm) * i128::from(part_ppm) / i128::from(ONE_PPM * ONE_PPM);
    (i128::from(loss) - gain).clamp(0, i128::from(u64::MAX)) as u64
}

/// `value · (1 ± noise)`, evenly, from a hash of `parts`.
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
            let worth = Worth::honest(steps);
            assert!(worth.assigned_ppm > worth.unassigned_ppm && worth.unassigned_ppm > 0);
        }
        assert_eq!(Worth::honest(STEPS).unassigned_ppm, 1_000_000);
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
