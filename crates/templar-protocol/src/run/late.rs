//! Verdicts on contributions of closed windows: which of them still count, and what they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::proof::witness;
use templar_manifest::{
    Contribution, Hash, LateVerdict, Outcome, PublicKey, Refusal, Replay, Score, Verdict, WindowIndex, payload,
};

use super::RunState;
use super::challenges::Challenged;
use super::judged::Judged;
use super::judging::{JudgePlan, Judging};
use super::members::Member;
use super::pending::Pending;
use super::replay::ReplayTask;

/// The reasons for which a verdict on a contribution of a closed window does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// Verdicts come before the record in this run, so there are none later.
    #[error("verdicts come before the record in this run")]
    BeforeClose,
    /// The window of the contribution is not closed.
    #[error("window {0} is not closed")]
    NotClosed(WindowIndex),
    /// The verdict comes after its deadline.
    #[error("on window {window} it comes after the deadline, window {last}")]
    Deadline {
        /// The window of the contribution.
        window: WindowIndex,
        /// The last window in whose scores it would have counted.
        last: WindowIndex,
    },
    /// The record of that window did not accept a contribution with this id of this miner.
    #[error("on a contribution of {0} that no record accepted")]
    Contribution(String),
    /// The contribution was not drawn for the validator.
    #[error("on a contribution of {0} that was not drawn for its validator")]
    NotDrawn(String),
    /// The contribution is refuted or was never served, and its miner has paid.
    #[error("on a contribution of {0} that is refuted")]
    Refuted(String),
    /// The validator has given its verdict before.
    #[error("it is the second on the contribution of {0}")]
    Twice(String),
    /// The verdict is of a kind that is not allowed, or its proof contradicts itself.
    #[error("on the contribution of {miner}: {rule}")]
    Rule {
        /// The miner, in short.
        miner: String,
        /// The rule that is broken, in words.
        rule: &'static str,
    },
}

/// Checks a proof as far as possible without computing it again: it has a witness for each drawn validator, and
/// the validator's own witness is that of its claim.
pub(super) fn check_proof(
    claim: &Hash,
    witnesses: &[u64],
    drawn: &[PublicKey],
    validator: &PublicKey,
) -> Result<(), &'static str> {
    if witnesses.len() != drawn.len() {
        return Err("a proof with more or fewer witnesses than validators are drawn");
    }
    match drawn.binary_search(validator) {
        Ok(place) if witnesses[place] == witness(claim) => Ok(()),
        _ => Err("a proof whose claim is not its own witness"),
    }
}

impl RunState {
    /// The last window in whose scores a verdict on a contribution to `window` counts. It is later if the
    /// contribution was challenged.
    fn verdict_deadline(&self, window: WindowIndex, challenged: bool) -> WindowIndex {
        let replay = &self.genesis.replay;
        let windows = if challenged { replay.open_windows() } else { replay.verdict_windows };
        WindowIndex(window.0.saturating_add(windows))
    }

    /// The contributions of closed windows that a validator has still to replay, oldest first.
    pub(super) fn late_tasks(&self, validator: &PublicKey) -> Vec<ReplayTask> {
        let mut tasks = Vec::new();
        for (window, pending) in &self.contributed.pending {
            let drawn = pending.accepted.iter().filter(|miner| pending.judged.is_drawn(miner, validator));
            let in_time =
                drawn.filter(|miner| self.window <= self.verdict_deadline(*window, pending.challenged.contains(miner)));
            let open = in_time
                .filter(|miner| !pending.refuted.contains(miner) && !pending.landed.contains(&(**miner, *validator)));
            tasks.extend(open.filter_map(|miner| self.late_task(*window, miner)));
        }
        tasks
    }

    /// The task of replaying a contribution of a closed window for which verdicts still count.
    pub fn late_task(&self, window: WindowIndex, miner: &PublicKey) -> Option<ReplayTask> {
        let pending = self.contributed.pending.get(&window)?;
        let judged = pending.judged.contributions.get(miner)?;
        Some(ReplayTask {
            window: pending.judged.window,
            checkpoint: pending.checkpoint,
            contribution: judged.contribution.clone(),
            id: judged.id,
            pages: pending.pages.get(miner)?.clone(),
            draws: pending.judged.proof_draws(judged),
            upto: None,
        })
    }

