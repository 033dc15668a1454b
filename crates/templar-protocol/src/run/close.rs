//! Closing a window: from scores to outcomes, weights, mints and the record.
//!
//! Nothing is chosen here. Given the counted scores and the result of the outer step, everybody computes the
//! same record to the byte. The header holds the root of the state after the window, so whoever computes the
//! record has also computed the state that it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    Hash, Mint, Outcome, PublicKey, Refuted, Score, ScoreId, Signed, Slash, Weight, WindowBody, WindowHeader,
    WindowRecord, payload,
};

use super::advance::Decisions;
use super::closed::{AdvanceError, ClosedWindow};
use super::closing::{Counted, OwnRecord, Settlement, Stepped, accepted, ids_of};
use super::findings::proven_evaluations;
use super::judge::JudgingError;
use super::judging::Judging;
use super::state::validators_root;
use super::{RunState, late};
use crate::gauntlet::{Assessment, Payable, weights};
use crate::ledger::{ProvenWork, emission_of, mints};
use crate::stake;

const SELECTION_CONTEXT: &str = "templar/1 selection order";

impl RunState {
    /// The verdict on each contribution of the cut, sorted by miner.
    ///
    /// The findings of the counted scores refuse some (`findings.rs`). Of the others, those that the standings
    /// exclude, and those whose trial step cannot be taken, are excluded. The rest are ordered by score, and equal
    /// ones by a hash with the seed. The best are aggregated, and some of the others are drawn by the seed, as
    /// many as genesis says. The rest is in reserve.
    pub fn outcomes(&self, judging: &Judging, scores: &[&Score]) -> Vec<Outcome> {
        self.settlement(judging, scores).outcomes
    }

    /// The settlement of scores by their ids, computed once for all who share this state and judging.
    pub(crate) fn shared_settlement(&self, judging: &Judging, scores: &[(ScoreId, &Score)]) -> Arc<Settlement> {
        judging.shared.settlements.get_or(ids_of(scores), || self.settlement(judging, &bare(scores)))
    }

    /// The record of [`RunState::close`] that refutes these statements, and its id, computed once for all who share
    /// this state and judging.
    pub(crate) fn shared_close(
        &self,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        refuted: &[Refuted],
        stepped: Stepped,
    ) -> Result<Arc<OwnRecord<Self>>, AdvanceError> {
        let key = (ids_of(scores), refuted.to_vec(), stepped);
        self.shared.records.try_get_or(key, || self.close_with(judging, scores, refuted, stepped))
    }

    /// The accepted miners that are aggregated, and those that are excluded.
    pub(super) fn chosen(
        &self,
        judging: &Judging,
        assessment: &Assessment,
        accepted: BTreeSet<PublicKey>,
    ) -> (BTreeSet<PublicKey>, BTreeSet<PublicKey>) {
        let (kept, excluded): (BTreeSet<_>, BTreeSet<_>) =
            accepted.into_iter().partition(|miner| assessment.scores.contains_key(miner));
        let order = |miner: &PublicKey| -> Hash {
            let mut hasher = blake3::Hasher::new_derive_key(SELECTION_CONTEXT);
            hasher.update(judging.seed().as_bytes());
            hasher.update(miner.as_bytes());
            hasher.finalize().into()
        };
        let score = |miner: &PublicKey| assessment.scores.get(miner).copied().unwrap_or(0);
        let mut ranked: Vec<(u64, Hash, PublicKey)> =
            kept.into_iter().map(|miner| (score(&miner), order(&miner), miner)).collect();
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        // The best fill the aggregate but for the places that are drawn; those go to the lowest hashes among the rest.
        let limit = self.genesis.outer.max_contributions as usize;
        // A genesis that draws more than it aggregates is refused.
        let drawn = self.genesis.gauntlet.exploration_contributions as usize;
        let mut rest = ranked.split_off(ranked.len().min(limit - drawn));
        rest.sort_unstable_by_key(|(_, order, _)| *order);
        let aggregated = ranked.into_iter().chain(rest.into_iter().take(drawn)).map(|(_, _, miner)| miner).collect();
        (aggregated, excluded)
    }

    /// The weights and mints of a window, see `ledger/mints.rs`. Only miners with an accepted contribution are
    /// paid, and none that this record slashes.
    fn pay(
        &self,
        judging: &Judging,
        scores: &[&Score],
        settlement: &Settlement,
        slashes: &[Slash],
    ) -> (Vec<Weight>, Vec<Mint>) {
        let outcomes = &settlement.outcomes;
        let payable = payable(judging, settlement, slashes);
        let weights = weights(&self.genesis.gauntlet.weights, self.genesis.inner.steps, &payable);
        let work = ProvenWork {
            steps: steps_of(&payable),
            replays: late::proven(scores.iter().copied(), outcomes),
            evaluations: proven_evaluations(scores, outcomes),
        };
        let mints = mints(&self.genesis.emission, &weights, &work);
        (weights, mints)
    }

    /// How the miners' pay of a closed window came about. The window must be the next one after this state.
    ///
    /// # Errors
    /// [`JudgingError`]
    pub fn pay_of(&self, closed: &ClosedWindow) -> Result<WindowPay, JudgingError> {
        let judging = self.judging_of(closed)?;
        let scores: Vec<&Score> = closed.scores.iter().map(Signed::payload).collect();
        let settlement = self.settlement(&judging, &scores);
        let payable = payable(&judging, &settlement, &closed.window.body.slashes);
        let emission_micros = emission_of(&self.genesis.emission, steps_of(&payable));
        Ok(WindowPay { assessment: settlement.assessment, payable, emission_micros })
    }

