//! Whether an entry is valid: first what it says of itself, then what it says about others.
//!
//! The answer depends on the accepted entries of the open window and on nothing else, so every order of arrival ends in
//! the same set. What cannot be told yet waits: a score until its seed is known, a cut or record, which is taken in at
//! once and passed on, until all that it names is here. There is room for two statements of a signer, and for what `open.rs` says.

use std::sync::Arc;

use templar_manifest::{
    Contribution, Cut, EnvelopeError, Genesis, Hash, Inbox, InboxId, Kind, MAX_CONTRADICTIONS, Payload, PublicKey,
    Registration, RunId, Score, ScoreId, Signed, Vote, WindowIndex, WindowRecord, payload,
};

use super::Reject;
use super::open::OpenWindow;
use super::sound::{Sound, place};
use crate::entry::{Entry, EvidenceEntry, RevealEntry};
use crate::evidence;
use crate::members::Rank;
use crate::stake;
use crate::state::{AdvanceError, RecordField, RegistrationError, RunState, ScoreError};

/// Payloads of one kind that are kept of one signer: two prove that one of them is a lie.
pub(super) const MAX_STATEMENTS: usize = 2;
/// Scores that are kept of one validator, of all seeds.
const MAX_SCORES: usize = 8;
/// Votes that are kept of one validator in attempts in which nobody honest is known to be.
const MAX_VOTES_AHEAD: usize = 4;
/// Registrations of one window that are kept, of all owners: each has cost its work, or stands for what an account holds.
const MAX_REGISTRATIONS: usize = 1024;

/// Contradictions that are kept of those that are handed in for one window.
const MAX_SHOWN: usize = 64;

/// Whether a valid entry can be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Now,
    Later,
}

/// An entry that decodes and whose signature verifies: made by [`Verified::open`] and in no other way. Clones share it, so
/// that a process in which many nodes hear the same entry checks its signature once, and recomputes scores and records
/// once. Nodes that share entries must have begun with the same state.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    id: Hash,
    entry: Arc<Entry>,
    pub(super) opened: Opened,
    pub(super) sound: Arc<Sound>,
}

impl Verified {
    /// Decodes the payload, checks the signature, and that the signer is whom the payload names.
    ///
    /// # Errors
    /// [`Reject::Envelope`] and [`Reject::Kind`].
    pub fn open(entry: Entry) -> Result<Self, Reject> {
        Ok(Self { id: entry.id(), opened: Opened::open(&entry)?, entry: Arc::new(entry), sound: Arc::default() })
    }

    /// The entry's id.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// The entry as it travels.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Who says it.
    pub fn signer(&self) -> PublicKey {
        self.opened.signer()
    }

    /// The window that it is about.
    pub fn window(&self) -> WindowIndex {
        self.opened.window()
    }
}

/// What an entry says, once its signature was checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Opened {
    Contribution(Signed<Contribution>),
    Registration(Signed<Registration>),
    Inbox(Signed<Inbox>),
    Cut(Signed<Cut>),
    Score(Signed<Score>),
    Window(Signed<WindowRecord>),
    Vote(Signed<Vote>),
    Reveal(RevealEntry),
    Evidence(Arc<EvidenceEntry>),
}

impl Opened {
    /// Decodes the payload, checks the signature, and that the signer is whom the payload names.
    pub(super) fn open(entry: &Entry) -> Result<Self, Reject> {
        let envelope = match entry {
            Entry::Reveal(reveal) => return Ok(Self::Reveal(*reveal)),
            Entry::Evidence(shown) => {
                evidence::check(&shown.run, &shown.contradiction).map_err(Reject::Evidence)?;
                return Ok(Self::Evidence(Arc::new(EvidenceEntry::clone(shown))));
            }
            Entry::Envelope(envelope) => envelope,
        };
        let (kind, _) = payload::peek(&envelope.payload).map_err(|error| Reject::Envelope(error.into()))?;
        Ok(match kind {
            // Whether the signer trains for the miner is for the members of the window to say.
            Kind::Contribution => Self::Contribution(envelope.open()?),
            Kind::Registration => {
                let signed: Signed<Registration> = envelope.open()?;
                let node = signed.payload().certificate.node;
                Self::Registration(signed.expect_signer(&node)?)
            }
            Kind::Inbox => {
                let signed: Signed<Inbox> = envelope.open()?;
                let validator = signed.payload().validator;
                Self::Inbox(signed.expect_signer(&validator)?)
            }
            Kind::Cut => Self::Cut(envelope.open()?),
            Kind::Score => {
                let signed: Signed<Score> = envelope.open()?;
                let validator = signed.payload().validator;
                Self::Score(signed.expect_signer(&validator)?)
            }
            Kind::Window => Self::Window(envelope.open()?),
            Kind::Vote => Self::Vote(envelope.open()?),
            other => return Err(Reject::Kind(other)),
        })
    }

