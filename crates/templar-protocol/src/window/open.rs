//! The open window: everything accepted and held of it, and what follows at once.
//!
//! The memory for one signer is bounded. Of each kind two payloads are kept, those that came first, which is
//! enough to prove equivocation. There are some exceptions: of votes two for each step, of registrations one of
//! each owner and a limited number in all.
//!
//! An entry beyond these bounds is still taken in if an accepted entry names it: a contribution or registration
//! that an inbox names, an inbox that a cut names, a score that a record names, a cut, reveal set or record that
//! a vote names, a vote that others with more than a third of the stake have given as well. Up to thirty-two entries
//! of each signer and kind are set aside until something names them. Others must be sent again. So everything that
//! validators agree on can be fetched and checked by everybody, even if its signer has signed other statements.
//! And since only accepted entries count, folding a journal again gives the same window.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    Contradiction, Contribution, ContributionId, Cut, CutId, Envelope, Genesis, Hash, Inbox, InboxId, Kind, Outcome,
    PublicKey, RecordId, Registration, RegistrationId, Replay, RevealSet, RevealSetId, Score, ScoreId, Signed, VoteOn,
    VoteStep, WindowIndex, WindowRecord,
};

use super::aside::Aside;
use super::ballot::Ballot;
use super::known::KnownIds;
use super::messages::{Output, Phase, Subject};
use super::reject::Reject;
use super::sound::Sound;
use super::verified::{Opened, Verified};
use crate::run::evidence;
use crate::run::{ClosedWindow, JudgePlan, Judging, RunState, Stepped, Tried, VoteCertificate, Witness};

/// Whether a valid entry can be taken in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Now,
    Later,
}

/// A cut, reveal set or record that a validator has proposed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal<T> {
    pub(super) body: Arc<T>,
    pub(super) publisher: Witness,
    pub(super) sound: Arc<Sound>,
    /// Whether it recomputes; `None` as long as something that it names is missing.
    pub(super) is_right: Option<bool>,
}

/// An outer step that this node took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OuterStepTaken {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) stepped: Stepped,
}

/// This node's own replay of a contribution about which others contradict each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Confirmed {
    /// The attempt to agree on the record in which it was made.
    pub(super) attempt: u32,
    /// The last leaf that it compared; `None` for all of them.
    pub(super) upto: Option<u32>,
    pub(super) replay: Replay,
    /// For a match, the short form of the claim that each drawn validator must make, where its step was reached.
    pub(super) witnesses: Vec<Option<u64>>,
}

/// The ids of accepted entries, and the entries that wait.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Intake {
    /// Ids of the entries that were accepted.
    pub(super) known: KnownIds,
    /// Scores whose cut or reveal set is not known yet, by the id of their entry.
    pub(super) held: BTreeMap<Hash, Verified>,
    pub(super) aside: Aside,
}

/// The accepted contributions of the window.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct AcceptedContributions {
    pub(super) by_id: BTreeMap<ContributionId, Signed<Contribution>>,
    /// The contribution of each miner that came first. It decides this node's own inbox and nothing else.
    pub(super) first: BTreeMap<PublicKey, ContributionId>,
    /// The later contributions of miners that signed more than one.
    pub(super) further: BTreeMap<PublicKey, Vec<ContributionId>>,
}

/// The accepted registrations of the window.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct AcceptedRegistrations {
    pub(super) by_id: BTreeMap<RegistrationId, Signed<Registration>>,
    /// The registration of each owner that came first. It decides this node's own inbox and nothing else.
    pub(super) first: BTreeMap<PublicKey, RegistrationId>,
}

/// The validators' hash-chain values, and what follows from them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Values {
    /// The values that are here, by validator.
    pub(super) here: BTreeMap<PublicKey, Hash>,
    /// The values that were here when this node first voted on the set. Every set that it votes for has them.
    pub(super) listed: Option<BTreeMap<PublicKey, Hash>>,
    /// The judging of the certified set: the seed and the draws, which never change.
    pub(super) agreed: Option<Arc<Judging>>,
}

