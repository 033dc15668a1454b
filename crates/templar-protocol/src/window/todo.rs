//! The work that a node should do now. It follows from the node's state alone.
//!
//! `voting.rs` decides which votes a validator gives. This file decides what it has to do before, and which
//! record it finds right.
//!
//! # Disputes
//!
//! Validators may find different things, and each one rechecks the findings of others in its own time:
//!
//! * *Withheld* is no fact about bytes, and nobody can prove it. Every validator says in its score which bytes
//!   it could not fetch. If validators with more than half of the counted stake could not, the contribution is
//!   refused as withheld ([`RunState::outcomes`](crate::RunState::outcomes)). There is nothing to confirm.
//! * *Any other refusal* is a fact about bytes. A validator that refuses has the bytes and serves them, so all
//!   honest validators come to the same finding, or to none. A node does not propose or prevote a record that
//!   counts a refusal which it does not find itself. If it could not fetch the bytes, it tries again in the
//!   next attempt. So every honest validator leaves out a score with a false refusal, and counts one with a
//!   true refusal.
//! * *A measurement* is a fact about bytes as well (`remeasures.rs`), and so is a contest of one of the window before
//!   (`contests.rs`).
//! * *A false statement* costs its validator (`run/refuted.rs`): a record that does not count a score for one
//!   refutes the statement. No node prevotes such a record unless it has found the statement false itself.
//! * *A record whose outer step comes out differently* gets no prevote of this node. With less than a third of
//!   the stake faulty, the record of the others gets a polka, and this node follows it.
//!
//! # Who scores
//!
//! Every validator, also one whose value is not in the agreed set and for which nothing is drawn. A record needs
//! undisputed scores with more than two thirds of the stake. The set may have values of hardly more, some of them
//! of faulty validators that then sign no score or a false one, while the values of honest ones came too late. The
//! set never changes, and its honest alone can be too few for any record. All the honest together are enough.

use std::collections::BTreeMap;

use templar_manifest::{
    CutEntry, CutRegistration, Inbox, Outcome, PublicKey, Score, ScoreId, Verdict, VoteOn, WindowRecord,
};

use super::Node;
use super::messages::{Dispute, Output, Phase, Unsigned};
use super::voting::{Own, Right};
use crate::run::members::{Member, Rank};
use crate::run::{Judging, Stepped};
use crate::stake;

impl Node {
    /// All work that this node should do now. The driver starts the work that is not under way already.
    pub fn todo(&self) -> Vec<Output> {
        let Some(me) = self.me else { return Vec::new() };
        if self.is_over() {
            return Vec::new();
        }
        let genesis = self.state.genesis();
        let mut outputs = Vec::new();
        let has_contributed = |owner| self.open.contributions.first.contains_key(&owner);
        if self.open.certified.is_none() && self.contributor().is_some_and(|owner| !has_contributed(owner)) {
            outputs.push(Output::Train { window: self.state.window() });
        }
        if genesis.validator(&me).is_some() {
            outputs.extend(self.timer());
            outputs.extend(self.inbox_to_sign(&me));
            outputs.extend(self.vote(&me, VoteOn::Cut));
            if self.open.certified.is_some() {
                outputs.extend(self.reveal(&me));
                outputs.extend(self.vote(&me, VoteOn::Reveals));
                outputs.extend(self.judge(&me));
                outputs.extend(self.vote(&me, VoteOn::Window));
            }
        }
        outputs
    }

    fn timer(&self) -> Option<Output> {
        let deadlines = &self.state.genesis().deadlines;
        let phase = self.phase();
        let after_ms = match phase {
            Phase::Commit => deadlines.commit_ms,
            Phase::Reveal => deadlines.reveal_ms,
            Phase::Judge | Phase::Vote { .. } => deadlines.judge_ms,
        };
        let waiting = !self.open.deadlines.contains(&phase);
        waiting.then_some(Output::Timer { window: self.state.window(), phase, after_ms })
    }

    /// The inbox to sign: when the contribution of every member that is not idle is here, or at the deadline. In a
    /// run without such members the node waits for newcomers until the deadline.
    fn inbox_to_sign(&self, me: &PublicKey) -> Option<Output> {
        let open = &self.open;
        let signed = || open.inboxes.values().any(|inbox| inbox.signer() == *me);
        if open.certified.is_some() || signed() || !(open.deadlines.contains(&Phase::Commit) || self.all_contributed())
        {
            return None;
        }
        let entries = open.contributions.first.iter();
        let contributions =
            entries.map(|(miner, contribution)| CutEntry { miner: *miner, contribution: *contribution }).collect();
        let (run, window) = (self.state.run(), self.state.window());
        let registrations = self.registrations_to_name();
        Some(Output::Sign(Unsigned::Inbox(Inbox { run, window, validator: *me, contributions, registrations })))
    }

    /// Whether the contribution of every member that is not idle is here, and there is such a member.
    fn all_contributed(&self) -> bool {
        let (spec, window) = (&self.state.genesis().registration, self.state.window());
        let here = &self.open.contributions.first;
        let mut awaited = self.state.members().iter().filter(|member| !member.is_idle(spec, window)).peekable();
        // It is asked with every entry. Most answers end at one of the first members, whose contribution is not here.
        awaited.peek().is_some() && awaited.all(|member: &Member| here.contains_key(&member.owner))
    }

