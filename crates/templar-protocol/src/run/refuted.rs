//! False statements of scores, which cost the validator that signed them.
//!
//! A replay and a loss are facts about bytes. A validator that finds a statement of another one false does not
//! count the score (`window/rechecks.rs`), and the record that it proposes *refutes* the statement. Nobody signs
//! such a record without having computed the fact itself, on the CPU, so validators with more than two thirds of
//! the stake have. Here is what can be checked without tensors: that the score is of this window, is not counted
//! and makes the statement.
//!
//! That bytes were *withheld* is no fact, so it is never refuted, nor is a statement about bytes that the accuser
//! could not fetch. Neither is a refusal for which the accuser finds another reason: both agree that the
//! contribution is wrong.

use std::collections::BTreeSet;

use templar_manifest::{Evaluation, PublicKey, Refusal, Refuted, Replay, Score, ScoreId, Statement};

use super::closed::AdvanceError;
use super::findings::is_unread;

/// The statements to refute in a record that counts `counted`: the first of each validator among `found`.
pub(crate) fn to_refute(found: &BTreeSet<Refuted>, counted: &[(ScoreId, &Score)]) -> Vec<Refuted> {
    let is_counted = |refuted: &Refuted| counted.iter().any(|(id, _)| *id == refuted.score);
    let mut first: Vec<Refuted> = found.iter().filter(|refuted| !is_counted(refuted)).copied().collect();
    // They are sorted by validator.
    first.dedup_by_key(|refuted| refuted.validator);
    first
}

/// Checks that a score makes the statement that a record refutes.
///
/// # Errors
/// [`AdvanceError::Unstated`]
pub(crate) fn check(refuted: &Refuted, score: &Score) -> Result<(), AdvanceError> {
    let is_made = score.validator == refuted.validator && is_stated(refuted, score);
    is_made.then_some(()).ok_or_else(|| AdvanceError::Unstated(refuted.validator.short()))
}

fn is_stated(refuted: &Refuted, score: &Score) -> bool {
    let is_fact = |replay: &Replay| !matches!(replay, Replay::NotDrawn | Replay::Refused(Refusal::Withheld));
    let Refuted { window, miner, statement, .. } = refuted;
    if *window != score.window {
        let is_it = |verdict: &&templar_manifest::LateVerdict| (verdict.window, verdict.miner) == (*window, *miner);
        let said = score.verdicts.iter().find(is_it);
        return *statement == Statement::Replay && said.is_some_and(|said| is_fact(&said.replay));
    }
    let entry = score.entries.iter().find(|entry| entry.miner == *miner);
    entry.is_some_and(|entry| match statement {
        Statement::Replay => is_fact(&entry.replay),
        Statement::Evaluation => match &entry.evaluation {
            Evaluation::Measured(_) => true,
            Evaluation::Untried => !is_unread(entry),
            Evaluation::NotDrawn => false,
        },
    })
}

/// The validators that a record refutes.
pub(super) fn liars(refuted: &[Refuted]) -> impl Iterator<Item = PublicKey> {
    refuted.iter().map(|refuted| refuted.validator)
}