/// This node's work as a validator, and its results.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct OwnWork {
    pub(super) plan: Option<Arc<JudgePlan>>,
    /// Its unsigned score.
    pub(super) judged: Option<Score>,
    /// Its own replays of contributions about which scores disagree.
    pub(super) confirmed: BTreeMap<Subject, Confirmed>,
    /// Its own measurements of contributions about which scores disagree, each with the attempt to agree on the
    /// record in which it was made.
    pub(super) remeasured: BTreeMap<Subject, (u32, Tried)>,
    /// The outer steps that it took.
    pub(super) applied: Vec<OuterStepTaken>,
}

/// Everything accepted and held of the open window.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct OpenWindow {
    pub(super) intake: Intake,
    pub(super) contributions: AcceptedContributions,
    pub(super) registrations: AcceptedRegistrations,
    pub(super) inboxes: BTreeMap<InboxId, Signed<Inbox>>,
    pub(super) cuts: BTreeMap<CutId, Proposal<Cut>>,
    pub(super) cut_ballot: Ballot,
    pub(super) certified: Option<CutId>,
    pub(super) values: Values,
    pub(super) reveal_sets: BTreeMap<RevealSetId, Proposal<RevealSet>>,
    pub(super) reveal_ballot: Ballot,
    pub(super) scores: BTreeMap<ScoreId, Signed<Score>>,
    pub(super) records: BTreeMap<RecordId, Proposal<WindowRecord>>,
    pub(super) record_ballot: Ballot,
    pub(super) deadlines: BTreeSet<Phase>,
    pub(super) own: OwnWork,
    /// Evidence that was handed in against signers who contradict themselves, by signer and window.
    pub(super) shown: BTreeMap<(PublicKey, WindowIndex), Contradiction>,
}

/// The delta, the trace and the state that a contribution names.
pub(super) fn blobs_of(contribution: &Contribution) -> [Hash; 3] {
    [contribution.delta.hash(), contribution.trace.hash(), contribution.state_out.hash()]
}

/// Whether a contribution names this blob as its delta, trace or state.
pub(super) fn names(contribution: &Contribution, blob: &Hash) -> bool {
    blobs_of(contribution).contains(blob)
}

impl OpenWindow {
    /// The judging of the certified reveal set.
    pub(super) fn agreed(&self) -> Option<&Judging> {
        self.values.agreed.as_deref()
    }

    /// The certified cut and its id, once there is one.
    pub(super) fn cut(&self) -> Option<(CutId, &Cut)> {
        let id = self.certified?;
        self.cuts.get(&id).map(|proposal| (id, &*proposal.body))
    }

    /// The blobs that are named by the contributions of the certified cut.
    pub(super) fn released(&self) -> impl Iterator<Item = Hash> {
        let named = self.cut().into_iter().flat_map(|(_, cut)| &cut.contributions);
        let contributions = named.filter_map(|entry| self.contributions.by_id.get(&entry.contribution));
        contributions.flat_map(|contribution| blobs_of(contribution.payload()))
    }

    /// Whether an accepted inbox names this contribution.
    pub(super) fn is_in_an_inbox(&self, id: &ContributionId) -> bool {
        let mut entries = self.inboxes.values().flat_map(|inbox| &inbox.payload().contributions);
        entries.any(|entry| entry.contribution == *id)
    }

    /// Whether an accepted inbox names this registration.
    pub(super) fn is_wanted(&self, id: &RegistrationId) -> bool {
        let mut entries = self.inboxes.values().flat_map(|inbox| &inbox.payload().registrations);
        entries.any(|entry| entry.registration == *id)
    }

    /// Takes out an entry that was set aside and that accepted entries name by now.
    pub(super) fn called_for(&mut self, genesis: &Genesis) -> Option<Verified> {
        let mut aside = std::mem::take(&mut self.intake.aside);
        let is_due = |entry: &Verified| {
            let is_here = self.intake.known.contains(&entry.id()) || self.has_body(entry.opened());
            !is_here && self.is_named(genesis, entry.opened())
        };
        #[cfg(test)]
        let expected = aside.first_due(is_due);
        let called = aside.take(is_due);
        #[cfg(test)]
        assert_eq!(called.as_ref().map(Verified::id), expected);
        self.intake.aside = aside;
        called
    }

