//! The open window: everything accepted and held of it, and what follows at once.
//!
//! Bounds: of each signer and kind at most two payloads are kept (two prove an equivocation), of scores two for each
//! seed and eight in all; of registrations one of each owner, and so many in all. Of contributions and registrations also
//! those that an accepted inbox names, so that whoever says different things to different validators cannot keep a node from
//! the one that the cut names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    Contribution, ContributionId, Cut, CutId, Genesis, Hash, Inbox, InboxId, Outcome, PublicKey, RecordId,
    Registration, RegistrationId, Replay, Reveal, Score, ScoreId, Signature, Signed, Window,
};

use super::admit::{Opened, Sound, Verified};
use super::{Phase, Subject};
use crate::evidence;
use crate::stake;
use crate::state::{ClosedWindow, JudgePlan, Judging, RunState, Stepped, Witness};

/// A payload that validators sign together, with the signatures so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal<T> {
    pub(super) body: Arc<T>,
    pub(super) witnesses: BTreeMap<PublicKey, Signature>,
    pub(super) sound: Arc<Sound>,
}

/// An outer step that this node took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Applied {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) stepped: Stepped,
}

/// What this node found of a contribution that others contradict each other about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Confirmed {
    pub(super) replay: Replay,
    /// Of a match, the short form of the claim that each drawn validator must make.
    pub(super) witnesses: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct OpenWindow {
    /// Ids of the entries that were accepted.
    pub(super) known: BTreeSet<Hash>,
    /// Entries that are valid as far as can be told, and wait for others.
    pub(super) held: BTreeMap<Hash, Verified>,
    pub(super) contributions: BTreeMap<ContributionId, Signed<Contribution>>,
    /// The contribution of each miner that came first. It decides this node's own inbox and nothing else.
    pub(super) first: BTreeMap<PublicKey, ContributionId>,
    pub(super) registrations: BTreeMap<RegistrationId, Signed<Registration>>,
    /// The registration of each owner that came first, likewise.
    pub(super) first_registration: BTreeMap<PublicKey, RegistrationId>,
    pub(super) inboxes: BTreeMap<InboxId, Signed<Inbox>>,
    pub(super) cuts: BTreeMap<CutId, Proposal<Cut>>,
    pub(super) certified: Option<CutId>,
    pub(super) reveals: BTreeMap<PublicKey, Hash>,
    /// By seed: of every set of reveals that was held, and of every set that a held record names.
    pub(super) judgings: BTreeMap<Hash, Judging>,
    /// The seed of all reveals that are held.
    pub(super) seed: Option<Hash>,
    pub(super) plan: Option<JudgePlan>,
    pub(super) scores: BTreeMap<ScoreId, Signed<Score>>,
    pub(super) records: BTreeMap<RecordId, Proposal<Window>>,
    pub(super) deadlines: BTreeSet<Phase>,
    pub(super) judged: BTreeMap<Hash, Score>,
    pub(super) confirmed: BTreeMap<Subject, Confirmed>,
    pub(super) applied: Vec<Applied>,
}

/// Whether a contribution names a blob as its delta, trace or state.
pub(super) fn names(contribution: &Contribution, blob: &Hash) -> bool {
    [contribution.delta.hash(), contribution.trace.hash(), contribution.state_out.hash()].contains(blob)
}

impl OpenWindow {
    /// The judging of all reveals that are held.
    pub(super) fn current(&self) -> Option<&Judging> {
        self.seed.as_ref().and_then(|seed| self.judgings.get(seed))
    }

    /// The certified cut.
    pub(super) fn cut(&self) -> Option<(CutId, &Cut)> {
        let id = self.certified?;
        self.cuts.get(&id).map(|proposal| (id, &*proposal.body))
    }