    /// The registration of each owner that came first, as many as can matter: see [`Rank::named`].
    fn registrations_to_name(&self) -> Vec<CutRegistration> {
        let open = &self.open;
        let ranked = open.registrations.first.iter().filter_map(|(owner, id)| {
            let registration = open.registrations.by_id.get(id)?.payload();
            Some((self.state.rank(*id, registration), CutRegistration { owner: *owner, registration: *id }))
        });
        let mut named = Rank::named(ranked.collect(), &self.state.genesis().registration);
        named.sort_unstable();
        named
    }

    /// The value to release after the certified cut, while it can still count.
    fn reveal(&self, me: &PublicKey) -> Option<Output> {
        let open = &self.open;
        let counts = open.agreed().is_none() && !open.values.here.contains_key(me);
        counts.then_some(Output::Reveal { window: self.state.window() })
    }

    /// The judging of the agreed values, once, and then the score.
    fn judge(&self, me: &PublicKey) -> Option<Output> {
        let open = &self.open;
        open.agreed()?;
        if open.scores.values().any(|score| score.signer() == *me) {
            return None;
        }
        match &open.own.judged {
            Some(score) => Some(Output::Sign(Unsigned::Score(score.clone()))),
            None => open.own.plan.clone().map(Output::Judge),
        }
    }

    /// The record that this node would propose, or the work before it: confirm refusals of others, apply the
    /// accepted deltas.
    pub(super) fn own_record(&self, me: &PublicKey, attempt: u32) -> Own {
        let Some((judging, scores)) = self.countable(attempt) else { return Own::Nothing };
        let rechecks = self.rechecks(me, judging, &scores, attempt);
        if !rechecks.open.is_empty() {
            return Own::Work(rechecks.open);
        }
        let counted: Vec<(ScoreId, &Score)> =
            scores.into_iter().filter(|(id, _)| !rechecks.disputed.contains(id)).collect();
        let refuted = self.state.to_refute(&rechecks.refuted, &counted);
        if !stake::is_quorum(self.state.genesis(), counted.iter().map(|(_, score)| &score.validator)) {
            return Own::Work(rechecks.disputes);
        }
        let settlement = self.state.shared_settlement(judging, &counted);
        let outcomes = &settlement.outcomes;
        let Some(applied) = self.open.own.applied.iter().find(|applied| applied.outcomes == *outcomes) else {
            return Own::Work(vec![self.apply(judging, outcomes.clone())]);
        };
        match self.state.shared_close(judging, &counted, &refuted, applied.stepped) {
            Ok(record) => Own::Ready { id: record.id.hash(), body: Right::Record(record), said: rechecks.disputes },
            Err(_) => Own::Nothing,
        }
    }

    /// The scores that would be counted now, one of each validator: those of the agreed set once all of it have
    /// judged, or after the deadline those of all. Of two scores of one validator the lower id counts.
    fn countable(&self, attempt: u32) -> Option<(&Judging, Vec<(ScoreId, &Score)>)> {
        let (open, genesis) = (&self.open, self.state.genesis());
        let judging = open.agreed()?;
        let mut scores = BTreeMap::<PublicKey, (ScoreId, &Score)>::new();
        for (id, score) in &open.scores {
            scores.entry(score.signer()).or_insert((*id, score.payload()));
        }
        let is_enough = if attempt > 0 || open.deadlines.contains(&Phase::Judge) {
            stake::is_quorum(genesis, scores.keys())
        } else {
            scores.retain(|validator, _| judging.reveal(validator).is_some());
            scores.len() == judging.reveals().len()
        };
        is_enough.then(|| (judging, scores.into_values().collect()))
    }

    /// The objections of this node to a prevote for a record that recomputes; `None` if there are none.
    pub(super) fn objections_to_record(
        &self,
        me: &PublicKey,
        record: &WindowRecord,
        attempt: u32,
    ) -> Option<Vec<Output>> {
        let (open, body) = (&self.open, &record.body);
        let Some(judging) = open.agreed() else { return Some(Vec::new()) };
        // A record that counts a lie may leave out every score that contradicts it, so all scores are compared.
        let scores: Vec<(ScoreId, &Score)> = open.scores.iter().map(|(id, score)| (*id, score.payload())).collect();
        let rechecks = self.rechecks(me, judging, &scores, attempt);
        if !rechecks.open.is_empty() {
            return Some(rechecks.open);
        }
        let is_true = body.scores.iter().all(|id| !rechecks.disputed.contains(id));
        if !is_true || !body.refuted.iter().all(|refuted| rechecks.refuted.contains(refuted)) {
            return Some(rechecks.disputes);
        }
        let Some(applied) = open.own.applied.iter().find(|applied| applied.outcomes == body.outcomes) else {
            return Some(vec![self.apply(judging, body.outcomes.clone())]);
        };
        if applied.stepped == Stepped::of(record) {
            return None;
        }
        let (record, found) = (record.id(), applied.stepped);
        Some(vec![Output::Dispute(Dispute::Record { record, found })])
    }

    fn apply(&self, judging: &Judging, outcomes: Vec<Outcome>) -> Output {
        let aggregated = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated);
        let deltas = aggregated
            .filter_map(|outcome| judging.contributions().get(&outcome.miner))
            .map(|contribution| (contribution.miner, contribution.delta))
            .collect();
        Output::Apply { window: self.state.window(), outcomes, deltas }
    }
}
