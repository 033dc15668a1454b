//! Admission: whether there is room for an entry, and whether it is valid.
//!
//! The answer depends on the accepted entries of the open window and on nothing else, so every order of arrival
//! ends in the same set. An entry that cannot be checked yet waits: a score until its seed is known. A cut, reveal
//! set or record is taken in and passed on at once, and checked when everything that it names is here. `open.rs`
//! describes how much of each signer is kept.

use templar_manifest::{
    Contribution, Cut, Genesis, Hash, Inbox, InboxId, Payload, Registration, RevealSet, Score, ScoreId, Signed, Vote,
    WindowBody, WindowHeader, WindowRecord, payload,
};

use super::open::{OpenWindow, Ready};
use super::reject::Reject;
use super::sound::{Sound, place};
use super::verified::{Opened, Verified};
use crate::entry::RevealEntry;
use crate::run::{AdvanceError, RecordField, RegistrationError, RunState};

/// The number of payloads of one kind that are kept of one signer; two prove that one of them is a lie.
pub(super) const MAX_STATEMENTS: usize = 2;
/// The number of votes that are kept of one validator in attempts in which no honest validator is known to be.
const MAX_VOTES_AHEAD: usize = 4;
/// The number of registrations of one window that are kept, of all owners. Each has cost its work, or stands
/// for ALPHA in an account.
const MAX_REGISTRATIONS: usize = 1024;

/// The number of contradictions that are kept of those that are handed in for one window.
const MAX_SHOWN: usize = 64;

impl OpenWindow {
    /// Checks that there is room for another statement of this signer. Returns the first one if this one
    /// contradicts it. The node's own key is no exception: others may build on what it signed in a life that it
    /// forgot.
    ///
    /// # Errors
    /// [`Reject::TooMany`], [`Reject::Shown`] or [`Reject::Registration`].
    pub(super) fn check_room(&self, genesis: &Genesis, opened: &Opened) -> Result<Option<Hash>, Reject> {
        let signer = opened.signer();
        if let Opened::Registration(signed) = opened {
            return self.check_room_to_register(signed).map(|()| None);
        }
        let too_many = || Reject::TooMany { kind: opened.name(), signer: signer.short() };
        if let Opened::Evidence(shown) = opened {
            // One contradiction is enough to prove the offence.
            let is_shown = self.shown.contains_key(&(signer, shown.contradiction.window));
            let is_full = is_shown || self.shown.len() >= MAX_SHOWN;
            return if is_full { Err(Reject::Shown(signer.short())) } else { Ok(None) };
        }
        let mut earlier = self.statements(opened);
        let mut is_full = earlier.len() >= MAX_STATEMENTS;
        match opened {
            Opened::Score(_) => {
                let held = self.intake.held.values().map(Verified::opened).filter(|held| held.signer() == signer);
                earlier.extend(held.map(Opened::payload_id));
                is_full = earlier.len() >= MAX_STATEMENTS;
            }
            Opened::Vote(signed) => {
                let (vote, ballot) = (signed.payload(), self.ballot(signed.payload().on));
                let open = ballot.open(genesis);
                is_full |= vote.attempt > open && ballot.votes_behind(&signer, open) >= MAX_VOTES_AHEAD;
            }
            _ => {}
        }
        if is_full && !self.is_named(genesis, opened) {
            return Err(too_many());
        }
        Ok(earlier.first().copied().filter(|_| !opened.is_body()))
    }

    /// The first accepted statement that an entry contradicts which was set aside.
    pub(super) fn contradicted(&self, opened: &Opened) -> Option<Hash> {
        self.statements(opened).first().copied().filter(|_| !opened.is_body())
    }

    /// Whether an accepted entry names it, so that something may depend on it.
    pub(super) fn is_named(&self, genesis: &Genesis, opened: &Opened) -> bool {
        let id = opened.payload_id();
        match opened {
            Opened::Contribution(_) => self.is_in_an_inbox(&id.into()),
            Opened::Inbox(_) => self.cuts.values().any(|cut| cut.body.inboxes.contains(&id.into())),
            Opened::Cut(_) => self.cut_ballot.names(&id),
            Opened::Reveals(_) => self.reveal_ballot.names(&id),
            Opened::Score(_) => self.records.values().any(|record| names_score(&record.body.body, &id.into())),
            Opened::Window(_) => self.record_ballot.names(&id),
            Opened::Vote(signed) => {
                let vote = signed.payload();
                self.ballot(vote.on).is_supported(genesis, vote, &signed.signer())
            }
            Opened::Registration(_) => self.is_wanted(&id.into()),
            Opened::Reveal(_) | Opened::Evidence(_) => false,
        }
    }

    /// Whether there is room for another registration.
    fn check_room_to_register(&self, signed: &Signed<Registration>) -> Result<(), Reject> {
        let owner = &signed.payload().certificate.owner;
        if self.is_wanted(&signed.id().into()) {
            return Ok(());
        }
        if self.registrations.first.contains_key(owner) {
            return Err(Reject::Registration(RegistrationError::Second(owner.short())));
        }
        if self.registrations.by_id.len() >= MAX_REGISTRATIONS {
            return Err(Reject::TooMany { kind: Registration::KIND.name(), signer: signed.signer().short() });
        }
        Ok(())
    }