    pub(super) fn run(&self) -> RunId {
        match self {
            Self::Contribution(signed) => signed.payload().run,
            Self::Registration(signed) => signed.payload().run,
            Self::Inbox(signed) => signed.payload().run,
            Self::Cut(signed) => signed.payload().run,
            Self::Score(signed) => signed.payload().run,
            Self::Window(signed) => signed.payload().run,
            Self::Vote(signed) => signed.payload().run,
            Self::Reveal(reveal) => reveal.run,
            Self::Evidence(shown) => shown.run,
        }
    }

    pub(super) fn window(&self) -> WindowIndex {
        match self {
            Self::Contribution(signed) => signed.payload().window,
            Self::Registration(signed) => signed.payload().window,
            Self::Inbox(signed) => signed.payload().window,
            Self::Cut(signed) => signed.payload().window,
            Self::Score(signed) => signed.payload().window,
            Self::Window(signed) => signed.payload().window,
            Self::Vote(signed) => signed.payload().window,
            Self::Reveal(reveal) => reveal.window,
            Self::Evidence(shown) => shown.window,
        }
    }

    pub(super) fn signer(&self) -> PublicKey {
        match self {
            Self::Contribution(signed) => signed.signer(),
            Self::Registration(signed) => signed.signer(),
            Self::Inbox(signed) => signed.signer(),
            Self::Cut(signed) => signed.signer(),
            Self::Score(signed) => signed.signer(),
            Self::Window(signed) => signed.signer(),
            Self::Vote(signed) => signed.signer(),
            Self::Reveal(reveal) => reveal.validator,
            Self::Evidence(shown) => shown.contradiction.signer,
        }
    }

    /// Id of the payload; of a reveal, its value; of evidence that of its second statement.
    pub(super) fn payload_id(&self) -> Hash {
        match self {
            Self::Contribution(signed) => signed.id(),
            Self::Registration(signed) => signed.id(),
            Self::Inbox(signed) => signed.id(),
            Self::Cut(signed) => signed.id(),
            Self::Score(signed) => signed.id(),
            Self::Window(signed) => signed.id(),
            Self::Vote(signed) => signed.id(),
            Self::Reveal(reveal) => reveal.value,
            Self::Evidence(shown) => shown.contradiction.second.id(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Contribution(_) => Contribution::KIND.name(),
            Self::Registration(_) => Registration::KIND.name(),
            Self::Inbox(_) => Inbox::KIND.name(),
            Self::Cut(_) => Cut::KIND.name(),
            Self::Score(_) => Score::KIND.name(),
            Self::Window(_) => WindowRecord::KIND.name(),
            Self::Vote(_) => Vote::KIND.name(),
            Self::Reveal(_) => "reveal",
            Self::Evidence(_) => "evidence",
        }
    }

    /// The seed of a score; nothing else has one to be told apart by.
    pub(super) fn seed(&self) -> Option<Hash> {
        match self {
            Self::Score(signed) => Some(signed.payload().seed),
            _ => None,
        }
    }

    /// Whether it is a cut or record. Signing two is no contradiction: who proposes again may propose another.
    fn is_body(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Window(_))
    }

    /// Whether the signer may say such a thing at all.
    pub(super) fn check_signer(&self, state: &RunState) -> Result<(), Reject> {
        let signer = self.signer();
        match self {
            Self::Contribution(signed) => {
                let miner = signed.payload().miner;
                let member = state.members().by_owner(&miner).ok_or_else(|| Reject::NotRegistered(miner.short()))?;
                if member.node == signer {
                    return Ok(());
                }
                let (named, signer) = (member.node.short(), signer.short());
                Err(Reject::Envelope(EnvelopeError::WrongSigner { kind: Contribution::KIND, named, signer }))
            }
            // Anybody may ask for a slot, and of evidence the state says whose it is.
            Self::Registration(_) | Self::Evidence(_) => Ok(()),
            _ => state.genesis().validator(&signer).map(|_| ()).ok_or_else(|| Reject::NotAValidator(signer.short())),
        }
    }
}

