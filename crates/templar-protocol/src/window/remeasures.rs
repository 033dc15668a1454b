//! Rechecks of measurements: which contributions of others this node must measure itself before it counts a score
//! or signs a record.
//!
//! A loss on the window's pages is a fact, so validators that measured a contribution must state the same losses
//! and the same witnesses. As long as they do, everybody else believes them. Where two differ, every validator
//! measures that contribution itself and counts no score that says something else. So all honest ones come to the
//! same scores.
//!
//! A validator says *untried* where the trial step cannot be taken, which is as much a fact. One that refuses the
//! contribution as withheld or malformed says nothing here, since it may mean the trace and not the delta.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{PublicKey, Refuted, Score, ScoreId, Statement};

use super::Node;
use super::messages::{Dispute, Output, Subject};
use super::rechecks::Rechecks;
use crate::run::{Judging, StatedTrial, Tried};

/// The statement of one score about trying a delta.
struct Said<'a> {
    validator: PublicKey,
    score: ScoreId,
    stated: StatedTrial<'a>,
}

/// The statements of scores about trying deltas, by miner.
fn statements<'a>(
    scores: &[(ScoreId, &'a Score)],
    is_wanted: impl Fn(&PublicKey) -> bool,
) -> BTreeMap<PublicKey, Vec<Said<'a>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for (score, payload) in scores {
        for entry in payload.entries.iter().filter(|entry| is_wanted(&entry.miner)) {
            if let Some(stated) = StatedTrial::of(entry) {
                let said = Said { validator: payload.validator, score: *score, stated };
                found.entry(entry.miner).or_default().push(said);
            }
        }
    }
    found
}

fn contradict(said: &[Said<'_>]) -> bool {
    said.windows(2).any(|pair| pair[0].stated != pair[1].stated)
}

/// The miners about whose deltas scores contradict each other.
fn contested(scores: &[(ScoreId, &Score)]) -> BTreeSet<PublicKey> {
    statements(scores, |_| true).into_iter().filter(|(_, said)| contradict(said)).map(|(miner, _)| miner).collect()
}

impl Node {
    /// Compares the measurements of other validators with each other and with this node's own.
    pub(super) fn remeasures(
        &self,
        me: &PublicKey,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        attempt: u32,
    ) -> Rechecks {
        let mut rechecks = Rechecks::default();
        let contested = judging.contested_measurements(scores, contested);
        let is_counted = self.is_among(me, scores);
        let remeasured = self.open.own.remeasured.keys().filter(|subject| subject.window == self.state.window());
        let remeasured: BTreeSet<PublicKey> = remeasured.map(|subject| subject.miner).collect();
        if is_counted && contested.is_empty() && remeasured.is_empty() {
            return rechecks;
        }
        let is_wanted = |miner: &PublicKey| !is_counted || contested.contains(miner) || remeasured.contains(miner);
        for (miner, said) in statements(scores, is_wanted) {
            let subject = Subject { seed: judging.seed(), window: self.state.window(), miner };
            let is_contested = contested.contains(&miner);
            let Some(found) = self.tried(me, &subject, attempt, is_contested) else {
                rechecks.open.extend(self.remeasure(judging, subject).filter(|_| is_contested));
                continue;
            };
            // Without the delta nothing can be said about who is right, so nobody is believed.
            let holds = |stated: &StatedTrial<'_>| match &found {
                Tried::Unavailable => !is_contested,
                Tried::Untried => *stated == StatedTrial::Untried,
                Tried::Measured { losses, witnesses } => *stated == StatedTrial::Measured(*losses, witnesses),
            };
            for said in said.iter().filter(|said| said.validator != *me && !holds(&said.stated)) {
                let (validator, window) = (said.validator, subject.window);
                rechecks.disputed.insert(said.score);
                if found != Tried::Unavailable {
                    let statement = Statement::Evaluation;
                    rechecks.refuted.insert(Refuted { validator, score: said.score, window, miner, statement });
                    rechecks.disputes.push(Output::Dispute(Dispute::Measurement { validator, miner }));
                }
            }
        }
        rechecks
    }

    /// The output that asks for this node's own measurement.
    fn remeasure(&self, judging: &Judging, subject: Subject) -> Option<Output> {
        let task = Box::new(self.state.evaluation_task(judging, &subject.miner)?);
        Some(Output::Remeasure { window: self.state.window(), subject, task })
    }

    /// This node's own result for a contribution of the open window, if it has one. That it could not fetch the
    /// delta in an earlier attempt is none. Where others contradict each other, neither is its own score, which may
    /// be the work of a faulty device: it measures again, on the CPU.
    fn tried(&self, me: &PublicKey, subject: &Subject, attempt: u32, is_contested: bool) -> Option<Tried> {
        if let Some((of, found)) = self.open.own.remeasured.get(subject) {
            return Some(found.clone()).filter(|found| *found != Tried::Unavailable || *of >= attempt);
        }
        if is_contested {
            return None;
        }
        let own = self.open.scores.values().filter(|score| score.signer() == *me).map(|score| score.payload());
        let mut entries = own.filter(|score| score.seed == subject.seed).filter_map(|score| {
            let index = score.entries.binary_search_by_key(&subject.miner, |entry| entry.miner).ok()?;
            StatedTrial::of(&score.entries[index])
        });
        entries.next().map(Tried::from)
    }
}