    /// The accepted payloads of the same kind and signer. For a vote they are of the same step.
    fn statements(&self, opened: &Opened) -> Vec<Hash> {
        let signer = opened.signer();
        match opened {
            Opened::Contribution(signed) => {
                // Owner and node key of a member may be two.
                let miner = &signed.payload().miner;
                let further = self.contributions.further.get(miner).into_iter().flatten();
                self.contributions.first.get(miner).into_iter().chain(further).map(|id| id.hash()).collect()
            }
            Opened::Inbox(_) => {
                let own = self.inboxes.values().filter(|other| other.signer() == signer);
                own.map(Signed::id).collect()
            }
            Opened::Cut(_) => {
                let own = self.cuts.iter().filter(|(_, cut)| cut.publisher.signer == signer);
                own.map(|(id, _)| id.hash()).collect()
            }
            Opened::Reveals(_) => {
                let own = self.reveal_sets.iter().filter(|(_, set)| set.publisher.signer == signer);
                own.map(|(id, _)| id.hash()).collect()
            }
            Opened::Score(_) => {
                let own = self.scores.values().filter(|other| other.signer() == signer);
                own.map(Signed::id).collect()
            }
            Opened::Window(_) => {
                let own = self.records.iter().filter(|(_, record)| record.publisher.signer == signer);
                own.map(|(id, _)| id.hash()).collect()
            }
            Opened::Vote(signed) => {
                let vote = signed.payload();
                let own = self.ballot(vote.on).said(&signer, vote.attempt, vote.step);
                own.map(|value| payload::id_of(&Vote { value, ..*vote })).collect()
            }
            // A second value cannot be on the chain, and registrations are limited by owner.
            Opened::Reveal(_) | Opened::Registration(_) | Opened::Evidence(_) => Vec::new(),
        }
    }

    /// Checks the entry against the accepted entries.
    pub(super) fn examine(&self, state: &RunState, verified: &Verified) -> Result<Ready, Reject> {
        match verified.opened() {
            Opened::Contribution(signed) => self.examine_contribution(state, signed, verified.sound()),
            Opened::Registration(signed) => self.examine_registration(state, signed, verified.sound()),
            Opened::Inbox(signed) => {
                let check = || state.check_inbox(signed.id().into(), signed.payload()).map_err(Reject::Cut);
                verified.sound().valid(state, check)?;
                Ok(Ready::Now)
            }
            Opened::Cut(signed) => {
                let weighed = self.weigh_cut(state, signed.payload());
                self.taken(state.genesis(), verified.opened(), weighed)
            }
            Opened::Reveals(signed) => {
                let weighed = self.weigh_reveals(state, signed.payload());
                self.taken(state.genesis(), verified.opened(), weighed)
            }
            Opened::Score(signed) => self.examine_score(state, signed.payload(), verified),
            Opened::Window(proposed) => {
                let weighed = self.weigh_record(state, &proposed.record, verified.sound());
                self.taken(state.genesis(), verified.opened(), weighed)
            }
            Opened::Vote(_) => Ok(Ready::Now),
            Opened::Evidence(shown) => {
                state.check_evidence(&shown.contradiction).map_err(Reject::Evidence)?;
                Ok(Ready::Now)
            }
            Opened::Reveal(reveal) => self.examine_reveal(state, reveal, verified.sound()),
        }
    }

    /// A cut, reveal set or record is taken in unless it is found wrong. If a vote names it, it is taken in even then,
    /// since others may have taken it in before they could tell.
    fn taken(&self, genesis: &Genesis, opened: &Opened, weighed: Result<Ready, Reject>) -> Result<Ready, Reject> {
        match weighed {
            Err(reject) if !self.is_named(genesis, opened) => Err(Reject::Wrong(Box::new(reject))),
            _ => Ok(Ready::Now),
        }
    }

    /// Whether the same cut, reveal set or record is here already, signed by any validator.
    pub(super) fn has_body(&self, opened: &Opened) -> bool {
        match opened {
            Opened::Cut(signed) => self.cuts.contains_key(&signed.id().into()),
            Opened::Reveals(signed) => self.reveal_sets.contains_key(&signed.id().into()),
            Opened::Window(proposed) => self.records.contains_key(&proposed.id),
            _ => false,
        }
    }

    fn examine_contribution(
        &self,
        state: &RunState,
        signed: &Signed<Contribution>,
        sound: &Sound,
    ) -> Result<Ready, Reject> {
        sound.valid(state, || state.check_claims(signed.payload()).map_err(Reject::Claim))?;
        let id = signed.id();
        match self.cut() {
            Some((_, cut)) if cut.contributions.iter().all(|entry| entry.contribution.hash() != id) => {
                Err(Reject::NotInCut(signed.signer().short()))
            }
            _ => Ok(Ready::Now),
        }
    }