impl Opened {
    /// Whether every list could be honest, so that what is held stays small.
    pub(super) fn check_size(&self, genesis: &Genesis) -> Result<(), Reject> {
        let (miners, validators) = (genesis.registration.slots as usize, genesis.validators.len());
        // Each is in lists of more than a third, so in at least one of three honest ones.
        let registrations = 3 * Rank::most_named(&genesis.registration);
        let fits = match self {
            // A contribution and a registration have no lists, and an inbox or evidence is never held.
            Self::Contribution(_) | Self::Registration(_) | Self::Inbox(_) => true,
            Self::Vote(_) | Self::Reveal(_) | Self::Evidence(_) => true,
            Self::Cut(signed) => {
                let cut = signed.payload();
                cut.contributions.len() <= miners
                    && cut.registrations.len() <= registrations
                    && cut.inboxes.len() <= validators
            }
            Self::Score(signed) => {
                let score = signed.payload();
                let proofs = score.entries.iter().map(|entry| &entry.proof);
                let mut proofs = proofs.chain(score.verdicts.iter().map(|verdict| &verdict.proof)).flatten();
                score.entries.len() <= miners
                    && score.row.len() <= miners
                    && score.verdicts.len() as u64 <= miners as u64 * genesis.replay.open_windows()
                    && proofs.all(|proof| proof.witnesses.len() <= validators)
            }
            Self::Window(signed) => {
                let record = signed.payload();
                record.outcomes.len() <= miners
                    && record.weights.len() <= miners
                    && record.admissions.len() <= registrations
                    && record.scores.len() <= validators
                    && record.reveals.len() <= validators
                    && record.mints.len() <= miners + 2 * validators + 1
                    && record.slashes.len() as u64
                        <= miners as u64 * (genesis.replay.open_windows() + 1)
                            + validators as u64 * (1 + MAX_CONTRADICTIONS as u64)
                    && record.challenges.len() as u64 <= miners as u64 * genesis.replay.open_windows()
            }
        };
        if fits { Ok(()) } else { Err(Reject::Oversized(self.name())) }
    }
}

