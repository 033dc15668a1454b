//! The measurements of a closed window that its record rests on, as long as they may be contested (`spot_checks.rs`).

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::proof::EvaluationKey;
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, Hash, PublicKey, RunId, Score, ScoreId, WindowIndex,
};

use super::evaluation_task::{EvaluationTask, StatedTrial, Tried};
use super::judging::Judging;

/// A measurement that counted scores agree on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatedMeasurement {
    /// The id of the contribution, and the contribution.
    pub(super) id: ContributionId,
    pub(super) contribution: Contribution,
    /// The validators that were drawn to measure it, in the order of their keys.
    pub(super) evaluators: Vec<PublicKey>,
    /// The pages of its miner that it was measured on, ascending.
    pub(super) assigned: Vec<u64>,
    /// The result that the scores state, with the witnesses of all drawn validators.
    pub(crate) stated: Tried,
    /// The validators that state it, and their scores, in the order of their keys.
    pub(crate) by: Vec<(PublicKey, ScoreId)>,
}

/// The measurements of the window before, which scores of the open one may contest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measurements {
    pub(super) run: RunId,
    pub(super) window: WindowIndex,
    /// The checkpoint that the window started from.
    pub(super) checkpoint: CheckpointId,
    pub(super) seed: Hash,
    /// The pages that nobody trained on and that all deltas were measured on, ascending.
    pub(super) unassigned: Vec<u64>,
    pub(super) of: BTreeMap<PublicKey, StatedMeasurement>,
}

impl Measurements {
    /// What counted scores say about the contributions of a window. Where they contradict each other, there is no
    /// measurement to contest; a record that honest validators sign has no such contradiction.
    pub(super) fn new(judging: &Judging, checkpoint: CheckpointId, scores: &[(ScoreId, &Score)]) -> Self {
        let mut of = BTreeMap::<PublicKey, StatedMeasurement>::new();
        let mut contradicted = BTreeSet::new();
        let mut scores = scores.to_vec();
        scores.sort_unstable_by_key(|(_, score)| score.validator);
        for (id, score) in scores {
            for entry in &score.entries {
                let miner = entry.miner;
                let (Some(stated), Some(contribution)) =
                    (StatedTrial::of(entry).map(Tried::from), judging.contributions().get(&miner))
                else {
                    continue;
                };
                let said = of.entry(miner).or_insert_with(|| StatedMeasurement {
                    id: entry.contribution,
                    contribution: contribution.clone(),
                    evaluators: judging.evaluators_of(&miner).to_vec(),
                    assigned: judging.assigned_pages_of(&miner).to_vec(),
                    stated: stated.clone(),
                    by: Vec::new(),
                });
                if said.stated != stated {
                    contradicted.insert(miner);
                }
                said.by.push((score.validator, id));
            }
        }
        of.retain(|miner, _| !contradicted.contains(miner));
        let (run, window, seed) = (judging.cut().run, judging.window(), judging.seed());
        Self { run, window, checkpoint, seed, unassigned: judging.unassigned_pages().to_vec(), of }
    }

    /// The task of measuring a contribution again.
    pub(super) fn task(&self, miner: &PublicKey) -> Option<EvaluationTask> {
        let said = self.of.get(miner)?;
        let key = |validator| EvaluationKey::new(&self.run, &self.seed, validator, &said.id);
        Some(EvaluationTask {
            window: self.window,
            checkpoint: self.checkpoint,
            contribution: said.contribution.clone(),
            id: said.id,
            unassigned: self.unassigned.clone(),
            assigned: said.assigned.clone(),
            keys: said.evaluators.iter().map(key).collect(),
        })
    }
}
