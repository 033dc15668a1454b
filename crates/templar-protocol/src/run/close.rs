//! Closing a window: from scores to outcomes, weights, mints and the record.
//!
//! Nothing is chosen here. Given the counted scores and the result of the outer step, everybody computes the
//! same record to the byte. The header holds the root of the state after the window, so whoever computes the
//! record has also computed the state that it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    Hash, Mint, Outcome, PublicKey, Refusal, Replay, Score, ScoreId, Slash, Verdict, Weight, WindowBody, WindowHeader,
    WindowRecord, payload,
};

use super::advance::Decisions;
use super::closed::AdvanceError;
use super::closing::{Counted, OwnRecord, Stepped, accepted, ids_of};
use super::judging::Judging;
use super::state::validators_root;
use super::{RunState, late};
use crate::gauntlet::Standing;
use crate::ledger::consensus;
use crate::stake;

const SELECTION_CONTEXT: &str = "templar/1 selection order";

impl RunState {
    /// The verdict on each contribution of the cut, sorted by miner, from the counted scores in the order of
    /// their validators.
    ///
    /// First the replays decide, for each contribution:
    ///
    /// 1. The first refusal for another reason than `withheld` refuses it.
    /// 2. Otherwise it is refused as `withheld` if scores with more than half of the counted stake say so.
    /// 3. Otherwise any match accepts it.
    /// 4. Otherwise nobody replayed it. Where verdicts come before the record it is refused as `not-replayed`,
    ///    else it is accepted.
    ///
    /// Then the accepted ones are selected. Those that validators with half of the stake or more can neither
    /// pay nor aggregate are excluded. The others are ordered by supported score, the largest that more than
    /// half of the stake supports, and equal ones by a hash with the seed. The best are aggregated, and some of
    /// the others are drawn by the seed, as many as genesis says. The rest are in reserve.
    pub fn outcomes(&self, judging: &Judging, scores: &[&Score]) -> Vec<Outcome> {
        let scores: BTreeMap<PublicKey, &Score> = scores.iter().map(|score| (score.validator, *score)).collect();
        let mut verdicts = BTreeMap::<PublicKey, Option<Refusal>>::new();
        let counted = stake::stake_of(&self.genesis, scores.keys());
        for miner in judging.contributions().keys() {
            let (mut refused, mut matches, mut withheld) = (None, false, 0u64);
            for score in scores.values() {
                let Ok(index) = score.entries.binary_search_by_key(miner, |entry| entry.miner) else { continue };
                match &score.entries[index].replay {
                    Replay::NotDrawn => {}
                    Replay::Match => matches = true,
                    Replay::Refused(Refusal::Withheld) => {
                        withheld += stake::stake_of(&self.genesis, [&score.validator])
                    }
                    Replay::Refused(refusal) => {
                        refused = Some(refusal.clone());
                        break;
                    }
                }
            }
            let verdict = match refused {
                Some(refusal) => Some(refusal),
                None if u128::from(withheld) * 2 > u128::from(counted) => Some(Refusal::Withheld),
                None => (self.genesis.replay.before_close && !matches).then_some(Refusal::NotReplayed),
            };
            verdicts.insert(*miner, verdict);
        }
        let accepted = verdicts.iter().filter(|(_, refusal)| refusal.is_none()).map(|(miner, _)| *miner).collect();
        let (aggregated, excluded) = self.chosen(judging, &scores, accepted);
        let entries = judging.cut().contributions.iter();
        entries
            .map(|entry| {
                let verdict = match verdicts.remove(&entry.miner).flatten() {
                    Some(refusal) => Verdict::Refused(refusal),
                    None if aggregated.contains(&entry.miner) => Verdict::Aggregated,
                    None if excluded.contains(&entry.miner) => Verdict::Excluded,
                    None => Verdict::Reserve,
                };
                Outcome { miner: entry.miner, contribution: entry.contribution, verdict }
            })
            .collect()
    }

    /// The outcomes of scores by their ids, computed once for all who share this state and judging.
    pub(crate) fn shared_outcomes(&self, judging: &Judging, scores: &[(ScoreId, &Score)]) -> Arc<Vec<Outcome>> {
        judging.shared.outcomes.get_or(ids_of(scores), || self.outcomes(judging, &bare(scores)))
    }