    /// The task of replaying a contribution of the open window.
    pub fn replay_task(&self, judging: &Judging, miner: &PublicKey) -> Option<ReplayTask> {
        Some(ReplayTask {
            window: judging.window(),
            checkpoint: self.checkpoint,
            contribution: judging.contributions().get(miner)?.clone(),
            id: judging.contribution(miner)?,
            pages: self.pages_of(miner)?,
            draws: judging.proof_draws(miner),
            upto: None,
        })
    }

    /// The task of replaying a contribution of the open window without a proof for anybody.
    pub fn unproven_task(&self, contribution: &Contribution) -> Option<ReplayTask> {
        let (window, checkpoint, id) = (self.window, self.checkpoint, payload::id_of(contribution).into());
        let pages = self.pages_of(&contribution.miner)?;
        let contribution = contribution.clone();
        Some(ReplayTask { window, checkpoint, contribution, id, pages, draws: Vec::new(), upto: None })
    }

    /// The task of replaying a contribution of the open window by `plan`, with a proof if it was drawn.
    pub fn planned_task(&self, plan: &JudgePlan, contribution: &Contribution) -> Option<ReplayTask> {
        let draws = plan.draws.get(&contribution.miner).cloned().unwrap_or_default();
        Some(ReplayTask { draws, ..self.unproven_task(contribution)? })
    }

    /// The validators that were drawn to replay a contribution of a closed window for which verdicts still
    /// count.
    pub(crate) fn late_replayers(&self, window: WindowIndex, miner: &PublicKey) -> &[PublicKey] {
        self.contributed.pending.get(&window).map_or(&[], |pending| pending.judged.replayers_of(miner))
    }

    /// Checks a verdict in a validator's score of the open window, except for the replay itself.
    ///
    /// # Errors
    /// [`VerdictError`]
    pub fn check_verdict(&self, validator: &PublicKey, verdict: &LateVerdict) -> Result<(), VerdictError> {
        let (window, miner) = (verdict.window, &verdict.miner);
        if self.genesis.replay.before_close {
            return Err(VerdictError::BeforeClose);
        }
        if window >= self.window {
            return Err(VerdictError::NotClosed(window));
        }
        let Some(pending) = self.contributed.pending.get(&window) else {
            return Err(VerdictError::Deadline { window, last: self.verdict_deadline(window, false) });
        };
        if pending.contribution(miner) != Some(verdict.contribution) || !pending.accepted.contains(miner) {
            return Err(VerdictError::Contribution(miner.short()));
        }
        // Every validator answers whether it can fetch challenged bytes. All other verdicts are for the drawn
        // validators alone.
        let answers = verdict.is_challenge() && pending.challenges.contains_key(miner);
        let drawn = self.late_replayers(window, miner);
        if !answers {
            let last = self.verdict_deadline(window, pending.challenged.contains(miner) && !verdict.is_challenge());
            if self.window > last {
                return Err(VerdictError::Deadline { window, last });
            }
            if drawn.binary_search(validator).is_err() {
                return Err(VerdictError::NotDrawn(miner.short()));
            }
        }
        if verdict.is_challenge() && pending.refuted.contains(miner) {
            return Err(VerdictError::Refuted(miner.short()));
        }
        if pending.landed.contains(&(*miner, *validator)) {
            return Err(VerdictError::Twice(miner.short()));
        }
        let rule = match (&verdict.replay, &verdict.proof) {
            (Replay::Match, Some(proof)) => check_proof(&proof.claim, &proof.witnesses, drawn, validator),
            (Replay::Refused(refusal), None) if refusal.is_in_blobs() || *refusal == Refusal::Withheld => Ok(()),
            _ => Err("a verdict is a match with a proof, a refusal that blobs show, or withheld"),
        };
        rule.map_err(|rule| VerdictError::Rule { miner: miner.short(), rule })
    }