    /// The record of the open window, which refutes nothing. `scores` are the counted scores; each must have passed
    /// [`RunState::check_score`] for this judging. `stepped` is the result of the outer step.
    ///
    /// # Errors
    /// [`AdvanceError::TwoScores`] or [`AdvanceError::NoQuorum`]
    pub fn close(&self, judging: &Judging, scores: &[&Score], stepped: Stepped) -> Result<WindowRecord, AdvanceError> {
        let named: Vec<(ScoreId, &Score)> =
            scores.iter().map(|score| (ScoreId::new(payload::id_of(*score)), *score)).collect();
        self.close_with(judging, &named, &[], stepped).map(|closing| closing.record)
    }

    /// The record of scores by their ids, and the state after the window.
    pub(super) fn close_with(
        &self,
        judging: &Judging,
        named: &[(ScoreId, &Score)],
        refuted: &[Refuted],
        stepped: Stepped,
    ) -> Result<OwnRecord<Self>, AdvanceError> {
        let mut by_validator = BTreeMap::<PublicKey, (ScoreId, &Score)>::new();
        for (id, score) in named {
            if by_validator.insert(score.validator, (*id, score)).is_some() {
                return Err(AdvanceError::TwoScores(score.validator.short()));
            }
        }
        let scores: &[&Score] = &by_validator.values().map(|(_, score)| *score).collect::<Vec<_>>();
        let total = self.genesis.total_stake();
        let stake = stake::stake_of(&self.genesis, by_validator.keys());
        if !stake::more_than_two_thirds(stake, total) {
            return Err(AdvanceError::NoQuorum { stake, total });
        }
        for validator in self.contested_validators(scores) {
            if refuted.binary_search_by_key(&validator, |refuted| refuted.validator).is_err() {
                return Err(AdvanceError::Unrefuted(validator.short()));
            }
        }
        // The order of these steps is that of the ledger: pay that vests now is out of reach of this window's
        // slashes, and pay that is minted now cannot be slashed by it.
        let settlement = self.shared_settlement(judging, named);
        let outcomes = &settlement.outcomes;
        let mut ledger = self.ledger.clone();
        ledger.vest(self.window);
        let challenged = self.challenged(scores, &self.refuted(scores));
        let counted = Counted { scores, refuted, outcomes };
        let slashes = self.slashes(judging.reveals(), counted, &challenged, &mut ledger);
        let (weights, mints) = self.pay(judging, scores, &settlement, &slashes);
        ledger.pay(self.window, &mints);
        let decided = self.decided(judging, outcomes, &weights, &slashes);
        ledger.spend(&decided.burns);
        let body = WindowBody {
            run: self.run,
            window: self.window,
            checkpoint_before: self.checkpoint,
            cut: judging.cut_id(),
            reveals: judging.reveals().to_vec(),
            seed: judging.seed(),
            scores: by_validator.values().map(|(id, _)| *id).collect(),
            outcomes: outcomes.clone(),
            weights,
            mints,
            refuted: refuted.to_vec(),
            slashes,
            challenges: self.listed(&challenged.open),
            admissions: decided.admissions.clone(),
            aggregate: stepped.aggregate,
            aggregate_bytes: stepped.aggregate_bytes,
            held_out_loss_nanonats: stepped.held_out_loss_nanonats,
        };
        let mut next = self.clone();
        let standings = settlement.assessment.standings.clone();
        next.follow(judging, scores, &body, Decisions { ledger, decided, challenged, standings });
        next.renew_tree(self);
        next.checkpoint = stepped.checkpoint;
        let header = WindowHeader {
            run: self.run,
            window: self.window,
            previous: self.record,
            checkpoint: stepped.checkpoint,
            body_root: payload::id_of(&body).into(),
            state_root: next.root(),
            validators_root: validators_root(&self.genesis),
        };
        let record = WindowRecord { header, body };
        let id = record.id();
        next.record = Some(id);
        Ok(OwnRecord { id, record, next: Arc::new(next) })
    }
}

/// How the miners' pay of a window came about.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowPay {
    /// The changes of the standings.
    pub assessment: Assessment,
    /// The miners that could be paid, sorted by key.
    pub payable: Vec<Payable>,
    /// The micro-ALPHA that the window mints at most, for the steps that it proved.
    pub emission_micros: u64,
}

/// The miners that a window can pay, sorted by key.
fn payable(judging: &Judging, settlement: &Settlement, slashes: &[Slash]) -> Vec<Payable> {
    let Settlement { outcomes, assessment } = settlement;
    let slashed: BTreeSet<PublicKey> =
        slashes.iter().filter(|slash| slash.cause.is_of_a_replay()).map(|slash| slash.account).collect();
    let payable = |outcome: &Outcome| {
        let miner = outcome.miner;
        let score_picos = *assessment.scores.get(&miner).filter(|_| !slashed.contains(&miner))?;
        let steps = judging.contributions().get(&miner)?.steps;
        let factor_nanos = assessment.standings.get(&miner)?.factor_nanos;
        Some(Payable { miner, score_picos, steps, factor_nanos })
    };
    accepted(outcomes).filter_map(payable).collect()
}

fn steps_of(payable: &[Payable]) -> u64 {
    payable.iter().map(|miner| u64::from(miner.steps)).sum()
}

/// The scores without their ids.
fn bare<'a>(scores: &[(ScoreId, &'a Score)]) -> Vec<&'a Score> {
    scores.iter().map(|(_, score)| *score).collect()
}
