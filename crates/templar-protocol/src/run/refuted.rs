//! False statements of scores, which cost the validator that signed them.
//!
//! A replay and a loss are facts about bytes. A validator that finds a statement of another one false does not
//! count the score (`window/rechecks.rs`), and the record that it proposes *refutes* the statement. Nobody signs
//! such a record without having computed the fact itself, on the CPU, so validators with more than two thirds of
//! the stake have. Here is what can be checked without tensors: that the score is of this window, is not counted
//! and makes the statement; or that it is of the window before, and a counted score contests its measurement
//! (`spot_checks.rs`).
//!
//! That bytes were *withheld* is no fact, so it is never refuted, nor is a statement about bytes that the accuser
//! could not fetch. A refusal is refuted if a replay agrees with the miner at the leaf that it names. Where the replay
//! departs at that leaf or before it, both agree that the contribution is wrong, and nobody pays.

use std::collections::BTreeSet;

use templar_manifest::{PublicKey, Refusal, Refuted, Replay, Score, ScoreId, Statement};

use super::RunState;
use super::closed::AdvanceError;
use super::evaluation_task::StatedTrial;

impl RunState {
    /// The statements to refute in a record that counts `counted`: the first of each validator among `found`.
    pub(crate) fn to_refute(&self, found: &BTreeSet<Refuted>, counted: &[(ScoreId, &Score)]) -> Vec<Refuted> {
        let can_be = |refuted: &&Refuted| {
            let is_counted = counted.iter().any(|(id, _)| *id == refuted.score);
            !is_counted && (!self.is_of_past_score(refuted) || self.is_contested(refuted, counted))
        };
        let mut first: Vec<Refuted> = found.iter().filter(can_be).copied().collect();
        // They are sorted by validator.
        first.dedup_by_key(|refuted| refuted.validator);
        first
    }

    /// Checks that a score makes the statement that a record refutes. `score` is the score of that id, as far as it is
    /// of the open window, and `counted` are the scores that the record counts.
    ///
    /// # Errors
    /// [`AdvanceError::Unstated`]
    pub(crate) fn check_refuted(
        &self,
        refuted: &Refuted,
        score: Option<&Score>,
        counted: &[(ScoreId, &Score)],
    ) -> Result<(), AdvanceError> {
        let is_made = if self.is_of_past_score(refuted) {
            self.is_contested(refuted, counted)
        } else {
            score.is_some_and(|score| score.validator == refuted.validator && is_stated(refuted, score))
        };
        is_made.then_some(()).ok_or_else(|| AdvanceError::Unstated(refuted.validator.short()))
    }

    /// Whether a refuted statement is a measurement of the window before. Its score is of that window as well.
    pub(crate) fn is_of_past_score(&self, refuted: &Refuted) -> bool {
        refuted.is_of_past_score(self.window)
    }

    /// Whether the score of a measurement of the window before made it, and one of `counted` contests it.
    fn is_contested(&self, refuted: &Refuted, counted: &[(ScoreId, &Score)]) -> bool {
        let Refuted { validator, score, window, miner, .. } = refuted;
        let is_stated = self.stated_measurement(miner).is_some_and(|said| said.by.contains(&(*validator, *score)));
        let mut contests = counted.iter().flat_map(|(_, score)| &score.contests);
        self.contestable_window() == Some(*window) && is_stated && contests.any(|contest| contest.miner == *miner)
    }
}

fn is_stated(refuted: &Refuted, score: &Score) -> bool {
    let is_fact = |replay: &Replay| !matches!(replay, Replay::NotDrawn | Replay::Refused(Refusal::Withheld));
    let Refuted { window, miner, statement, .. } = refuted;
    if *statement == Statement::Contest {
        return window.next() == score.window && score.contests.iter().any(|contest| contest.miner == *miner);
    }
    if *window != score.window {
        let is_it = |verdict: &&templar_manifest::LateVerdict| (verdict.window, verdict.miner) == (*window, *miner);
        let said = score.verdicts.iter().find(is_it);
        return *statement == Statement::Replay && said.is_some_and(|said| is_fact(&said.replay));
    }
    let entry = score.entries.iter().find(|entry| entry.miner == *miner);
    entry.is_some_and(|entry| match statement {
        Statement::Replay => is_fact(&entry.replay),
        Statement::Evaluation => StatedTrial::of(entry).is_some(),
        Statement::Contest => false,
    })
}

/// The validators that a record refutes.
pub(super) fn liars(refuted: &[Refuted]) -> impl Iterator<Item = PublicKey> {
    refuted.iter().map(|refuted| refuted.validator)
}