    /// The contributions of closed windows that these scores refute, by window and miner, each once.
    pub(super) fn refuted(&self, scores: &[&Score]) -> BTreeSet<(WindowIndex, PublicKey)> {
        let verdicts = scores.iter().flat_map(|score| &score.verdicts);
        let shows = |replay: &Replay| matches!(replay, Replay::Refused(refusal) if refusal.is_in_blobs());
        let refused = verdicts.filter(|verdict| shows(&verdict.replay));
        let open = |verdict: &&LateVerdict| {
            self.contributed
                .pending
                .get(&verdict.window)
                .is_some_and(|pending| !pending.refuted.contains(&verdict.miner))
        };
        refused.filter(open).map(|verdict| (verdict.window, verdict.miner)).collect()
    }

    /// Remembers the verdicts of the counted scores, the state of challenges, and the window that closes.
    /// Forgets windows whose deadline has passed.
    pub(super) fn remember_replays(
        &mut self,
        judging: &Judging,
        outcomes: &[Outcome],
        scores: &[&Score],
        challenged: &Challenged,
    ) {
        if self.genesis.replay.before_close {
            return;
        }
        for (score, verdict) in
            scores.iter().flat_map(|score| score.verdicts.iter().map(move |verdict| (score, verdict)))
        {
            let Some(pending) = self.contributed.pending.get_mut(&verdict.window).filter(|_| !verdict.is_challenge())
            else {
                continue;
            };
            let pending = Arc::make_mut(pending);
            pending.landed.insert((verdict.miner, score.validator));
            if verdict.replay != Replay::Match {
                pending.refuted.insert(verdict.miner);
            }
        }
        self.remember_challenges(challenged);
        let (checkpoint, assignment) = (self.checkpoint, self.assignment());
        let pages_of = |member: &Member| Some((member.owner, assignment.slot(member.slot as usize)?.to_vec()));
        let pages = self.members.iter().filter_map(pages_of).collect();
        let is_accepted = |outcome: &&Outcome| !matches!(outcome.verdict, Verdict::Refused(_));
        let accepted = outcomes.iter().filter(is_accepted).map(|outcome| outcome.miner).collect();
        let pending = Pending {
            judged: Judged::of(judging),
            checkpoint,
            pages,
            accepted,
            landed: BTreeSet::new(),
            refuted: BTreeSet::new(),
            challenges: BTreeMap::new(),
            challenged: BTreeSet::new(),
        };
        self.contributed.pending.insert(self.window, Arc::new(pending));
        // Scores of the next window may give verdicts on the last `open_windows` windows.
        let first = (self.window.0 + 1).saturating_sub(self.genesis.replay.open_windows());
        self.contributed.pending = self.contributed.pending.split_off(&WindowIndex(first));
    }
}

/// The number of replays that each validator of these scores has proven, of the open window and of closed ones:
/// matches, and refusals that the record repeats. A challenge does not count.
pub(super) fn proven<'a>(scores: impl IntoIterator<Item = &'a Score>, outcomes: &[Outcome]) -> Vec<(PublicKey, u64)> {
    let follows = |miner: &PublicKey, replay: &Replay| {
        let index = outcomes.binary_search_by_key(miner, |outcome| outcome.miner);
        let recorded = index.ok().map(|index| &outcomes[index].verdict);
        match replay {
            Replay::NotDrawn => false,
            Replay::Match => recorded.is_some_and(|verdict| !matches!(verdict, Verdict::Refused(_))),
            Replay::Refused(refusal @ Refusal::Mismatch { .. }) => {
                recorded.is_some_and(|verdict| *verdict == Verdict::Refused(refusal.clone()))
            }
            Replay::Refused(_) => false,
        }
    };
    let count = |score: &Score| {
        let own = score.entries.iter().filter(|entry| follows(&entry.miner, &entry.replay)).count();
        let late = score.verdicts.iter().filter(|verdict| !verdict.is_challenge()).count();
        (score.validator, (own + late) as u64)
    };
    scores.into_iter().map(count).collect()
}