    /// The record of [`RunState::close`] and its id, computed once for all who share this state and judging.
    pub(crate) fn shared_close(
        &self,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        stepped: Stepped,
    ) -> Result<Arc<OwnRecord<Self>>, AdvanceError> {
        self.shared.records.try_get_or((ids_of(scores), stepped), || self.close_with(judging, scores, stepped))
    }

    /// The accepted miners that are aggregated, and those that are excluded.
    fn chosen(
        &self,
        judging: &Judging,
        scores: &BTreeMap<PublicKey, &Score>,
        accepted: BTreeSet<PublicKey>,
    ) -> (BTreeSet<PublicKey>, BTreeSet<PublicKey>) {
        let mut levels = BTreeMap::<PublicKey, Vec<(u64, u64)>>::new();
        let mut whole = 0;
        let present = scores
            .iter()
            .map(|(validator, score)| (*validator, self.assessment(judging, validator, &score.entries, None).scores));
        for (validator, opinion) in present.chain(self.opinions_of_absent(scores, &accepted)) {
            let stake = stake::stake_of(&self.genesis, [&validator]);
            whole += stake;
            for (miner, score) in opinion {
                // Add one, to tell a score of nothing from an excluded miner. A score is at most 9e15.
                levels.entry(miner).or_default().push((score + 1, stake));
            }
        }
        let level = |miner: &PublicKey| consensus::supported(levels.get(miner).cloned().unwrap_or_default(), whole);
        let order = |miner: &PublicKey| -> Hash {
            let mut hasher = blake3::Hasher::new_derive_key(SELECTION_CONTEXT);
            hasher.update(judging.seed().as_bytes());
            hasher.update(miner.as_bytes());
            hasher.finalize().into()
        };
        let ranked = accepted.into_iter().map(|miner| (level(&miner), order(&miner), miner));
        let (mut ranked, kept_out): (Vec<_>, Vec<_>) = ranked.partition(|(level, _, _)| *level > 0);
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        // The best fill the aggregate but for the places that are drawn; those go to the lowest hashes among the rest.
        let limit = self.genesis.outer.max_contributions as usize;
        // A genesis that draws more than it aggregates is refused.
        let drawn = self.genesis.gauntlet.exploration_contributions as usize;
        let mut rest = ranked.split_off(ranked.len().min(limit - drawn));
        rest.sort_unstable_by_key(|(_, order, _)| *order);
        let aggregated = ranked.into_iter().chain(rest.into_iter().take(drawn)).map(|(_, _, miner)| miner).collect();
        (aggregated, kept_out.into_iter().map(|(_, _, miner)| miner).collect())
    }

    /// The opinions that absent validators had of these miners before the window, excluded miners left out.
    /// Absent are validators without a counted score. Their opinion counts if a value of theirs was recorded at
    /// most `vesting_windows` windows ago, so that they have something at stake, and if they have any opinion
    /// at all.
    fn opinions_of_absent<T>(
        &self,
        counted: &BTreeMap<PublicKey, T>,
        miners: &BTreeSet<PublicKey>,
    ) -> Vec<(PublicKey, BTreeMap<PublicKey, u64>)> {
        let is_recent = |validator: &PublicKey| {
            let last = self.chains.get(validator).map(|(window, _)| window.0);
            last.is_some_and(|last| self.window.0 - last <= self.genesis.emission.vesting_windows)
        };
        let absent = self.standings.iter().filter(|(validator, _)| !counted.contains_key(validator));
        let opinion = |standings: &BTreeMap<PublicKey, Standing>| -> BTreeMap<PublicKey, u64> {
            let known = standings.iter().filter(|(miner, _)| miners.contains(miner));
            let kept = known.filter(|(_, standing)| !standing.is_excluded(self.window));
            kept.map(|(miner, standing)| (*miner, standing.score_picos(&self.genesis.gauntlet.proof, self.window)))
                .collect()
        };
        let recent = absent.filter(|(validator, _)| is_recent(validator));
        let opinions = recent.map(|(validator, standings)| (*validator, opinion(standings)));
        opinions.filter(|(_, opinion)| !opinion.is_empty()).collect()
    }

