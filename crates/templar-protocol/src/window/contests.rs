//! Rechecks of contests: whether a measurement of the window before is false, as a score says.
//!
//! A contest is a fact about bytes, so this node measures the contribution itself, on the CPU. If the contest is true,
//! the statements of all validators that measured it are refuted. If it is false, the score that contests is not
//! counted, and its statement is refuted. Without the delta nothing can be said, so the score is not counted, and
//! nobody is refuted.

use std::collections::BTreeSet;

use templar_manifest::{PublicKey, Refuted, Score, ScoreId, Statement};

use super::Node;
use super::messages::{Dispute, Output, Subject};
use super::rechecks::Rechecks;
use crate::run::{Judging, Tried};

impl Node {
    /// Compares the contests of other validators with what this node measures.
    pub(super) fn recheck_contests(
        &self,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        attempt: u32,
        rechecks: &mut Rechecks,
    ) {
        let Some(window) = self.state.contestable_window() else { return };
        let all =
            || scores.iter().flat_map(|(id, score)| score.contests.iter().map(move |contest| (*id, score, contest)));
        let miners: BTreeSet<PublicKey> = all().map(|(_, _, contest)| contest.miner).collect();
        for miner in miners {
            let subject = Subject { seed: judging.seed(), window, miner };
            let known = self.open.own.remeasured.get(&subject);
            let known = known.filter(|(of, found)| *found != Tried::Unavailable || *of >= attempt);
            let (Some((_, found)), Some(said)) = (known, self.state.stated_measurement(&miner)) else {
                let task = self.state.past_evaluation_task(&miner).map(Box::new);
                let open = self.state.window();
                rechecks.open.extend(task.map(|task| Output::Remeasure { window: open, subject, task }));
                continue;
            };
            let contesting = all().filter(|(.., contest)| contest.miner == miner);
            if *found == Tried::Unavailable {
                rechecks.disputed.extend(contesting.map(|(id, ..)| id));
                continue;
            }
            for (score, payload, _) in contesting.filter(|(.., contest)| contest.found != found.losses()) {
                let (validator, statement) = (payload.validator, Statement::Contest);
                rechecks.disputed.insert(score);
                rechecks.refuted.insert(Refuted { validator, score, window, miner, statement });
                rechecks.disputes.push(Output::Dispute(Dispute::Measurement { validator, miner }));
            }
            if said.stated != *found {
                for &(validator, score) in &said.by {
                    let statement = Statement::Evaluation;
                    rechecks.refuted.insert(Refuted { validator, score, window, miner, statement });
                    rechecks.disputes.push(Output::Dispute(Dispute::Measurement { validator, miner }));
                }
            }
        }
    }
}