    /// Takes in an entry that was found valid.
    pub(super) fn insert(&mut self, genesis: &Genesis, verified: &Verified) {
        let opened = verified.opened();
        self.intake.known.insert(verified.id());
        self.intake.aside.call(opened);
        match opened {
            Opened::Contribution(signed) => {
                let id = ContributionId::new(signed.id());
                let miner = signed.payload().miner;
                if *self.contributions.first.entry(miner).or_insert(id) != id {
                    self.contributions.further.entry(miner).or_default().push(id);
                }
                self.contributions.by_id.insert(id, signed.clone());
            }
            Opened::Registration(signed) => {
                let id = RegistrationId::new(signed.id());
                self.registrations.first.entry(signed.payload().certificate.owner).or_insert(id);
                self.registrations.by_id.insert(id, signed.clone());
            }
            Opened::Inbox(signed) => {
                self.inboxes.insert(signed.id().into(), signed.clone());
            }
            Opened::Cut(signed) => {
                let publisher = Witness { signer: signed.signer(), signature: signed.signature() };
                let proposal = Proposal::new(signed.shared(), publisher, verified.sound().clone());
                self.cuts.entry(signed.id().into()).or_insert(proposal);
            }
            Opened::Reveals(signed) => {
                let publisher = Witness { signer: signed.signer(), signature: signed.signature() };
                let proposal = Proposal::new(signed.shared(), publisher, verified.sound().clone());
                self.reveal_sets.entry(signed.id().into()).or_insert(proposal);
            }
            Opened::Score(signed) => {
                self.scores.insert(signed.id().into(), signed.clone());
            }
            Opened::Window(proposed) => {
                let (body, sound) = (proposed.record.clone(), verified.sound().clone());
                let proposal = Proposal::new(body, proposed.publisher, sound);
                self.records.entry(proposed.id).or_insert(proposal);
            }
            Opened::Vote(signed) => {
                let (vote, signer) = (signed.payload(), signed.signer());
                let stake = genesis.validator(&signer).map_or(0, |validator| validator.stake);
                self.ballot_mut(vote.on).insert(vote, signer, signed.signature(), stake);
            }
            Opened::Evidence(shown) => {
                let shown = &shown.contradiction;
                self.shown.insert((shown.signer, shown.window), shown.clone());
            }
            Opened::Reveal(reveal) => {
                self.values.here.insert(reveal.validator, reveal.value);
            }
        }
    }

    /// The contradictions among accepted entries: two statements of one signer where one is allowed.
    pub(super) fn contradictions(&self, state: &RunState) -> Vec<Contradiction> {
        let (run, window) = (state.run(), state.window());
        let mut said = BTreeMap::<(PublicKey, Kind), Vec<Envelope>>::new();
        let mut add = |kind, envelope: Envelope| said.entry((envelope.signer, kind)).or_default().push(envelope);
        // Encoding is expensive and contradictions are rare, so only their statements are encoded.
        let contributions = self.contributions.by_id.values().filter(|_| !self.contributions.further.is_empty());
        for signed in twice(contributions, Signed::signer) {
            add(Kind::Contribution, signed.envelope());
        }
        for signed in twice(self.inboxes.values(), Signed::signer) {
            add(Kind::Inbox, signed.envelope());
        }
        for signed in twice(self.scores.values(), Signed::signer) {
            add(Kind::Score, signed.envelope());
        }
        let decisions = [VoteOn::Cut, VoteOn::Reveals, VoteOn::Window];
        let votes = decisions.into_iter().flat_map(|on| self.ballot(on).twice(run, window, on));
        let pairs = said.into_values().map(Vec::into_iter).chain(votes.map(Vec::into_iter));
        pairs.filter_map(|mut said| Some(evidence::of(window, said.next()?, said.next()?))).collect()
    }

    pub(super) fn ballot(&self, on: VoteOn) -> &Ballot {
        match on {
            VoteOn::Cut => &self.cut_ballot,
            VoteOn::Reveals => &self.reveal_ballot,
            VoteOn::Window => &self.record_ballot,
        }
    }