    /// The weights and mints of a window, see `ledger/consensus.rs`. Only miners with an accepted contribution
    /// are paid, and none that this record slashes.
    fn pay(
        &self,
        judging: &Judging,
        scores: &BTreeMap<PublicKey, (ScoreId, &Score)>,
        outcomes: &[Outcome],
        slashes: &[Slash],
    ) -> (Vec<Weight>, Vec<Mint>) {
        let mut paid: BTreeSet<PublicKey> = accepted(outcomes).map(|outcome| outcome.miner).collect();
        for slash in slashes.iter().filter(|slash| slash.cause.is_of_a_replay()) {
            paid.remove(&slash.account);
        }
        let absent = self.opinions_of_absent(scores, &paid).into_iter();
        let absent: Vec<(PublicKey, Vec<Weight>)> = absent
            .map(|(validator, opinion)| (validator, self.row_of(judging, opinion)))
            .filter(|(_, row)| !row.is_empty())
            .collect();
        let present = scores.iter().map(|(validator, (_, score))| (*validator, &score.row[..]));
        let rows: Vec<(PublicKey, &[Weight])> =
            present.chain(absent.iter().map(|(validator, row)| (*validator, &row[..]))).collect();
        let agreement = consensus::agree(&self.genesis, &rows, &paid);
        // An absent validator has proven no replay in this window, so its row is paid nothing.
        let replays = late::proven(scores.values().map(|(_, score)| *score), outcomes);
        let mints = consensus::mints(&self.genesis, &agreement, &replays);
        (agreement.weights, mints)
    }

    /// The record of the open window. `scores` are the counted scores; each must have passed
    /// [`RunState::check_score`] for this judging. `stepped` is the result of the outer step.
    ///
    /// # Errors
    /// [`AdvanceError::TwoScores`] or [`AdvanceError::NoQuorum`]
    pub fn close(&self, judging: &Judging, scores: &[&Score], stepped: Stepped) -> Result<WindowRecord, AdvanceError> {
        let named: Vec<(ScoreId, &Score)> =
            scores.iter().map(|score| (ScoreId::new(payload::id_of(*score)), *score)).collect();
        self.close_with(judging, &named, stepped).map(|closing| closing.record)
    }

    /// The record of scores by their ids, and the state after the window.
    pub(super) fn close_with(
        &self,
        judging: &Judging,
        named: &[(ScoreId, &Score)],
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
        // The order of these steps is that of the ledger: pay that vests now is out of reach of this window's
        // slashes, and pay that is minted now cannot be slashed by it.
        let outcomes = self.shared_outcomes(judging, named).to_vec();
        let mut ledger = self.ledger.clone();
        ledger.vest(self.window);
        let challenged = self.challenged(scores, &self.refuted(scores));
        let counted = Counted { scores, outcomes: &outcomes };
        let slashes = self.slashes(judging.reveals(), counted, &challenged, &mut ledger);
        let (weights, mints) = self.pay(judging, &by_validator, &outcomes, &slashes);
        ledger.pay(self.window, &mints);
        let decided = self.decided(judging, &weights, &slashes);
        ledger.spend(&decided.burns);
        let body = WindowBody {
            run: self.run,
            window: self.window,
            checkpoint_before: self.checkpoint,
            cut: judging.cut_id(),
            reveals: judging.reveals().to_vec(),
            seed: judging.seed(),
            scores: by_validator.values().map(|(id, _)| *id).collect(),
            outcomes,
            weights,
            mints,
            slashes,
            challenges: self.listed(&challenged.open),
            admissions: decided.admissions.clone(),
            aggregate: stepped.aggregate,
            aggregate_bytes: stepped.aggregate_bytes,
            held_out_loss_nanonats: stepped.held_out_loss_nanonats,
        };
        let mut next = self.clone();
        next.follow(judging, scores, &body, Decisions { ledger, decided, challenged });
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

/// The scores without their ids.
fn bare<'a>(scores: &[(ScoreId, &'a Score)]) -> Vec<&'a Score> {
    scores.iter().map(|(_, score)| *score).collect()
}
