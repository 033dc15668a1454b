//! A node: the open window on top of the run's state.
//!
//! A node takes one input at a time, reports its events and names the work to do. An input that is refused
//! changes nothing. The work that a node should do follows from its state alone ([`Node::todo`]), so its driver
//! may ask at any time. A node that restarts folds its journal through [`Node::step`] and asks again.

mod admission;
mod aside;
mod ballot;
mod contests;
mod known;
mod messages;
mod open;
mod rechecks;
mod reject;
mod remeasures;
mod sound;
mod todo;
mod verified;
mod voting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    Contradiction, Contribution, ContributionId, Cut, CutId, Envelope, EnvelopeError, Hash, Kind, MAX_CONTRADICTIONS,
    Payload as _, PublicKey, Registration, Replay, RunId, Score, Signed, Vote, VoteOn, WindowIndex, WindowRecord,
    payload,
};

pub use messages::{Dispute, Input, Measured, Output, Phase, Subject, Unsigned, VoteWait};
pub use reject::Reject;
pub use verified::Verified;

use crate::entry::Entry;
use crate::run::replay::ReplayTask;
use crate::run::{ClosedWindow, Judgement, Judging, RunState, Tried, most_contests};
use open::{Confirmed, OpenWindow, OuterStepTaken, Ready};
use verified::Opened;

/// A participant of a run, or an observer that only follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    start: Arc<RunState>,
    state: Arc<RunState>,
    me: Option<PublicKey>,
    open: OpenWindow,
    /// Shared with clones of this node, which do not copy it.
    closed: Arc<Vec<ClosedWindow>>,
    gated: BTreeSet<Hash>,
    /// The contradictions of closed windows, or handed in there, that no record has slashed for yet.
    caught: Vec<Contradiction>,
}

impl Node {
    /// A node before window 0, or before the window of `start`. `me` is the key that it acts with. Without a
    /// key, or with one that has no part in the run, it only follows.
    pub fn new(start: impl Into<Arc<RunState>>, me: Option<PublicKey>) -> Self {
        let state = start.into();
        // What a state shares holds the state after it. A copy shares nothing, so states that are past are dropped.
        let start = Arc::new(RunState::clone(&state));
        Self {
            start,
            state,
            me,
            open: OpenWindow::default(),
            closed: Arc::default(),
            gated: BTreeSet::new(),
            caught: Vec::new(),
        }
    }

    /// The key that this node acts with, if it has one.
    pub fn me(&self) -> Option<PublicKey> {
        self.me
    }

    /// The owner for which this node trains in the open window: the owner of the slot that names its key.
    pub fn contributor(&self) -> Option<PublicKey> {
        self.me.and_then(|me| self.state.members().by_node(&me)).map(|member| member.owner)
    }

    /// The state of the run before the open window.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The state of the run before the open window, shared, for a process with many nodes.
    pub fn shared_state(&self) -> Arc<RunState> {
        self.state.clone()
    }

    /// The closed windows that this node remembers, oldest first, with everything that their records name. They are all
    /// that it has followed, unless it was told to forget some.
    pub fn closed(&self) -> &[ClosedWindow] {
        &self.closed
    }

    /// A closed window that this node remembers.
    pub fn closed_window(&self, window: WindowIndex) -> Option<&ClosedWindow> {
        let place = window.0.checked_sub(self.remembers_from().0)?;
        self.closed.get(usize::try_from(place).ok()?)
    }

    /// The first window that this node remembers. From its state on it can fold later ones.
    pub fn remembers_from(&self) -> WindowIndex {
        self.start.window()
    }

    /// Whether the last window of the run is closed.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Forgets the closed windows, to save memory in a process with many nodes. [`Node::state_at`] cannot fold
    /// earlier states then.
    pub fn forget_past(&mut self) {
        self.start = self.state.clone();
        self.closed = Arc::default();
    }