    pub(super) fn ballot_mut(&mut self, on: VoteOn) -> &mut Ballot {
        match on {
            VoteOn::Cut => &mut self.cut_ballot,
            VoteOn::Reveals => &mut self.reveal_ballot,
            VoteOn::Window => &mut self.record_ballot,
        }
    }

    /// Whether a proposed cut, reveal set or record recomputes. `None` if it is not here, or not everything that it
    /// names.
    pub(super) fn is_right(&self, on: VoteOn, id: &Hash) -> Option<bool> {
        match on {
            VoteOn::Cut => self.cuts.get(&CutId::new(*id)).and_then(|cut| cut.is_right),
            VoteOn::Reveals => self.reveal_sets.get(&RevealSetId::new(*id)).and_then(|set| set.is_right),
            VoteOn::Window => self.records.get(&RecordId::new(*id)).and_then(|record| record.is_right),
        }
    }

    /// Updates what follows from the accepted entries: what is found right, the certified cut, the agreed values,
    /// this node's plan. Returns the cuts, reveal sets and records that were found wrong.
    pub(super) fn refresh(&mut self, state: &RunState, me: Option<PublicKey>) -> Vec<Output> {
        let mut wrong = self.refresh_cut(state);
        if self.certified.is_some() {
            wrong.extend(self.refresh_reveals(state));
        }
        if self.values.agreed.is_some() {
            wrong.extend(self.refresh_records(state));
            self.make_plan(state, me);
        }
        wrong
    }

    fn refresh_cut(&mut self, state: &RunState) -> Vec<Output> {
        let mut wrong = Vec::new();
        if self.certified.is_some() {
            return wrong;
        }
        for id in waiting(&self.cuts) {
            let Some(cut) = self.cuts.get(&id) else { continue };
            let weighed = self.weigh_cut(state, &cut.body);
            wrong.extend(self.cuts.get_mut(&id).and_then(|cut| cut.weighed(Kind::Cut, id.hash(), weighed)));
        }
        let decided = self.cut_ballot.decided(state.genesis()).map(|(_, id)| CutId::new(id));
        self.certified = decided.filter(|id| self.is_right(VoteOn::Cut, &id.hash()) == Some(true));
        wrong
    }

    fn refresh_reveals(&mut self, state: &RunState) -> Vec<Output> {
        let mut wrong = Vec::new();
        if self.values.agreed.is_some() {
            return wrong;
        }
        for id in waiting(&self.reveal_sets) {
            let Some(set) = self.reveal_sets.get(&id) else { continue };
            let weighed = self.weigh_reveals(state, &set.body);
            wrong.extend(self.reveal_sets.get_mut(&id).and_then(|set| set.weighed(Kind::Reveals, id.hash(), weighed)));
        }
        let decided = self.reveal_ballot.decided(state.genesis()).map(|(_, id)| RevealSetId::new(id));
        let set = decided.and_then(|id| self.reveal_sets.get(&id)).filter(|set| set.is_right == Some(true));
        if let (Some(set), Some(cut)) = (set, self.cut()) {
            let contributions = self.contributions.by_id.values().map(Signed::payload);
            let registrations = self.registrations.by_id.values().map(Signed::payload);
            // A certified cut has only valid contributions and registrations, all of them here.
            self.values.agreed = state.shared_judging(cut, contributions, registrations, set.body.reveals.clone()).ok();
        }
        wrong
    }

    fn refresh_records(&mut self, state: &RunState) -> Vec<Output> {
        let mut wrong = Vec::new();
        for id in waiting(&self.records) {
            let Some(record) = self.records.get(&id) else { continue };
            let weighed = self.weigh_record(state, &record.body, &record.sound);
            wrong.extend(self.records.get_mut(&id).and_then(|one| one.weighed(Kind::Window, id.hash(), weighed)));
        }
        wrong
    }

    /// Makes this node's plan, once: the agreed values never change.
    fn make_plan(&mut self, state: &RunState, me: Option<PublicKey>) {
        if self.own.plan.is_none() {
            let plan = self.agreed().zip(me).and_then(|(judging, me)| state.judge_plan(judging, &me));
            self.own.plan = plan.map(Arc::new);
        }
    }