impl OpenWindow {
    /// Whether there is room for another statement of this signer. Returns the first one where this one contradicts it.
    /// A node's own key is no exception: what it signed in a life that it forgot, others may build on.
    pub(super) fn check_room(&self, genesis: &Genesis, opened: &Opened) -> Result<Option<Hash>, Reject> {
        let signer = opened.signer();
        if let Opened::Registration(signed) = opened {
            return self.check_room_to_register(signed).map(|()| None);
        }
        let too_many = || Reject::TooMany { kind: opened.name(), signer: signer.short() };
        if let Opened::Evidence(shown) = opened {
            // One is enough, and whoever contradicts itself pays for it.
            let is_shown = self.shown.contains_key(&(signer, shown.contradiction.window));
            let is_full = is_shown || self.shown.len() >= MAX_SHOWN;
            return if is_full { Err(Reject::Shown(signer.short())) } else { Ok(None) };
        }
        let mut earlier = self.statements(opened);
        let mut is_full = earlier.len() >= MAX_STATEMENTS;
        match opened {
            Opened::Score(signed) => {
                let held = self.held.values().map(|held| &held.opened).filter(|held| held.signer() == signer);
                earlier.extend(held.map(|held| (held.payload_id(), held.seed())));
                let all = earlier.len();
                // Another seed is not a contradiction: more validators had revealed.
                earlier.retain(|(_, seed)| *seed == Some(signed.payload().seed));
                is_full = all >= MAX_SCORES || earlier.len() >= MAX_STATEMENTS;
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
        Ok(earlier.first().map(|(first, _)| *first).filter(|_| !opened.is_body()))
    }

    /// Whether accepted entries name it, so that something may depend on it.
    pub(super) fn is_named(&self, genesis: &Genesis, opened: &Opened) -> bool {
        let id = opened.payload_id();
        match opened {
            Opened::Contribution(_) => self.is_in_an_inbox(&id.into()),
            Opened::Inbox(_) => self.cuts.values().any(|cut| cut.body.inboxes.contains(&id.into())),
            Opened::Cut(_) => self.cut_ballot.names(&id),
            Opened::Score(_) => self.records.values().any(|record| record.body.scores.contains(&id.into())),
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
        if self.first_registration.contains_key(owner) {
            return Err(Reject::Registration(RegistrationError::Second(owner.short())));
        }
        if self.registrations.len() >= MAX_REGISTRATIONS {
            return Err(Reject::TooMany { kind: Registration::KIND.name(), signer: signed.signer().short() });
        }
        Ok(())
    }

    /// Accepted payloads of the same kind and signer, and of votes the same step, with the seed where it is a score.
    fn statements(&self, opened: &Opened) -> Vec<(Hash, Option<Hash>)> {
        let signer = opened.signer();
        match opened {
            Opened::Contribution(_) => {
                let further = self.further.get(&signer).into_iter().flatten();
                self.first.get(&signer).into_iter().chain(further).map(|id| (id.hash(), None)).collect()
            }
            Opened::Inbox(_) => {
                let own = self.inboxes.values().filter(|other| other.signer() == signer);
                own.map(|other| (other.id(), None)).collect()
            }
            Opened::Cut(_) => {
                let own = self.cuts.iter().filter(|(_, cut)| cut.publisher.signer == signer);
                own.map(|(id, _)| (id.hash(), None)).collect()
            }
            Opened::Score(_) => {
                let own = self.scores.values().filter(|other| other.signer() == signer);
                own.map(|other| (other.id(), Some(other.payload().seed))).collect()
            }
            Opened::Window(_) => {
                let own = self.records.iter().filter(|(_, record)| record.publisher.signer == signer);
                own.map(|(id, _)| (id.hash(), None)).collect()
            }
            Opened::Vote(signed) => {
                let vote = signed.payload();
                let own = self.ballot(vote.on).said(&signer, vote.attempt, vote.step);
                own.map(|value| (payload::id_of(&Vote { value, ..*vote }), None)).collect()
            }
            // A second value cannot be on the chain, and registrations are counted by owner.
            Opened::Reveal(_) | Opened::Registration(_) | Opened::Evidence(_) => Vec::new(),
        }
    }

    /// Whether the entry is valid, given what has been accepted.
    pub(super) fn examine(&self, state: &RunState, verified: &Verified) -> Result<Ready, Reject> {
        match &verified.opened {
            Opened::Contribution(signed) => self.examine_contribution(state, signed),
            Opened::Registration(signed) => self.examine_registration(state, signed),
            Opened::Inbox(signed) => {
                state.shared_check_inbox(signed.id().into(), signed.payload()).map_err(Reject::Cut)?;
                Ok(Ready::Now)
            }
            Opened::Cut(signed) => {
                let weighed = self.weigh_cut(state, signed.payload());
                self.taken(state.genesis(), &verified.opened, weighed)
            }
            Opened::Score(signed) => self.examine_score(state, signed.payload(), verified),
            Opened::Window(signed) => {
                let weighed = self.weigh_record(state, signed.payload(), &verified.sound);
                self.taken(state.genesis(), &verified.opened, weighed)
            }
            Opened::Vote(_) => Ok(Ready::Now),
            Opened::Evidence(shown) => {
                state.check_evidence(&shown.contradiction).map_err(Reject::Evidence)?;
                Ok(Ready::Now)
            }
            Opened::Reveal(reveal) => {
                if state.check_reveal(&reveal.validator, &reveal.value) {
                    Ok(Ready::Now)
                } else {
                    Err(Reject::Reveal(reveal.validator.short()))
                }
            }
        }
    }

    /// A cut or record is taken in unless it is wrong; and if a vote names it, also then, for others may have taken it in
    /// before they could tell.
    fn taken(&self, genesis: &Genesis, opened: &Opened, weighed: Result<Ready, Reject>) -> Result<Ready, Reject> {
        match weighed {
            Err(reject) if !self.is_named(genesis, opened) => Err(Reject::Wrong(Box::new(reject))),
            _ => Ok(Ready::Now),
        }
    }

    /// Whether the same cut or record is here, by whomever it was signed.
    pub(super) fn has_body(&self, opened: &Opened) -> bool {
        match opened {
            Opened::Cut(signed) => self.cuts.contains_key(&signed.id().into()),
            Opened::Window(signed) => self.records.contains_key(&signed.id().into()),
            _ => false,
        }
    }

    fn examine_contribution(&self, state: &RunState, signed: &Signed<Contribution>) -> Result<Ready, Reject> {
        state.check_claims(signed.payload()).map_err(Reject::Claim)?;
        let id = signed.id();
        match self.cut() {
            Some((_, cut)) if cut.contributions.iter().all(|entry| entry.contribution.hash() != id) => {
                Err(Reject::NotInCut(signed.signer().short()))
            }
            _ => Ok(Ready::Now),
        }
    }

    fn examine_registration(&self, state: &RunState, signed: &Signed<Registration>) -> Result<Ready, Reject> {
        state.check_registration(signed.payload()).map_err(Reject::Registration)?;
        let id = signed.id();
        match self.cut() {
            Some((_, cut)) if cut.registrations.iter().all(|entry| entry.registration.hash() != id) => {
                let owner = signed.payload().certificate.owner;
                Err(Reject::Registration(RegistrationError::AfterCut(owner.short())))
            }
            _ => Ok(Ready::Now),
        }
    }

    /// Whether a cut recomputes.
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
        cut.contributions.iter().all(|entry| self.contributions.contains_key(&entry.contribution))
            && cut.registrations.iter().all(|entry| self.registrations.contains_key(&entry.registration))
    }

    fn examine_score(&self, state: &RunState, score: &Score, verified: &Verified) -> Result<Ready, Reject> {
        let Some(certified) = self.certified else { return Ok(Ready::Later) };
        if score.cut != certified {
            return Err(Reject::OtherCut(Score::KIND.name()));
        }
        match self.judgings.get(&score.seed) {
            Some(judging) => {
                let place = place(state, judging);
                if !verified.sound.is_sound(place) {
                    state.check_score(judging, score).map_err(Reject::Score)?;
                    verified.sound.found_sound(place);
                }
                Ok(Ready::Now)
            }
            // Where a smaller set of reveals could be the one that was meant, a record may still name it.
            None if self.is_only_seed(state.genesis()) => Err(Reject::Score(ScoreError::Foreign("seed"))),
            None => Ok(Ready::Later),
        }
    }

    /// Whether every validator has revealed and without any one of them there would be no quorum.
    fn is_only_seed(&self, genesis: &Genesis) -> bool {
        let total = genesis.total_stake();
        let least = genesis.validators.iter().map(|validator| validator.stake).min().unwrap_or(0);
        self.seed.is_some()
            && self.reveals.len() == genesis.validators.len()
            && !stake::more_than_two_thirds(total - least, total)
    }

    /// Whether a record recomputes, all but its outer step.
    pub(super) fn weigh_record(&self, state: &RunState, record: &WindowRecord, sound: &Sound) -> Result<Ready, Reject> {
        let Some((certified, cut)) = self.cut() else { return Ok(Ready::Later) };
        if record.cut != certified {
            return Err(Reject::OtherCut(WindowRecord::KIND.name()));
        }
        let judging = &*self.judging_of(state, (certified, cut), record.reveals.clone())?;
        if judging.seed() != record.seed {
            return Err(Reject::Record(AdvanceError::Differs(RecordField::Seed)));
        }
        let named = record.scores.iter().map(|id| self.scores.get(id).map(|score| (*id, score.payload())));
        let Some(scores) = named.collect::<Option<Vec<(ScoreId, &Score)>>>() else { return Ok(Ready::Later) };
        if scores.iter().any(|(_, score)| score.seed != judging.seed()) {
            return Err(Reject::Record(AdvanceError::Score(ScoreError::Foreign("seed"))));
        }
        let place = place(state, judging);
        if !sound.is_sound(place) {
            state.shared_check_record(judging, &scores, record).map_err(Reject::Record)?;
            sound.found_sound(place);
        }
        Ok(Ready::Now)
    }
}
