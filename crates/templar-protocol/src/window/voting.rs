//! Voting: which vote a validator gives now, and what it publishes for others to vote on. It carries out the
//! rules of `ballot.rs`.
//!
//! All validators with the same inboxes compute the same cut. A record is found right only by a validator that
//! has replayed the contributions that it refuses and taken its outer step (`todo.rs`). Once a record has a
//! polka, honest validators with more than a third of the stake have done so, and the others follow without. So
//! a validator whose own machine finds something else holds nobody up.
//!
//! # Which values count
//!
//! The seed follows from the reveal set, so the set is decided before anybody judges and never changes. Any set
//! of values on their chains recomputes if their validators have more than two thirds of the stake. What a
//! validator prevotes has two limits more, unless the set has a polka already:
//!
//! * Before its deadline, in attempt 0, it prevotes only the set of all validators.
//! * Its *list* is fixed by its first vote on the set: the values that it had then. It prevotes only sets that
//!   have its whole list.
//!
//! *Nobody's value can be left out that honest validators with a third of the stake had listed.* A set without
//! it gets prevotes of the faulty and of the honest without it at most, two thirds of the stake or less, and so
//! never a polka. So a proposer cannot choose among the values of the honest. A colluder can still decide to
//! release its own value or not after it has seen the others. It pays for that as one that was absent.
//!
//! *Values that are released late hold nothing up.* Lists grow no more after the first vote. Any entry of an
//! honest validator reaches the others, so in an attempt that is long enough an honest proposer has the values
//! of all honest lists, and its set is right for all. So late values, however many and in whatever order, cost
//! attempt 0 and no other. Liveness then follows as for the cut (`ballot.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use templar_manifest::{
    Cut, CutId, Hash, Inbox, InboxId, PublicKey, RecordId, Reveal, RevealSet, RevealSetId, Vote, VoteOn, VoteStep,
    payload,
};

use super::Node;
use super::admission::MAX_STATEMENTS;
use super::messages::{Output, Phase, Unsigned, VoteWait};
use crate::run::{OwnRecord, RunState};
use crate::stake;

/// The value that a validator would propose.
pub(super) enum Own {
    /// The value is ready: its id, its body, and further outputs.
    Ready { id: Hash, body: Right, said: Vec<Output> },
    /// This work must be done first.
    Work(Vec<Output>),
    /// The validator cannot tell yet.
    Nothing,
}

/// A cut, reveal set or record that this node computed, with its id.
pub(super) enum Right {
    Cut(Arc<(CutId, Cut)>),
    Reveals(RevealSet),
    Record(Arc<OwnRecord<RunState>>),
}

impl Right {
    /// The manifest to sign.
    fn document(&self) -> Unsigned {
        match self {
            Self::Cut(cut) => Unsigned::Cut(cut.1.clone()),
            Self::Reveals(set) => Unsigned::Reveals(set.clone()),
            Self::Record(record) => Unsigned::Window(Box::new(record.record.clone())),
        }
    }
}

impl Node {
    /// The next outputs towards the cut, reveal set or record: a vote, a body to publish, work that comes before a
    /// vote, timers.
    pub(super) fn vote(&self, me: &PublicKey, on: VoteOn) -> Vec<Output> {
        let genesis = self.state.genesis();
        let ballot = self.open.ballot(on);
        if ballot.decided(genesis).is_some() {
            return self.publish_decided(me, on);
        }
        let attempt = self.attempt(me, on);
        if ballot.has_voted(me, attempt, VoteStep::Precommit) {
            let is_full = ballot.is_full(genesis, attempt, VoteStep::Precommit);
            return self.wait(on, attempt, VoteWait::Next).filter(|_| is_full).into_iter().collect();
        }
        let mut outputs = Vec::new();
        // Rule 2: precommit the value of this attempt's polka, once its body is here and recomputes.
        if let Some(value) = ballot.polka(genesis, attempt) {
            if self.open.is_right(on, &value) == Some(true) {
                return vec![self.voted(on, attempt, VoteStep::Precommit, Some(value))];
            }
            if let Some(body) = self.missing_body(me, on, attempt, &value) {
                return vec![body];
            }
        }
        let is_late = |wait| self.open.deadlines.contains(&Phase::Vote { on, attempt, wait });
        let said = ballot.said(me, attempt, VoteStep::Prevote).next();
        if ballot.is_split(genesis, attempt, VoteStep::Prevote) || is_late(VoteWait::Precommit) {
            // Others may have been shown other votes, see no split, and wait for this prevote.
            let step = if said.is_some() { VoteStep::Precommit } else { VoteStep::Prevote };
            return vec![self.voted(on, attempt, step, None)];
        }
        if ballot.is_full(genesis, attempt, VoteStep::Prevote) {
            outputs.extend(self.wait(on, attempt, VoteWait::Precommit));
        }
        match said {
            None => outputs.extend(self.prevote(me, on, attempt)),
            Some(Some(value)) if self.state.proposer(attempt) == *me => {
                outputs.extend(self.missing_body(me, on, attempt, &value));
            }
            Some(_) => {}
        }
        outputs
    }

