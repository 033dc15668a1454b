//! What a node should be doing now, derived from its state alone.
//!
//! A validator signs at most one cut and one record in a window: once its own signature is among the accepted entries,
//! it is asked for no other. It signs only what it has recomputed.

use std::collections::BTreeMap;

use templar_manifest::{
    Cut, CutEntry, CutRegistration, Inbox, InboxId, Outcome, PublicKey, Refusal, Replay, Score, Signed, Verdict,
    Window, payload,
};

use super::{Dispute, Document, Node, Output, Phase};
use crate::members::Rank;
use crate::stake;
use crate::state::{Judging, Stepped};

impl Node {
    /// Everything that this node should be doing now. The driver starts what is not already under way.
    pub fn todo(&self) -> Vec<Output> {
        let Some(me) = self.me else { return Vec::new() };
        if self.is_over() {
            return Vec::new();
        }
        let genesis = self.state.genesis();
        let mut outputs = Vec::new();
        let owner = self.contributor();
        if owner.is_some_and(|owner| self.open.certified.is_none() && !self.open.first.contains_key(&owner)) {
            outputs.push(Output::Train { window: self.state.window() });
        }
        if genesis.validator(&me).is_some() {
            outputs.extend(self.timer());
            outputs.extend(self.inbox_to_sign(&me));
            outputs.extend(self.cut_to_sign(&me));
            outputs.extend(self.reveal_and_judge(&me));
            outputs.extend(self.record_work(&me));
        }
        outputs
    }

    fn timer(&self) -> Option<Output> {
        let deadlines = &self.state.genesis().deadlines;
        let phase = self.phase();
        let after_ms = match phase {
            Phase::Commit => deadlines.commit_ms,
            Phase::Reveal => deadlines.reveal_ms,
            Phase::Judge => deadlines.judge_ms,
        };
        let waiting = !self.open.deadlines.contains(&phase);
        waiting.then_some(Output::Timer { window: self.state.window(), phase, after_ms })
    }

    /// The inbox: when every member's contribution is in, or at the deadline. Where nobody is a member, newcomers are waited
    /// for.
    fn inbox_to_sign(&self, me: &PublicKey) -> Option<Output> {
        let open = &self.open;
        let members = self.state.members();
        let all = !members.is_empty() && open.first.len() == members.len();
        let signed = open.inboxes.values().any(|inbox| inbox.signer() == *me);
        if signed || open.certified.is_some() || !(all || open.deadlines.contains(&Phase::Commit)) {
            return None;
        }
        let entries = open.first.iter();
        let contributions =
            entries.map(|(miner, contribution)| CutEntry { miner: *miner, contribution: *contribution }).collect();
        let (run, window) = (self.state.run(), self.state.window());
        let registrations = self.registrations_to_name();
        Some(Output::Sign(Document::Inbox(Inbox { run, window, validator: *me, contributions, registrations })))
    }

    /// The registration of each owner that came first, as far as they can matter: see [`Rank::named`].
    fn registrations_to_name(&self) -> Vec<CutRegistration> {
        let open = &self.open;
        let ranked = open.first_registration.iter().filter_map(|(owner, id)| {
            let registration = open.registrations.get(id)?.payload();
            Some((self.state.rank(*id, registration), CutRegistration { owner: *owner, registration: *id }))
        });
        let mut named = Rank::named(ranked.collect(), &self.state.genesis().registration);
        named.sort_unstable();
        named
    }

    /// The cut: the proposer's own when all inboxes are in, or at the deadline those of a quorum; for others the
    /// proposer's, which was recomputed before it was accepted.
    fn cut_to_sign(&self, me: &PublicKey) -> Option<Output> {
        let open = &self.open;
        let signed = open.cuts.values().any(|proposal| proposal.witnesses.contains_key(me));
        if signed || open.certified.is_some() {
            return None;
        }
        let proposer = self.state.proposer();
        if proposer != *me {
            let proposed = open.cuts.values().find(|proposal| proposal.witnesses.contains_key(&proposer))?;
            return Some(Output::Sign(Document::Cut(Cut::clone(&proposed.body))));
        }
        let mut inboxes = BTreeMap::<PublicKey, (InboxId, &Inbox)>::new();
        for (id, inbox) in &open.inboxes {
            inboxes.entry(inbox.signer()).or_insert((*id, inbox.payload()));
        }
        let all = inboxes.len() == self.state.genesis().validators.len();
        if !(all || open.deadlines.contains(&Phase::Commit)) {
            return None;
        }
        let inboxes: Vec<(InboxId, &Inbox)> = inboxes.into_values().collect();
        let cut = self.state.cut(&inboxes).ok()?;
        open.has_all(&cut).then_some(Output::Sign(Document::Cut(cut)))
    }