    /// Forgets the closed windows before that of `state`, which must be one of this node's own earlier states.
    pub fn forget_before(&mut self, state: Arc<RunState>) {
        let count = state.window().0.saturating_sub(self.remembers_from().0);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.closed.len());
        if count > 0 {
            Arc::make_mut(&mut self.closed).drain(..count);
            self.start = state;
        }
    }

    /// The state before `window`, folded again from the first that this node remembers. `None` for an earlier window,
    /// and for one that is not open yet.
    pub fn state_at(&self, window: WindowIndex) -> Option<RunState> {
        let count = usize::try_from(window.0.checked_sub(self.remembers_from().0)?).ok()?;
        let mut state = RunState::clone(&self.start);
        for closed in self.closed.get(..count)? {
            state.advance(closed).ok()?;
        }
        Some(state)
    }

    /// The judging of the open window: the seed, and the draws that follow from it. `None` until the validators
    /// have agreed on the values that count. It never changes.
    pub fn judging(&self) -> Option<&Judging> {
        self.open.agreed()
    }

    /// The seed of the open window. `None` until the validators have agreed on the values that count.
    pub fn seed(&self) -> Option<Hash> {
        self.open.agreed().map(Judging::seed)
    }

    /// The votes of a validator in the open window.
    pub fn votes_of(&self, validator: &PublicKey) -> Vec<Vote> {
        let (run, window) = (self.state.run(), self.state.window());
        let of = |on| {
            let votes = self.open.ballot(on).votes_of(validator);
            votes.map(move |(attempt, step, value)| Vote { run, window, on, attempt, step, value })
        };
        [VoteOn::Cut, VoteOn::Reveals, VoteOn::Window].into_iter().flat_map(of).collect()
    }

    /// A contribution of the open window by its id, if this node has it.
    pub fn contribution(&self, id: &ContributionId) -> Option<&Signed<Contribution>> {
        self.open.contributions.by_id.get(id)
    }

    /// The contributions of the open window that this node holds, by id.
    pub fn contributions(&self) -> impl Iterator<Item = &Signed<Contribution>> {
        self.open.contributions.by_id.values()
    }

    /// The registrations of the open window that this node holds, by id.
    pub fn registrations(&self) -> impl Iterator<Item = &Signed<Registration>> {
        self.open.registrations.by_id.values()
    }

    /// The scores of the open window that this node holds, by id.
    pub fn scores(&self) -> impl Iterator<Item = &Signed<Score>> {
        self.open.scores.values()
    }

    /// The records of the open window that validators have proposed, by id.
    pub fn records(&self) -> impl Iterator<Item = &WindowRecord> {
        self.open.records.values().map(|proposal| &*proposal.body)
    }

    /// The ids of the cuts, reveal sets or records that validators have proposed in the open window.
    pub fn proposed(&self, on: VoteOn) -> Vec<Hash> {
        match on {
            VoteOn::Cut => self.open.cuts.keys().map(|id| id.hash()).collect(),
            VoteOn::Reveals => self.open.reveal_sets.keys().map(|id| id.hash()).collect(),
            VoteOn::Window => self.open.records.keys().map(|id| id.hash()).collect(),
        }
    }

    /// The cut of the open window once it is certified. From then on its deltas are served and fetched.
    pub fn cut(&self) -> Option<(CutId, &Cut)> {
        self.open.cut()
    }

    /// The phase of the open window, as far as this node knows.
    pub fn phase(&self) -> Phase {
        if self.open.certified.is_none() {
            Phase::Commit
        } else if self.open.agreed().is_none() {
            Phase::Reveal
        } else {
            Phase::Judge
        }
    }

    /// Keeps a blob of this node's own from being served until a certified cut names it. It is called for
    /// delta, trace and state before they enter a store that serves.
    pub fn gate(&mut self, blob: Hash) {
        self.gated.insert(blob);
    }

    /// Whether a blob may be served. A node's own delta, trace and state may not be, from [`Node::gate`] or
    /// from its signed contribution on, until a certified cut names them or the window is closed. Contributions
    /// of others have no effect, so nobody can stop a blob from being served by naming it.
    pub fn may_serve(&self, blob: &Hash) -> bool {
        if self.open.released().any(|released| released == *blob) {
            return true;
        }
        let own = self.open.contributions.by_id.values().filter(|contribution| Some(contribution.signer()) == self.me);
        !self.gated.contains(blob) && !own.map(Signed::payload).any(|claimed| open::names(claimed, blob))
    }

    /// This node's own blobs that may not be served now: those for which [`Node::may_serve`] is false.
    pub fn withheld(&self) -> BTreeSet<Hash> {
        let own = self.open.contributions.by_id.values().filter(|contribution| Some(contribution.signer()) == self.me);
        let named = own.flat_map(|signed| open::blobs_of(signed.payload()));
        let mut withheld: BTreeSet<Hash> = self.gated.iter().copied().chain(named).collect();
        if !withheld.is_empty() {
            self.open.released().for_each(|blob| _ = withheld.remove(&blob));
        }
        withheld
    }

    /// Takes one input and says what happened and what there is to do. An entry that is known or of a closed
    /// window changes nothing and is no error; neither is a deadline or measurement of another window.
    ///
    /// # Errors
    /// [`Reject`], and nothing changes, if the input is refused.
    pub fn step(&mut self, input: Input) -> Result<Vec<Output>, Reject> {
        let Some(mut outputs) = self.taken(input)? else { return Ok(Vec::new()) };
        outputs.extend(self.todo());
        Ok(outputs)
    }

    /// Takes one input of several and says what happened. After the last one, [`Node::todo`] says what there is
    /// to do.
    ///
    /// # Errors
    /// [`Reject`], and nothing changes, if the input is refused.
    pub fn take(&mut self, input: Input) -> Result<Vec<Output>, Reject> {
        Ok(self.taken(input)?.unwrap_or_default())
    }

    /// The events of an input; `None` if it changes nothing.
    fn taken(&mut self, input: Input) -> Result<Option<Vec<Output>>, Reject> {
        match input {
            Input::Entry(entry) => {
                if self.is_known(&entry.id()) {
                    return Ok(None);
                }
                let signed = match &entry {
                    Entry::Envelope(envelope) => Some(envelope),
                    Entry::Record(record) => Some(&record.header),
                    Entry::Reveal(_) | Entry::Evidence(_) => None,
                };
                if let Some(envelope) = signed
                    && !self.is_worth_verifying(envelope)?
                {
                    return Ok(None);
                }
                self.take_verified(Verified::open(entry)?)
            }
            Input::Verified(verified) => {
                if self.is_known(&verified.id()) {
                    return Ok(None);
                }
                self.take_verified(verified)
            }
            Input::Deadline { window, phase } => {
                if window != self.state.window() || self.is_over() || !self.open.deadlines.insert(phase) {
                    return Ok(None);
                }
                self.settled(Vec::new()).map(Some)
            }
            Input::Measured(measured) => self.take_measured(measured),
        }
    }

    fn is_known(&self, entry: &Hash) -> bool {
        self.open.intake.known.contains(entry) || self.open.intake.held.contains_key(entry)
    }

    /// Whether a statement about this run and window can change this node now. `Ok(false)` if it is too late
    /// for that.
    fn is_timely(&self, run: RunId, window: WindowIndex) -> Result<bool, Reject> {
        let open = self.state.window();
        if run != self.state.run() {
            return Err(Reject::OtherRun);
        }
        if window < open {
            return Ok(false);
        }
        if self.is_over() {
            return Err(Reject::Over);
        }
        if window > open { Err(Reject::Early { window, open }) } else { Ok(true) }
    }

    /// Whether an envelope is worth verifying: its signer has a part in the run or asks for one. A signer
    /// without a part in this window may have one in another.
    fn is_worth_verifying(&self, envelope: &Envelope) -> Result<bool, Reject> {
        let signer = &envelope.signer;
        if self.state.genesis().validator(signer).is_some() || self.state.members().by_node(signer).is_some() {
            return Ok(true);
        }
        let stranger = || Reject::NotRegistered(signer.short());
        match payload::peek(&envelope.payload) {
            Ok((Kind::Registration, _)) => {
                let asked: Registration = payload::decode(&envelope.payload).map_err(EnvelopeError::from)?;
                self.is_timely(asked.run, asked.window)
            }
            Ok((Kind::Contribution, _)) => {
                let claimed: Contribution = payload::decode(&envelope.payload).map_err(EnvelopeError::from)?;
                if self.is_timely(claimed.run, claimed.window)? { Err(stranger()) } else { Ok(false) }
            }
            _ => Err(stranger()),
        }
    }

    /// Whether an opened entry for a closed window is evidence that a record would slash for and that this node
    /// cannot show yet. Other late evidence is ignored without an error, since it may have been passed on in
    /// time.
    fn is_late_news(&self, opened: &Opened) -> bool {
        let Opened::Evidence(shown) = opened else { return false };
        let shown = &shown.contradiction;
        let is_here = |caught: &Contradiction| (caught.signer, caught.window) == (shown.signer, shown.window);
        !self.is_over()
            && !self.caught.iter().any(is_here)
            && self.open.check_room(self.state.genesis(), opened).is_ok()
            && self.state.check_evidence(shown).is_ok()
    }

    fn take_verified(&mut self, verified: Verified) -> Result<Option<Vec<Output>>, Reject> {
        // The cheap checks come first: time, signer, size, then room, and only then the rules that recompute something.
        let opened = verified.opened();
        if !self.is_timely(opened.run(), opened.window())? && !self.is_late_news(opened) {
            return Ok(None);
        }
        verified.sound().admissible(&self.state, || {
            opened.check_signer(&self.state)?;
            opened.check_size(self.state.genesis())
        })?;
        if self.open.has_body(opened) {
            return Ok(None);
        }
        let earlier = match self.open.check_room(self.state.genesis(), opened) {
            Ok(earlier) => earlier,
            Err(Reject::TooMany { .. }) if self.open.intake.aside.keep(&verified) => return Ok(None),
            Err(reject) => return Err(reject),
        };
        let ready = self.open.examine(&self.state, &verified)?;
        let mut outputs: Vec<Output> = earlier.map(|first| equivocation(opened, first)).into_iter().collect();
        match ready {
            Ready::Now => self.accept(verified, &mut outputs),
            Ready::Later => {
                self.open.intake.held.insert(verified.id(), verified);
            }
        }
        self.settled(outputs).map(Some)
    }

    fn take_measured(&mut self, measured: Measured) -> Result<Option<Vec<Output>>, Reject> {
        if measured.window() != self.state.window() || self.is_over() {
            return Ok(None);
        }
        match measured {
            Measured::Judged { seed, entries, verdicts, contests, .. } => {
                let Some(me) = self.me else { return Err(Reject::Measurement("this node does not judge")) };
                let Some(judging) = self.open.agreed().filter(|judging| judging.seed() == seed) else {
                    return Err(Reject::Measurement("there is no such seed"));
                };
                let evidence = self.evidence();
                let found = Judgement { entries, verdicts, evidence, contests: most_contests(contests) };
                let score = self.state.score(judging, &me, found).map_err(Reject::Score)?;
                score.check().map_err(|_| Reject::Measurement("the score breaks a rule of its kind"))?;
                self.open.own.judged = Some(score);
            }
            Measured::Confirmed { subject, upto, replay, witnesses, .. } => {
                let Some(whole) = self.task_of(&subject) else {
                    return Err(Reject::Measurement("the miner has no contribution that may be asked about"));
                };
                if replay == Replay::NotDrawn {
                    return Err(Reject::Measurement("a confirmation is a match or a refusal"));
                }
                let drawn: Vec<PublicKey> = whole.draws.iter().map(|draw| draw.validator).collect();
                let reached = upto.map_or(whole.clone(), |leaf| whole.up_to(leaf)).draws;
                if witnesses.len() != if replay == Replay::Match { reached.len() } else { 0 } {
                    return Err(Reject::Measurement("a match has a witness for each drawn validator"));
                }
                let witness_of = |validator: &PublicKey| {
                    let place = reached.iter().position(|draw| draw.validator == *validator)?;
                    witnesses.get(place).copied()
                };
                let witnesses = drawn.iter().map(witness_of).collect();
                let attempt = self.me.map_or(0, |me| self.attempt(&me, VoteOn::Window));
                self.open.own.confirmed.insert(subject, Confirmed { attempt, upto, replay, witnesses });
            }
            Measured::Remeasured { subject, found, .. } => {
                let judging = self.open.agreed().filter(|judging| judging.seed() == subject.seed);
                let drawn = judging.map_or(0, |judging| self.drawn_to_measure(judging, &subject));
                if drawn == 0 {
                    return Err(Reject::Measurement("the miner has no contribution that may be asked about"));
                }
                if matches!(&found, Tried::Measured { witnesses, .. } if witnesses.len() != drawn) {
                    return Err(Reject::Measurement("a measurement has a witness for each drawn validator"));
                }
                let attempt = self.me.map_or(0, |me| self.attempt(&me, VoteOn::Window));
                self.open.own.remeasured.insert(subject, (attempt, found));
            }
            Measured::Applied { outcomes, stepped, .. } => {
                self.open.own.applied.retain(|applied| applied.outcomes != outcomes);
                self.open.own.applied.push(OuterStepTaken { outcomes, stepped });
            }
        }
        self.settled(Vec::new()).map(Some)
    }

    /// How many validators were drawn to measure a contribution that this node may be asked to measure again.
    fn drawn_to_measure(&self, judging: &Judging, subject: &Subject) -> usize {
        if subject.window == self.state.window() {
            return judging.evaluators_of(&subject.miner).len();
        }
        let task = self.state.past_evaluation_task(&subject.miner).filter(|task| task.window == subject.window);
        task.map_or(0, |task| task.keys.len())
    }

    /// The evidence that this node can show in its score: as much as one score has room for, and only evidence
    /// that a record would slash for.
    fn evidence(&self) -> Vec<Contradiction> {
        let mut found = BTreeMap::new();
        let open = self.open.contradictions(&self.state);
        for evidence in self.caught.iter().chain(self.open.shown.values()).cloned().chain(open) {
            found.entry((evidence.signer, evidence.window)).or_insert(evidence);
        }
        found
            .into_values()
            .filter(|evidence| self.state.check_evidence(evidence).is_ok())
            .take(MAX_CONTRADICTIONS)
            .collect()
    }

    /// The task of replaying the contribution of a subject, if anything may still be said about it.
    fn task_of(&self, subject: &Subject) -> Option<ReplayTask> {
        if subject.window == self.state.window() {
            let judging = self.open.agreed().filter(|judging| judging.seed() == subject.seed)?;
            return self.state.replay_task(judging, &subject.miner);
        }
        self.state.late_task(subject.window, &subject.miner).filter(|task| !task.draws.is_empty())
    }

    fn accept(&mut self, verified: Verified, outputs: &mut Vec<Output>) {
        if let Opened::Vote(vote) = verified.opened()
            && vote.payload().on == VoteOn::Reveals
            && Some(vote.signer()) == self.me
        {
            // The journal has the values in the order of their arrival, so a restart lists the same ones.
            let values = &mut self.open.values;
            values.listed.get_or_insert_with(|| values.here.clone());
        }
        self.open.insert(self.state.genesis(), &verified);
        outputs.push(Output::Accepted { window: self.state.window(), entry: verified });
    }

    /// Draws every consequence of what is known: certificates, the seed, held entries that can be checked by now,
    /// and the closing of the window. The loop ends, because each round accepts or drops a held entry, holds
    /// one that was set aside, or closes the window.
    fn settled(&mut self, mut outputs: Vec<Output>) -> Result<Vec<Output>, Reject> {
        loop {
            outputs.extend(self.open.refresh(&self.state, self.me));
            if let Some(closed) = self.open.closed(self.state.genesis())
                && let Some(judging) = self.open.agreed()
            {
                let after = self.state.after(&closed, judging).map_err(Reject::Record)?;
                let mut contradictions = self.open.contradictions(&self.state);
                contradictions.extend(std::mem::take(&mut self.open.shown).into_values());
                self.state = after;
                outputs.push(Output::Closed { record: closed.record, window: closed.window.header.window });
                Arc::make_mut(&mut self.closed).push(closed);
                self.open = OpenWindow::default();
                self.gated.clear();
                self.caught.extend(contradictions);
                let state = &self.state;
                self.caught.retain(|evidence| state.check_evidence(evidence).is_ok());
                break;
            }
            let examined =
                self.open.intake.held.iter().find_map(|(id, held)| match self.open.examine(&self.state, held) {
                    Ok(Ready::Later) => None,
                    Ok(Ready::Now) => Some((*id, Ok(()))),
                    Err(reject) => Some((*id, Err(reject))),
                });
            let Some((id, verdict)) = examined else {
                let Some(entry) = self.open.called_for(self.state.genesis()) else { break };
                let opened = entry.opened();
                outputs.extend(self.open.contradicted(opened).map(|first| equivocation(opened, first)));
                self.open.intake.held.insert(entry.id(), entry);
                continue;
            };
            let Some(held) = self.open.intake.held.remove(&id) else { break };
            match verdict {
                Ok(()) => self.accept(held, &mut outputs),
                Err(reject) => outputs.push(Output::Dropped { entry: held, reject }),
            }
        }
        Ok(outputs)
    }
}

/// The event that a statement contradicts an earlier one of its signer.
fn equivocation(opened: &Opened, first: Hash) -> Output {
    Output::Equivocation { kind: opened.name(), signer: opened.signer(), first, second: opened.payload_id() }
}