    /// The closed window once a record is certified.
    pub(super) fn closed(&self, genesis: &Genesis) -> Option<ClosedWindow> {
        let (attempt, id) = self.record_ballot.decided(genesis)?;
        let record = RecordId::new(id);
        let proposal = self.records.get(&record).filter(|record| record.is_right == Some(true))?;
        let body = &proposal.body.body;
        let cut = self.cuts.get(&body.cut)?;
        let inboxes = cut.body.inboxes.iter().map(|id| self.inboxes.get(id).cloned()).collect::<Option<_>>()?;
        let entries = cut.body.contributions.iter();
        let contributions =
            entries.map(|entry| self.contributions.by_id.get(&entry.contribution).cloned()).collect::<Option<_>>()?;
        let entries = cut.body.registrations.iter();
        let registrations =
            entries.map(|entry| self.registrations.by_id.get(&entry.registration).cloned()).collect::<Option<_>>()?;
        let scores = body.scores.iter().map(|id| self.scores.get(id).cloned()).collect::<Option<_>>()?;
        let refuted = body.refuted.iter().filter(|refuted| !refuted.is_of_past_score(body.window));
        let refuted = refuted.map(|refuted| self.scores.get(&refuted.score).cloned()).collect::<Option<_>>()?;
        let (cut_attempt, _) = self.cut_ballot.decided(genesis)?;
        let (reveals_attempt, set) = self.reveal_ballot.decided(genesis)?;
        let reveals = self.reveal_sets.get(&RevealSetId::new(set))?;
        Some(ClosedWindow {
            record,
            window: WindowRecord::clone(&proposal.body),
            cut: Cut::clone(&cut.body),
            inboxes,
            contributions,
            registrations,
            scores,
            refuted,
            cut_certificate: certificate(&self.cut_ballot, cut_attempt, &body.cut.hash(), cut.publisher)?,
            reveals_certificate: certificate(&self.reveal_ballot, reveals_attempt, &set, reveals.publisher)?,
            record_certificate: certificate(&self.record_ballot, attempt, &id, proposal.publisher)?,
        })
    }
}

/// The ids of the proposals that are not found right or wrong yet.
fn waiting<I: Copy, T>(proposals: &BTreeMap<I, Proposal<T>>) -> Vec<I> {
    proposals.iter().filter(|(_, proposal)| proposal.is_right.is_none()).map(|(id, _)| *id).collect()
}

/// The elements that share their key with another one.
fn twice<'a, T, K: Ord>(all: impl Iterator<Item = &'a T>, key: impl Fn(&T) -> K) -> Vec<&'a T> {
    let mut by_key = BTreeMap::<K, Vec<&T>>::new();
    for one in all {
        by_key.entry(key(one)).or_default().push(one);
    }
    by_key.into_values().filter(|same| same.len() > 1).flatten().collect()
}

impl<T> Proposal<T> {
    fn new(body: Arc<T>, publisher: Witness, sound: Arc<Sound>) -> Self {
        Self { body, publisher, sound, is_right: None }
    }

    /// Notes the result of checking it. Returns the event to report if it is wrong.
    fn weighed(&mut self, kind: Kind, id: Hash, weighed: Result<Ready, Reject>) -> Option<Output> {
        match weighed {
            Ok(Ready::Later) => None,
            Ok(Ready::Now) => {
                self.is_right = Some(true);
                None
            }
            Err(reject) => {
                self.is_right = Some(false);
                Some(Output::Wrong { kind: kind.name(), signer: self.publisher.signer, id, reject })
            }
        }
    }
}

fn certificate(ballot: &Ballot, attempt: u32, value: &Hash, publisher: Witness) -> Option<VoteCertificate> {
    let witnesses = ballot.witnesses(attempt, VoteStep::Precommit, value)?.iter();
    let witnesses = witnesses.map(|(signer, signature)| Witness { signer: *signer, signature: *signature }).collect();
    Some(VoteCertificate { attempt, publisher, witnesses })
}