    /// After the certified cut: the reveal; after the seed: judging, and the score.
    fn reveal_and_judge(&self, me: &PublicKey) -> Option<Output> {
        let open = &self.open;
        open.certified?;
        if !open.reveals.contains_key(me) {
            return Some(Output::Reveal { window: self.state.window() });
        }
        if !open.is_revealed(self.state.genesis()) {
            return None;
        }
        let judging = open.current()?;
        let scored = open.scores.values().any(|score| score.signer() == *me && score.payload().seed == judging.seed());
        if scored {
            return None;
        }
        match open.judged.get(&judging.seed()) {
            Some(score) => Some(Output::Sign(Document::Score(score.clone()))),
            None => open.plan.clone().map(Output::Judge),
        }
    }

    /// The record: confirm what others refuse, apply what is accepted, then propose or vote.
    fn record_work(&self, me: &PublicKey) -> Vec<Output> {
        let open = &self.open;
        if open.records.values().any(|proposal| proposal.witnesses.contains_key(me)) {
            return Vec::new();
        }
        let proposer = self.state.proposer();
        let proposed = open.records.values().filter(|proposal| proposal.witnesses.contains_key(&proposer));
        let mut votes: Vec<Vec<Output>> = proposed.map(|proposal| self.vote(me, &proposal.body)).collect();
        if !votes.is_empty() {
            // Of two that the proposer has signed, the one that this node finds right has its vote, whichever id is lower.
            let right = votes.iter().position(|outputs| outputs.iter().any(|output| matches!(output, Output::Sign(_))));
            return match right {
                Some(right) => votes.swap_remove(right),
                None => votes.concat(),
            };
        }
        let Some((judging, scores)) = self.countable() else { return Vec::new() };
        let doubts = self.doubts(me, judging, &scores);
        if !doubts.open.is_empty() {
            return doubts.open;
        }
        let counted: Vec<&Score> =
            scores.into_iter().filter(|score| !doubts.disputed.contains(&score.validator)).collect();
        if !stake::is_quorum(self.state.genesis(), counted.iter().map(|score| &score.validator)) {
            return doubts.disputes;
        }
        let outcomes = self.state.outcomes(judging, &counted);
        match open.applied.iter().find(|applied| applied.outcomes == outcomes) {
            None => vec![self.apply(judging, outcomes)],
            Some(applied) if proposer == *me => {
                let record = self.state.close(judging, &counted, applied.stepped);
                record.ok().map(|record| Output::Sign(Document::Window(Box::new(record)))).into_iter().collect()
            }
            Some(_) => doubts.disputes,
        }
    }

    /// The scores that would be counted now: of the settled seed, one of each validator, when all who revealed have
    /// judged, or after the deadline.
    fn countable(&self) -> Option<(&Judging, Vec<&Score>)> {
        let open = &self.open;
        if !open.is_revealed(self.state.genesis()) {
            return None;
        }
        let judging = open.current()?;
        let mut scores = BTreeMap::<PublicKey, &Score>::new();
        for score in open.scores.values().map(Signed::payload).filter(|score| score.seed == judging.seed()) {
            scores.entry(score.validator).or_insert(score);
        }
        let all = scores.len() == judging.reveals().len();
        let late = open.deadlines.contains(&Phase::Judge) && stake::is_quorum(self.state.genesis(), scores.keys());
        (all || late).then(|| (judging, scores.into_values().collect()))
    }

    /// What stands between this node and its signature under a record that the proposer has signed.
    fn vote(&self, me: &PublicKey, record: &Window) -> Vec<Output> {
        let open = &self.open;
        let scores: Vec<&Score> =
            record.scores.iter().filter_map(|id| open.scores.get(id)).map(Signed::payload).collect();
        let Some(judging) = open.judgings.get(&record.seed) else { return Vec::new() };
        let doubts = self.doubts(me, judging, &scores);
        if !doubts.open.is_empty() {
            return doubts.open;
        }
        if !doubts.disputes.is_empty() {
            return doubts.disputes;
        }
        let Some(applied) = open.applied.iter().find(|applied| applied.outcomes == record.outcomes) else {
            return vec![self.apply(judging, record.outcomes.clone())];
        };
        if applied.stepped == Stepped::of(record) {
            return vec![Output::Sign(Document::Window(Box::new(record.clone())))];
        }
        let (record, found) = (payload::id_of(record).into(), applied.stepped);
        vec![Output::Dispute(Dispute::Record { record, found })]
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