    /// Whether the certified cut names a contribution that names this blob.
    pub(super) fn is_released(&self, blob: &Hash) -> bool {
        let Some((_, cut)) = self.cut() else { return false };
        let mut released = cut.contributions.iter().filter_map(|entry| self.contributions.get(&entry.contribution));
        released.any(|contribution| names(contribution.payload(), blob))
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

    /// Takes in an entry that was found valid.
    pub(super) fn insert(&mut self, verified: Verified) {
        self.known.insert(verified.id());
        match verified.opened {
            Opened::Contribution(signed) => {
                let id = ContributionId::new(signed.id());
                self.first.entry(signed.payload().miner).or_insert(id);
                self.contributions.insert(id, signed);
            }
            Opened::Registration(signed) => {
                let id = RegistrationId::new(signed.id());
                self.first_registration.entry(signed.payload().certificate.owner).or_insert(id);
                self.registrations.insert(id, signed);
            }
            Opened::Inbox(signed) => {
                self.inboxes.insert(signed.id().into(), signed);
            }
            Opened::Cut(signed) => witness(&mut self.cuts, signed.id().into(), &signed, verified.sound),
            Opened::Score(signed) => {
                self.scores.insert(signed.id().into(), signed);
            }
            Opened::Window(signed) => witness(&mut self.records, signed.id().into(), &signed, verified.sound),
            Opened::Reveal(reveal) => {
                self.reveals.insert(reveal.validator, reveal.value);
            }
        }
    }

    /// Two accepted statements of each signer of whom there are two of one kind where one is allowed.
    pub(super) fn contradictions(&self, window: WindowIndex) -> Vec<Contradiction> {
        let mut said = BTreeMap::<(PublicKey, Kind, Option<Hash>), Vec<Envelope>>::new();
        let mut add =
            |kind, seed, envelope: Envelope| said.entry((envelope.signer, kind, seed)).or_default().push(envelope);
        // Encoding costs, and almost nobody says two things.
        for signed in twice(self.contributions.values(), Signed::signer) {
            add(Kind::Contribution, None, signed.envelope());
        }
        for signed in twice(self.inboxes.values(), Signed::signer) {
            add(Kind::Inbox, None, signed.envelope());
        }
        for signed in twice(self.scores.values(), |signed| (signed.signer(), signed.payload().seed)) {
            add(Kind::Score, Some(signed.payload().seed), signed.envelope());
        }
        if self.cuts.len() > 1 {
            self.cuts.values().flat_map(Proposal::envelopes).for_each(|envelope| add(Kind::Cut, None, envelope));
        }
        if self.records.len() > 1 {
            self.records.values().flat_map(Proposal::envelopes).for_each(|envelope| add(Kind::Window, None, envelope));
        }
        let pairs = said.into_values().filter_map(|statements| {
            let mut statements = statements.into_iter();
            Some(evidence::of(window, statements.next()?, statements.next()?))
        });
        pairs.collect()
    }

    /// Draws what follows from the accepted entries: the certified cut, the seeds, this node's plan.
    pub(super) fn refresh(&mut self, state: &RunState, me: Option<PublicKey>) {
        let genesis = state.genesis();
        if self.certified.is_none() {
            self.certified = certified(genesis, &self.cuts);
        }
        if self.certified.is_none() {
            return;
        }
        let own = self.reveals.iter().map(|(validator, value)| Reveal { validator: *validator, value: *value });
        let mut sets = vec![own.collect::<Vec<_>>()];
        sets.extend(self.held.values().filter_map(|held| match &held.opened {
            Opened::Window(signed) => Some(signed.payload().reveals.clone()),
            _ => None,
        }));
        for reveals in sets {
            if self.judgings.values().any(|judging| judging.reveals() == reveals) {
                continue;
            }
            if !stake::is_quorum(genesis, reveals.iter().map(|reveal| &reveal.validator)) {
                continue;
            }
            let contributions = self.contributions.values().map(Signed::payload);
            let Some((_, cut)) = self.cut() else { continue };
            let registrations = self.registrations.values().map(Signed::payload);
            let Ok(judging) = state.judging(cut, contributions, registrations, reveals) else { continue };
            self.judgings.insert(judging.seed(), judging);
        }
        self.renew_current(state, me);
    }

    /// Points the current seed at the set of all reveals that are held, also where a record had named it before, and
    /// plans this node's part.
    fn renew_current(&mut self, state: &RunState, me: Option<PublicKey>) {
        let all = |judging: &Judging| {
            judging.reveals().len() == self.reveals.len()
                && judging.reveals().iter().all(|reveal| self.reveals.contains_key(&reveal.validator))
        };
        self.seed = self.judgings.values().find(|judging| all(judging)).map(Judging::seed);
        if self.plan.as_ref().map(|plan| plan.seed) != self.seed {
            let current = self.current();
            self.plan = current.and_then(|judging| me.and_then(|me| state.judge_plan(judging, &me)));
        }
    }

    /// Whether the seed is settled for this node: every validator has revealed, or it no longer waits.
    pub(super) fn is_revealed(&self, genesis: &Genesis) -> bool {
        self.seed.is_some()
            && (self.reveals.len() == genesis.validators.len() || self.deadlines.contains(&Phase::Reveal))
    }

    /// The closed window, when a record is certified, and what other nodes have found out about the record.
    pub(super) fn closed(&self, genesis: &Genesis) -> Option<(ClosedWindow, Arc<Sound>)> {
        let record = certified(genesis, &self.records)?;
        let proposal = self.records.get(&record)?;
        let cut = self.cuts.get(&proposal.body.cut)?;
        let inboxes = cut.body.inboxes.iter().map(|id| self.inboxes.get(id).cloned()).collect::<Option<_>>()?;
        let entries = cut.body.contributions.iter();
        let contributions =
            entries.map(|entry| self.contributions.get(&entry.contribution).cloned()).collect::<Option<_>>()?;
        let entries = cut.body.registrations.iter();
        let registrations =
            entries.map(|entry| self.registrations.get(&entry.registration).cloned()).collect::<Option<_>>()?;
        let scores = proposal.body.scores.iter().map(|id| self.scores.get(id).cloned()).collect::<Option<_>>()?;
        let closed = ClosedWindow {
            record,
            window: Window::clone(&proposal.body),
            cut: Cut::clone(&cut.body),
            inboxes,
            contributions,
            registrations,
            scores,
            cut_witnesses: cut.list(),
            record_witnesses: proposal.list(),
        };
        Some((closed, proposal.sound.clone()))
    }
}

/// Those of which there is another one with the same key.
fn twice<'a, T, K: Ord>(all: impl Iterator<Item = &'a T>, key: impl Fn(&T) -> K) -> Vec<&'a T> {
    let mut by_key = BTreeMap::<K, Vec<&T>>::new();
    for one in all {
        by_key.entry(key(one)).or_default().push(one);
    }
    by_key.into_values().filter(|same| same.len() > 1).flatten().collect()
}