    /// The number of the attempt that this validator is in.
    pub(super) fn attempt(&self, me: &PublicKey, on: VoteOn) -> u32 {
        let is_late = |attempt| self.open.deadlines.contains(&Phase::Vote { on, attempt, wait: VoteWait::Next });
        self.open.ballot(on).attempt(self.state.genesis(), me, is_late)
    }

    /// The prevote, or the work that comes before it.
    fn prevote(&self, me: &PublicKey, on: VoteOn, attempt: u32) -> Vec<Output> {
        let (genesis, ballot) = (self.state.genesis(), self.open.ballot(on));
        let prevote = |value| self.voted(on, attempt, VoteStep::Prevote, value);
        let is_right = |value: &Hash| self.open.is_right(on, value) == Some(true);
        let lock = ballot.lock(me);
        let is_allowed = |value: &Hash| {
            lock.is_none_or(|(since, locked)| locked == *value || ballot.has_polka(genesis, value, since..attempt))
        };
        // Rule 3: the lock allows its own value, and another one with a polka since the lock.
        let newest = ballot.last_polka(genesis, attempt).filter(is_right);
        let proposer = self.state.proposer(attempt);
        let mut work = Vec::new();
        if proposer != *me {
            let proposed = ballot.said(&proposer, attempt, VoteStep::Prevote).flatten();
            for value in proposed.filter(|value| is_right(value) && is_allowed(value)) {
                match self.objections(me, on, &value, attempt) {
                    None => return vec![prevote(Some(value))],
                    Some(objections) => work.extend(objections),
                }
            }
        }
        // In attempt 0, and as the proposer of a later one, it may prevote its own value.
        let mut can_tell = attempt > 0;
        if attempt == 0 || proposer == *me {
            match newest {
                Some(value) => return vec![prevote(Some(value))],
                None if lock.is_some() => {}
                None => match self.own(me, on, attempt) {
                    Own::Ready { id, body, said } => {
                        work.extend(said);
                        let publishes =
                            proposer == *me && self.open.is_right(on, &id).is_none() && self.has_room(me, on);
                        work.push(if publishes { Output::Sign(body.document()) } else { prevote(Some(id)) });
                        return work;
                    }
                    Own::Work(first) => {
                        can_tell = true;
                        work.extend(first);
                    }
                    Own::Nothing => {}
                },
            }
        }
        if self.open.deadlines.contains(&Phase::Vote { on, attempt, wait: VoteWait::Prevote }) {
            return vec![prevote(newest)];
        }
        if can_tell {
            work.extend(self.wait(on, attempt, VoteWait::Prevote));
        }
        work
    }

    /// The objections of this node to the value that the proposer proposes, which recomputes: work, or only
    /// that this node finds something else. `None` if there are none.
    fn objections(&self, me: &PublicKey, on: VoteOn, value: &Hash, attempt: u32) -> Option<Vec<Output>> {
        let has_polka = self.open.ballot(on).has_polka(self.state.genesis(), value, 0..attempt);
        match on {
            VoteOn::Cut => None,
            VoteOn::Reveals | VoteOn::Window if has_polka => None,
            VoteOn::Reveals => {
                let set = self.open.reveal_sets.get(&RevealSetId::new(*value))?;
                (!self.may_count(&set.body, attempt)).then(Vec::new)
            }
            VoteOn::Window => {
                let record = self.open.records.get(&RecordId::new(*value))?;
                self.objections_to_record(me, &record.body, attempt)
            }
        }
    }

