//! The facts that are fixed before anybody judges a window, the plan of one validator, and its judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::proof::{EvaluationKey, ProofDraw};
use templar_manifest::{
    Contest, Contradiction, Contribution, ContributionId, Cut, CutId, Hash, LateVerdict, MAX_CHALLENGES, MAX_CONTESTS,
    PublicKey, Refusal, Registration, Replay, Reveal, Score, ScoreEntry, ScoreId, WindowIndex,
};

use super::closing::{Closings, ids_of};
use super::evaluation_task::{EvaluatedPages, EvaluationTask, SpotCheck};
use super::replay::ReplayTask;

/// A window that can be judged: its cut, its reveals, the seed, and the draws that follow. Only
/// [`RunState::judging`] makes one.
///
/// [`RunState::judging`]: crate::RunState::judging
#[derive(Debug, Clone, PartialEq)]
pub struct Judging {
    pub(super) window: WindowIndex,
    pub(super) cut_id: CutId,
    pub(super) cut: Cut,
    pub(super) contributions: BTreeMap<PublicKey, Contribution>,
    pub(super) registrations: BTreeMap<PublicKey, Registration>,
    pub(super) reveals: Vec<Reveal>,
    pub(super) seed: Hash,
    pub(super) replayers: BTreeMap<PublicKey, Vec<PublicKey>>,
    pub(super) evaluators: BTreeMap<PublicKey, Vec<PublicKey>>,
    pub(super) pages: EvaluatedPages,
    /// Results that follow from this, the state before and a set of scores.
    pub(super) shared: Closings,
}

/// The work of one validator for its score of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgePlan {
    /// The window that is open.
    pub window: WindowIndex,
    /// The seed of the window.
    pub seed: Hash,
    /// The validator whose plan it is.
    pub validator: PublicKey,
    /// The miners whose contributions of this window it replays before the record, sorted.
    pub replay: Vec<PublicKey>,
    /// For each of those miners, where the drawn validators prove their replays.
    pub draws: BTreeMap<PublicKey, Vec<ProofDraw>>,
    /// The contributions of closed windows that it has still to replay, oldest first.
    pub late: Vec<ReplayTask>,
    /// Challenged contributions of closed windows, whose bytes it looks for although it was not drawn for them.
    pub wanted: Vec<ReplayTask>,
    /// The contributions of closed windows that are challenged already.
    pub challenged: BTreeSet<ContributionId>,
    /// The first window whose contributions can still be challenged newly.
    pub challenges_from: WindowIndex,
    /// The contributions of this window that it measures, in the order of the miners.
    pub evaluations: Vec<EvaluationTask>,
    /// The contributions of the window before that it measures again, in the order of the miners.
    pub spot_checks: Vec<SpotCheck>,
}

impl JudgePlan {
    /// The verdicts of the score on closed windows, sorted by window, then miner: those that were `found` by
    /// replay, and `withheld` for the late and wanted tasks whose bytes are `missing`. One score opens only so
    /// many new challenges.
    pub fn verdicts(&self, found: Vec<LateVerdict>, missing: &BTreeSet<ContributionId>) -> Vec<LateVerdict> {
        let (mut verdicts, mut opened) = (found, 0);
        for task in self.late.iter().chain(&self.wanted).filter(|task| missing.contains(&task.id)) {
            if !self.challenged.contains(&task.id) {
                if task.window < self.challenges_from || opened == MAX_CHALLENGES {
                    continue;
                }
                opened += 1;
            }
            verdicts.push(task.verdict(&self.validator, Replay::Refused(Refusal::Withheld), &[]));
        }
        verdicts.sort_by_key(|verdict| (verdict.window, verdict.miner));
        verdicts
    }
}

/// The contests that a score has room for, sorted by miner. Others of what was found are left out: one is enough to
/// have a validator pay.
pub(crate) fn most_contests(mut found: Vec<Contest>) -> Vec<Contest> {
    found.sort_unstable_by_key(|contest| contest.miner);
    found.truncate(MAX_CONTESTS);
    found
}

impl Judging {
    /// The window that is judged.
    pub fn window(&self) -> WindowIndex {
        self.window
    }

    /// The id of the cut.
    pub fn cut_id(&self) -> CutId {
        self.cut_id
    }

    /// The certified cut that is judged.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// The contributions of the cut, by miner.
    pub fn contributions(&self) -> &BTreeMap<PublicKey, Contribution> {
        &self.contributions
    }

    /// The registrations of the cut, by owner.
    pub fn registrations(&self) -> &BTreeMap<PublicKey, Registration> {
        &self.registrations
    }

    /// The validators' hash-chain values, sorted by validator.
    pub fn reveals(&self) -> &[Reveal] {
        &self.reveals
    }

    /// The seed of the window.
    pub fn seed(&self) -> Hash {
        self.seed
    }

