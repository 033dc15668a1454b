//! What is fixed before anybody judges a window, and what one validator has to do for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::proof::ProofDraw;
use templar_manifest::{
    Contradiction, Contribution, ContributionId, Cut, CutId, Hash, LateVerdict, MAX_CHALLENGES, PublicKey, Refusal,
    Registration, Replay, Reveal, Score, ScoreEntry, ScoreId, WindowIndex,
};

use super::closing::{Closings, ids_of};
use super::replay::ReplayTask;

/// A window that can be judged. Made by [`RunState::judging`] and in no other way.
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
    /// What follows from this, the state before and scores, by the ids of the scores, ascending.
    pub(super) shared: Closings,
}

/// What one validator has to do for a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgePlan {
    /// The window.
    pub window: WindowIndex,
    /// The window's seed.
    pub seed: Hash,
    /// The validator.
    pub validator: PublicKey,
    /// Whose contributions of this window it replays before the record, sorted.
    pub replay: Vec<PublicKey>,
    /// Of each of those, where the drawn validators prove that they did.
    pub draws: BTreeMap<PublicKey, Vec<ProofDraw>>,
    /// What it has still to replay of closed windows, oldest first.
    pub late: Vec<ReplayTask>,
    /// What others could not have, and this validator looks for: challenged contributions of closed windows.
    pub wanted: Vec<ReplayTask>,
    /// The contributions of closed windows that are challenged already.
    pub challenged: BTreeSet<ContributionId>,
    /// The first window of which a contribution can be challenged that is not.
    pub challenges_from: WindowIndex,
    /// Pages that nobody is assigned in this window, ascending; the same for all miners.
    pub unassigned: Vec<u64>,
    /// For each miner of the cut, pages that it really trained on, ascending.
    pub assigned: BTreeMap<PublicKey, Vec<u64>>,
}

impl JudgePlan {
    /// What the score says of closed windows: `found` of the late tasks that were replayed, and of those late and wanted tasks of
    /// which something is `missing` that it is withheld, as far as one score may open challenges. Sorted by window, then
    /// miner.
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

impl Judging {
    /// The window.
    pub fn window(&self) -> WindowIndex {
        self.window
    }

    /// The cut's id.
    pub fn cut_id(&self) -> CutId {
        self.cut_id
    }

    /// The cut.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// The cut's contributions by miner.
    pub fn contributions(&self) -> &BTreeMap<PublicKey, Contribution> {
        &self.contributions
    }

    /// The cut's registrations by owner.
    pub fn registrations(&self) -> &BTreeMap<PublicKey, Registration> {
        &self.registrations
    }

    /// The validators' values, sorted by validator.
    pub fn reveals(&self) -> &[Reveal] {
        &self.reveals
    }

    /// The window's seed.
    pub fn seed(&self) -> Hash {
        self.seed
    }

    /// Which validators replay each miner's contribution, in the order of their keys; see [`crate::ReplayTask`].
    pub fn replayers(&self) -> &BTreeMap<PublicKey, Vec<PublicKey>> {
        &self.replayers
    }

    /// Whether a validator is drawn to replay a miner's contribution.
    pub fn is_drawn(&self, miner: &PublicKey, validator: &PublicKey) -> bool {
        self.replayers.get(miner).is_some_and(|drawn| drawn.binary_search(validator).is_ok())
    }

    /// Where each validator that is drawn to replay a miner's contribution proves that it did, in the order of their keys.
    pub fn proof_draws(&self, miner: &PublicKey) -> Vec<ProofDraw> {
        let cut = &self.cut.contributions;
        let Ok(index) = cut.binary_search_by_key(miner, |entry| entry.miner) else { return Vec::new() };
        let contribution = cut[index].contribution;
        let draw = |validator: &PublicKey| {
            let value = self.reveal(validator)?;
            Some(ProofDraw::new(&self.cut.run, &self.seed, validator, value, &contribution))
        };
        self.replayers.get(miner).into_iter().flatten().filter_map(draw).collect()
    }

    /// What of scores is contested, worked out once for all who share this judging.
    pub(crate) fn contested(
        &self,
        scores: &[(ScoreId, &Score)],
        work_out: impl FnOnce(&[(ScoreId, &Score)]) -> BTreeSet<(WindowIndex, PublicKey, ContributionId)>,
    ) -> Arc<BTreeSet<(WindowIndex, PublicKey, ContributionId)>> {
        self.shared.contested.get_or(ids_of(scores), || work_out(scores))
    }

    /// The value that a validator revealed.
    pub fn reveal(&self, validator: &PublicKey) -> Option<&Hash> {
        let index = self.reveals.binary_search_by_key(validator, |reveal| reveal.validator).ok()?;
        Some(&self.reveals[index].value)
    }
}

/// Reveals as a record lists them.
pub(crate) fn reveals_of(values: &BTreeMap<PublicKey, Hash>) -> Vec<Reveal> {
    values.iter().map(|(validator, value)| Reveal { validator: *validator, value: *value }).collect()
}

/// What a validator found out in a window: all of its score but what follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// One entry for each contribution of the cut, sorted by miner.
    pub entries: Vec<ScoreEntry>,
    /// Verdicts on contributions of closed windows, sorted by window, then miner.
    pub verdicts: Vec<LateVerdict>,
    /// Evidence against signers who contradict themselves, sorted by signer and window.
    pub evidence: Vec<Contradiction>,
}

impl Judgement {
    /// One that says nothing of closed windows and shows no evidence.
    pub fn of_the_window(entries: Vec<ScoreEntry>) -> Self {
        Self { entries, ..Self::default() }
    }
}