    fn own(&self, me: &PublicKey, on: VoteOn, attempt: u32) -> Own {
        match on {
            VoteOn::Cut => match self.own_cut(attempt) {
                Some(cut) => Own::Ready { id: cut.0.hash(), body: Right::Cut(cut), said: Vec::new() },
                None => Own::Nothing,
            },
            VoteOn::Reveals => match self.own_reveals(attempt) {
                Some(set) => Own::Ready { id: payload::id_of(&set), body: Right::Reveals(set), said: Vec::new() },
                None => Own::Nothing,
            },
            VoteOn::Window => self.own_record(me, attempt),
        }
    }

    /// Whether this node's limits allow a prevote for these values, which are on their chains.
    fn may_count(&self, set: &RevealSet, attempt: u32) -> bool {
        let values = &self.open.values;
        let has = |validator| set.reveals.binary_search_by_key(validator, |reveal| reveal.validator).is_ok();
        let is_whole = set.reveals.len() == self.state.genesis().validators.len();
        let is_time = is_whole || attempt > 0 || self.open.deadlines.contains(&Phase::Reveal);
        is_time && values.listed.as_ref().unwrap_or(&values.here).keys().all(has)
    }

    /// The values that are here, once all are, or after the deadline.
    fn own_reveals(&self, attempt: u32) -> Option<RevealSet> {
        let here = &self.open.values.here;
        let is_whole = here.len() == self.state.genesis().validators.len();
        let is_time = is_whole || attempt > 0 || self.open.deadlines.contains(&Phase::Reveal);
        self.reveal_set(here).filter(|_| is_time)
    }

    /// The reveal set of these values, if they are enough.
    fn reveal_set(&self, values: &BTreeMap<PublicKey, Hash>) -> Option<RevealSet> {
        let cut = self.open.certified?;
        let reveals = values.iter().map(|(validator, value)| Reveal { validator: *validator, value: *value }).collect();
        let set = RevealSet { run: self.state.run(), window: self.state.window(), cut, reveals };
        stake::is_quorum(self.state.genesis(), values.keys()).then_some(set)
    }

    /// The cut of all inboxes, or after the deadline of those that are here. Of two inboxes of one validator
    /// the lower id counts.
    fn own_cut(&self, attempt: u32) -> Option<Arc<(CutId, Cut)>> {
        let open = &self.open;
        let mut inboxes = BTreeMap::<PublicKey, (InboxId, &Inbox)>::new();
        for (id, inbox) in &open.inboxes {
            inboxes.entry(inbox.signer()).or_insert((*id, inbox.payload()));
        }
        let all = inboxes.len() == self.state.genesis().validators.len();
        if !(all || attempt > 0 || open.deadlines.contains(&Phase::Commit)) {
            return None;
        }
        let inboxes: Vec<(InboxId, &Inbox)> = inboxes.into_values().collect();
        let cut = self.state.shared_cut(&inboxes).ok()?;
        open.has_all(&cut.1).then_some(cut)
    }

    /// The body with this id, if this node would propose the same and nobody has published it.
    fn missing_body(&self, me: &PublicKey, on: VoteOn, attempt: u32, value: &Hash) -> Option<Output> {
        let here = match on {
            VoteOn::Cut => self.open.cuts.contains_key(&CutId::new(*value)),
            VoteOn::Reveals => self.open.reveal_sets.contains_key(&RevealSetId::new(*value)),
            VoteOn::Window => self.open.records.contains_key(&RecordId::new(*value)),
        };
        if here {
            return None;
        }
        match self.own(me, on, attempt) {
            Own::Ready { id, body, .. } if id == *value => Some(Output::Sign(body.document())),
            // Values may have come since this node's first vote.
            _ if on == VoteOn::Reveals => {
                let listed = self.open.values.listed.as_ref().and_then(|listed| self.reveal_set(listed));
                let listed = listed.filter(|set| payload::id_of(set) == *value);
                listed.map(|set| Output::Sign(Unsigned::Reveals(set)))
            }
            _ => None,
        }
    }