    fn examine_registration(
        &self,
        state: &RunState,
        signed: &Signed<Registration>,
        sound: &Sound,
    ) -> Result<Ready, Reject> {
        sound.valid(state, || state.check_registration(signed.payload()).map_err(Reject::Registration))?;
        let id = signed.id();
        match self.cut() {
            Some((_, cut)) if cut.registrations.iter().all(|entry| entry.registration.hash() != id) => {
                let owner = signed.payload().certificate.owner;
                Err(Reject::Registration(RegistrationError::AfterCut(owner.short())))
            }
            _ => Ok(Ready::Now),
        }
    }

    /// Checks that a cut follows from its inboxes.
    pub(super) fn weigh_cut(&self, state: &RunState, cut: &Cut) -> Result<Ready, Reject> {
        let named: Option<Vec<(InboxId, &Inbox)>> =
            cut.inboxes.iter().map(|id| self.inboxes.get(id).map(|inbox| (*id, inbox.payload()))).collect();
        let Some(inboxes) = named else { return Ok(Ready::Later) };
        if state.shared_cut(&inboxes).map_err(Reject::Cut)?.1 != *cut {
            return Err(Reject::CutDiffers);
        }
        Ok(if self.has_all(cut) { Ready::Now } else { Ready::Later })
    }

    /// Whether everything that a cut names is here.
    pub(super) fn has_all(&self, cut: &Cut) -> bool {
        cut.contributions.iter().all(|entry| self.contributions.by_id.contains_key(&entry.contribution))
            && cut.registrations.iter().all(|entry| self.registrations.by_id.contains_key(&entry.registration))
    }

    /// A value counts once the set has it. Before the set is agreed each value on its chain is taken in.
    fn examine_reveal(&self, state: &RunState, reveal: &RevealEntry, sound: &Sound) -> Result<Ready, Reject> {
        let RevealEntry { validator, value, .. } = *reveal;
        sound.valid(state, || {
            let follows = state.check_reveal(&validator, &value);
            if follows { Ok(()) } else { Err(Reject::Reveal(validator.short())) }
        })?;
        match self.agreed() {
            Some(judging) if judging.reveal(&validator).is_none() => Err(Reject::AfterSet(validator.short())),
            _ => Ok(Ready::Now),
        }
    }

    /// Checks that a reveal set is of the certified cut, and that its values are on their chains and enough.
    pub(super) fn weigh_reveals(&self, state: &RunState, set: &RevealSet) -> Result<Ready, Reject> {
        let Some(certified) = self.certified else { return Ok(Ready::Later) };
        if set.cut != certified {
            return Err(Reject::OtherCut(RevealSet::KIND.name()));
        }
        state.check_reveals(&set.reveals).map_err(Reject::Judging)?;
        Ok(Ready::Now)
    }

    fn examine_score(&self, state: &RunState, score: &Score, verified: &Verified) -> Result<Ready, Reject> {
        let Some(certified) = self.certified else { return Ok(Ready::Later) };
        if score.cut != certified {
            return Err(Reject::OtherCut(Score::KIND.name()));
        }
        let Some(judging) = self.agreed() else { return Ok(Ready::Later) };
        let place = place(state, judging);
        if !verified.sound().is_sound(place) {
            state.check_score(judging, score).map_err(Reject::Score)?;
            verified.sound().found_sound(place);
        }
        Ok(Ready::Now)
    }

    /// Checks that a record recomputes, except for its outer step.
    pub(super) fn weigh_record(&self, state: &RunState, record: &WindowRecord, sound: &Sound) -> Result<Ready, Reject> {
        let Some(certified) = self.certified else { return Ok(Ready::Later) };
        let body = &record.body;
        if body.cut != certified {
            return Err(Reject::OtherCut(WindowHeader::KIND.name()));
        }
        let Some(judging) = self.agreed() else { return Ok(Ready::Later) };
        for (differs, field) in [
            (judging.reveals() != body.reveals, RecordField::Reveals),
            (judging.seed() != body.seed, RecordField::Seed),
        ] {
            if differs {
                return Err(Reject::Record(AdvanceError::Differs(field)));
            }
        }
        let named = body.scores.iter().map(|id| self.scores.get(id).map(|score| (*id, score.payload())));
        let Some(scores) = named.collect::<Option<Vec<(ScoreId, &Score)>>>() else { return Ok(Ready::Later) };
        for refuted in &body.refuted {
            let score = self.scores.get(&refuted.score).map(Signed::payload);
            if score.is_none() && !state.is_of_past_score(refuted) {
                return Ok(Ready::Later);
            }
            state.check_refuted(refuted, score, &scores).map_err(Reject::Record)?;
        }
        let place = place(state, judging);
        if !sound.is_sound(place) {
            state.shared_check_record(judging, &scores, record).map_err(Reject::Record)?;
            sound.found_sound(place);
        }
        Ok(Ready::Now)
    }
}

/// Whether a record counts or refutes this score.
fn names_score(body: &WindowBody, score: &ScoreId) -> bool {
    body.scores.contains(score) || body.refuted.iter().any(|refuted| refuted.score == *score)
}