impl<T: Payload> Proposal<T> {
    /// The signed statements of all who signed it.
    fn envelopes(&self) -> Vec<Envelope> {
        let payload = payload::encode(&*self.body);
        let witnesses = self.witnesses.iter();
        witnesses.map(|(&signer, &signature)| Envelope { payload: payload.clone(), signer, signature }).collect()
    }
}

impl<T> Proposal<T> {
    fn list(&self) -> Vec<Witness> {
        self.witnesses.iter().map(|(signer, signature)| Witness { signer: *signer, signature: *signature }).collect()
    }
}

fn witness<I: Ord, T: templar_manifest::Payload>(
    proposals: &mut BTreeMap<I, Proposal<T>>,
    id: I,
    signed: &Signed<T>,
    sound: Arc<Sound>,
) {
    let new = || Proposal { body: signed.shared(), witnesses: BTreeMap::new(), sound };
    proposals.entry(id).or_insert_with(new).witnesses.insert(signed.signer(), signed.signature());
}

/// The payload that validators of more than two thirds of the stake have signed.
fn certified<I: Ord + Copy, T>(genesis: &Genesis, proposals: &BTreeMap<I, Proposal<T>>) -> Option<I> {
    let mut certified = proposals.iter().filter(|(_, proposal)| stake::is_quorum(genesis, proposal.witnesses.keys()));
    certified.next().map(|(id, _)| *id)
}