    /// Publishes the body of the decided value if nobody has and this node can.
    fn publish_decided(&self, me: &PublicKey, on: VoteOn) -> Vec<Output> {
        let decided = self.open.ballot(on).decided(self.state.genesis());
        decided.and_then(|(attempt, value)| self.missing_body(me, on, attempt, &value)).into_iter().collect()
    }

    /// Whether others have room for a body that this node publishes before they have its vote for it.
    fn has_room(&self, me: &PublicKey, on: VoteOn) -> bool {
        let published = match on {
            VoteOn::Cut => self.open.cuts.values().filter(|cut| cut.publisher.signer == *me).count(),
            VoteOn::Reveals => self.open.reveal_sets.values().filter(|set| set.publisher.signer == *me).count(),
            VoteOn::Window => self.open.records.values().filter(|record| record.publisher.signer == *me).count(),
        };
        published < MAX_STATEMENTS
    }

    fn voted(&self, on: VoteOn, attempt: u32, step: VoteStep, value: Option<Hash>) -> Output {
        let (run, window) = (self.state.run(), self.state.window());
        Output::Sign(Unsigned::Vote(Vote { run, window, on, attempt, step, value }))
    }

    /// The timer of a wait that is not over. It lasts as long as messages may take, or for a proposed record as
    /// long as checking it takes, and longer with every attempt.
    fn wait(&self, on: VoteOn, attempt: u32, wait: VoteWait) -> Option<Output> {
        let phase = Phase::Vote { on, attempt, wait };
        let deadlines = &self.state.genesis().deadlines;
        let least = match (on, wait) {
            (VoteOn::Window, VoteWait::Prevote) => deadlines.judge_ms / 2,
            _ => deadlines.reveal_ms,
        };
        let after_ms = least.max(1).saturating_mul(u64::from(attempt) + 1);
        let waiting = !self.open.deadlines.contains(&phase);
        waiting.then_some(Output::Timer { window: self.state.window(), phase, after_ms })
    }
}

#[cfg(test)]
impl Node {
    /// The outputs of this validator if exactly these votes on a decision were here, before or after every deadline
    /// in the window.
    pub(crate) fn would(&mut self, on: VoteOn, votes: &[(PublicKey, Vote)], is_late: bool) -> Vec<Output> {
        self.put(on, votes);
        if is_late {
            let waits = [VoteWait::Prevote, VoteWait::Precommit, VoteWait::Next];
            let phases = (0..8).flat_map(|attempt| waits.map(|wait| Phase::Vote { on, attempt, wait }));
            self.open.deadlines.extend(phases);
        }
        self.me.map_or_else(Vec::new, |me| self.vote(&me, on))
    }

    /// Whether this validator gives no vote with exactly these votes here, however long it waits.
    pub(crate) fn is_silent(&mut self, on: VoteOn, votes: &[(PublicKey, Vote)]) -> bool {
        self.put(on, votes);
        loop {
            let outputs = self.me.map_or_else(Vec::new, |me| self.vote(&me, on));
            if outputs.iter().any(|output| matches!(output, Output::Sign(Unsigned::Vote(_)))) {
                return false;
            }
            let timers = outputs.into_iter().filter_map(|output| match output {
                Output::Timer { phase, .. } => Some(phase),
                _ => None,
            });
            let before = self.open.deadlines.len();
            self.open.deadlines.extend(timers);
            if self.open.deadlines.len() == before {
                return true;
            }
        }
    }

    fn put(&mut self, on: VoteOn, votes: &[(PublicKey, Vote)]) {
        let mut ballot = super::ballot::Ballot::default();
        for (signer, vote) in votes {
            let stake = stake::stake_of(self.state.genesis(), [signer]);
            ballot.insert(vote, *signer, templar_manifest::Signature::from_bytes([0; 64]), stake);
        }
        *self.open.ballot_mut(on) = ballot;
        self.open.deadlines.clear();
        // The cut that is its own is computed from the inboxes that are here.
        self.open.deadlines.insert(Phase::Commit);
    }
}