    /// The validators that are drawn to replay each miner's contribution, in the order of their keys; see
    /// [`crate::replay`].
    pub fn replayers(&self) -> &BTreeMap<PublicKey, Vec<PublicKey>> {
        &self.replayers
    }

    /// The validators that are drawn to measure each miner's contribution, in the order of their keys. Empty in a
    /// run that measures nothing.
    pub fn evaluators(&self) -> &BTreeMap<PublicKey, Vec<PublicKey>> {
        &self.evaluators
    }

    /// The validators that are drawn to measure a miner's contribution, in the order of their keys.
    pub fn evaluators_of(&self, miner: &PublicKey) -> &[PublicKey] {
        self.evaluators.get(miner).map_or(&[], Vec::as_slice)
    }

    /// The pages that nobody trains on in the window and that all deltas are tried on, ascending.
    pub(super) fn unassigned_pages(&self) -> &[u64] {
        &self.pages.unassigned
    }

    /// The pages of a miner that its delta is tried on, ascending.
    pub(super) fn assigned_pages_of(&self, miner: &PublicKey) -> &[u64] {
        self.pages.assigned.get(miner).map_or(&[], Vec::as_slice)
    }

    /// The keys with which they prove their measurements, in the same order.
    pub fn evaluation_keys(&self, miner: &PublicKey) -> Vec<EvaluationKey> {
        let Some(contribution) = self.contribution(miner) else { return Vec::new() };
        let key = |validator| EvaluationKey::new(&self.cut.run, &self.seed, validator, &contribution);
        self.evaluators_of(miner).iter().map(key).collect()
    }

    /// The id of a miner's contribution, if the cut names one.
    pub fn contribution(&self, miner: &PublicKey) -> Option<ContributionId> {
        let cut = &self.cut.contributions;
        cut.binary_search_by_key(miner, |entry| entry.miner).ok().map(|index| cut[index].contribution)
    }

    /// Whether a validator is drawn to replay a miner's contribution.
    pub fn is_drawn(&self, miner: &PublicKey, validator: &PublicKey) -> bool {
        self.replayers.get(miner).is_some_and(|drawn| drawn.binary_search(validator).is_ok())
    }

    /// The step and tensor with which each validator that is drawn for a miner's contribution proves its
    /// replay, in the order of the validators' keys.
    pub fn proof_draws(&self, miner: &PublicKey) -> Vec<ProofDraw> {
        let Some(contribution) = self.contribution(miner) else { return Vec::new() };
        let draw = |validator: &PublicKey| {
            let value = self.reveal(validator)?;
            Some(ProofDraw::new(&self.cut.run, &self.seed, validator, value, &contribution))
        };
        self.replayers.get(miner).into_iter().flatten().filter_map(draw).collect()
    }

    /// The contributions about which scores contradict each other, computed once for all who share this judging.
    pub(crate) fn contested(
        &self,
        scores: &[(ScoreId, &Score)],
        work_out: impl FnOnce(&[(ScoreId, &Score)]) -> BTreeSet<(WindowIndex, PublicKey, ContributionId)>,
    ) -> Arc<BTreeSet<(WindowIndex, PublicKey, ContributionId)>> {
        self.shared.contested.get_or(ids_of(scores), || work_out(scores))
    }

    /// The miners about whose deltas the measurements of scores contradict each other, computed once for all who
    /// share this judging.
    pub(crate) fn contested_measurements(
        &self,
        scores: &[(ScoreId, &Score)],
        work_out: impl FnOnce(&[(ScoreId, &Score)]) -> BTreeSet<PublicKey>,
    ) -> Arc<BTreeSet<PublicKey>> {
        self.shared.measurements.get_or(ids_of(scores), || work_out(scores))
    }

    /// The value that a validator revealed, if it did.
    pub fn reveal(&self, validator: &PublicKey) -> Option<&Hash> {
        let index = self.reveals.binary_search_by_key(validator, |reveal| reveal.validator).ok()?;
        Some(&self.reveals[index].value)
    }
}

/// The findings of a validator in a window: the parts of its score that do not follow from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// One entry for each contribution of the cut, sorted by miner.
    pub entries: Vec<ScoreEntry>,
    /// Verdicts on contributions of closed windows, sorted by window, then miner.
    pub verdicts: Vec<LateVerdict>,
    /// Evidence against signers who contradict themselves, sorted by signer and window.
    pub evidence: Vec<Contradiction>,
    /// Measurements of the window before that it finds false, sorted by miner.
    pub contests: Vec<Contest>,
}

impl Judgement {
    /// A judgement without verdicts on closed windows and without evidence.
    pub fn of_the_window(entries: Vec<ScoreEntry>) -> Self {
        Self { entries, ..Self::default() }
    }
}
