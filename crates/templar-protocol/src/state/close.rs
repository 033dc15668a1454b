//! Closing a window: from scores to outcomes, weights, mints and the record.
//!
//! Nothing is chosen here. Given which scores are counted, and the checkpoint that applying the accepted deltas gives,
//! everybody writes the same record to the byte.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{
    BlobId, CheckpointId, Mint, Outcome, PublicKey, Refusal, Replay, Score, ScoreId, Verdict, Weight, Window, payload,
};

use super::{AdvanceError, Judging, RunState};
use crate::{consensus, stake};

/// What the outer step of a window came to: what a record says that only tensors can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// The aggregated deltas, merged.
    pub aggregate: BlobId,
    /// The length of that.
    pub aggregate_bytes: u64,
    /// The model after the window.
    pub checkpoint: CheckpointId,
    /// Its mean loss on the held-out pages, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
}

impl Stepped {
    /// What a record says.
    pub const fn of(record: &Window) -> Self {
        Self {
            aggregate: record.aggregate,
            aggregate_bytes: record.aggregate_bytes,
            checkpoint: record.checkpoint,
            held_out_loss_nanonats: record.held_out_loss_nanonats,
        }
    }
}

impl RunState {
    /// What becomes of each contribution, over the counted scores in the order of their validators: the first refusal
    /// decides; else any match accepts; else nobody replayed it. Accepted ones are ordered by consensus rating (the
    /// largest that more than half of the stake supports), then by miner; as many as genesis allows are aggregated, the
    /// others are in reserve. Sorted by miner.
    pub fn outcomes(&self, judging: &Judging, scores: &[&Score]) -> Vec<Outcome> {
        let scores: BTreeMap<PublicKey, &Score> = scores.iter().map(|score| (score.validator, *score)).collect();
        let mut verdicts = BTreeMap::<PublicKey, Option<Refusal>>::new();
        for miner in judging.contributions().keys() {
            let mut verdict = Some(Refusal::NotReplayed);
            for score in scores.values() {
                let Ok(index) = score.entries.binary_search_by_key(miner, |entry| entry.miner) else { continue };
                match &score.entries[index].replay {
                    Replay::NotDrawn => {}
                    Replay::Match => verdict = None,
                    Replay::Refused(refusal) => {
                        verdict = Some(refusal.clone());
                        break;
                    }
                }
            }
            verdicts.insert(*miner, verdict);
        }
        let accepted = verdicts.iter().filter(|(_, refusal)| refusal.is_none()).map(|(miner, _)| *miner).collect();
        let aggregated = self.best(&scores, accepted);
        let entries = judging.cut().contributions.iter();
        entries
            .map(|entry| {
                let verdict = match verdicts.remove(&entry.miner).flatten() {
                    Some(refusal) => Verdict::Refused(refusal),
                    None if aggregated.contains(&entry.miner) => Verdict::Aggregated,
                    None => Verdict::Reserve,
                };
                Outcome { miner: entry.miner, contribution: entry.contribution, verdict }
            })
            .collect()
    }

    /// The accepted miners with the best consensus ratings, as many as genesis aggregates.
    fn best(&self, scores: &BTreeMap<PublicKey, &Score>, accepted: BTreeSet<PublicKey>) -> BTreeSet<PublicKey> {
        let limit = self.genesis.outer.max_contributions as usize;
        if accepted.len() <= limit {
            return accepted;
        }
        let mut levels = BTreeMap::<PublicKey, Vec<(u64, u64)>>::new();
        for (validator, score) in scores {
            let stake = stake::stake_of(&self.genesis, [validator]);
            for (miner, rating) in self.moved_ratings(validator, &score.entries) {
                levels.entry(miner).or_default().push((rating, stake));
            }
        }
        let whole = self.genesis.total_stake();
        let mut ranked: Vec<(u64, PublicKey)> = accepted
            .into_iter()
            .map(|miner| (consensus::supported(levels.remove(&miner).unwrap_or_default(), whole), miner))
            .collect();
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().take(limit).map(|(_, miner)| miner).collect()
    }

    /// Weights and mints of a window: see [`crate::consensus`]. Only miners with an accepted contribution are paid.
    fn pay(&self, scores: &BTreeMap<PublicKey, (ScoreId, &Score)>, outcomes: &[Outcome]) -> (Vec<Weight>, Vec<Mint>) {
        let paid = accepted(outcomes).map(|outcome| outcome.miner).collect();
        let rows: Vec<(PublicKey, &[Weight])> =
            scores.iter().map(|(validator, (_, score))| (*validator, &score.row[..])).collect();
        let agreement = consensus::agree(&self.genesis, &rows, &paid);
        let mints = consensus::mints(&self.genesis, &agreement);
        (agreement.weights, mints)
    }

    /// The record of the open window. `scores` are those that are counted; each must have passed
    /// [`RunState::check_score`] for this judging. `stepped` is what applying the aggregated deltas gives: the facts that
    /// this crate is told.
    pub fn close(&self, judging: &Judging, scores: &[&Score], stepped: Stepped) -> Result<Window, AdvanceError> {
        let mut by_validator = BTreeMap::<PublicKey, (ScoreId, &Score)>::new();
        for &score in scores {
            let id = ScoreId::new(payload::id_of(score));
            if by_validator.insert(score.validator, (id, score)).is_some() {
                return Err(AdvanceError::TwoScores(score.validator.short()));
            }
        }
        let total = self.genesis.total_stake();
        let stake = stake::stake_of(&self.genesis, by_validator.keys());
        if !stake::more_than_two_thirds(stake, total) {
            return Err(AdvanceError::NoQuorum { stake, total });
        }
        let outcomes = self.outcomes(judging, scores);
        let (weights, mints) = self.pay(&by_validator, &outcomes);
        let mut ledger = self.ledger.clone();
        ledger.settle(self.window, &outcomes, &mints);
        Ok(Window {
            run: self.run,
            window: self.window,
            previous: self.record,
            checkpoint_before: self.checkpoint,
            cut: judging.cut_id(),
            reveals: judging.reveals().to_vec(),
            seed: judging.seed(),
            scores: by_validator.values().map(|(id, _)| *id).collect(),
            outcomes,
            weights,
            mints,
            ledger_root: ledger.root(),
            aggregate: stepped.aggregate,
            aggregate_bytes: stepped.aggregate_bytes,
            checkpoint: stepped.checkpoint,
            held_out_loss_nanonats: stepped.held_out_loss_nanonats,
        })
    }
}

/// The outcomes that are not refused.
pub(super) fn accepted(outcomes: &[Outcome]) -> impl Iterator<Item = &Outcome> {
    outcomes.iter().filter(|outcome| !matches!(outcome.verdict, Verdict::Refused(_)))
}
