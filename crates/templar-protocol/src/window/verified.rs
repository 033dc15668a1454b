//! Entries whose signature was checked: their content, their signer, and whether they could be honest by
//! themselves.

use std::sync::Arc;

use templar_manifest::{
    Contribution, Cut, EnvelopeError, Genesis, Hash, Inbox, Kind, MAX_CONTRADICTIONS, Payload, PublicKey, RecordId,
    Registration, RevealSet, RunId, Score, SecretKey, Signed, Vote, WindowBody, WindowHeader, WindowIndex,
    WindowRecord, payload,
};

use super::reject::Reject;
use super::sound::Sound;
use crate::entry::{Entry, EvidenceEntry, RecordEntry, RevealEntry};
use crate::run::members::Rank;
use crate::run::{RunState, Witness, evidence};

/// An entry that decodes and whose signature verifies. Only [`Verified::open`], [`Verified::of_contribution`] and
/// [`Unsigned::seal`] make one. Clones share it, so a process with many nodes checks each signature once and
/// recomputes each score and record once. Nodes that share entries must have begun with the same state.
///
/// [`Unsigned::seal`]: crate::Unsigned::seal
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Arc<CheckedEntry>);

/// What all clones of a verified entry share.
#[derive(Debug, PartialEq)]
struct CheckedEntry {
    id: Hash,
    entry: Entry,
    opened: Opened,
    sound: Arc<Sound>,
}

impl Verified {
    /// Decodes the payload, checks the signature, and checks that the signer is the key that the payload names.
    ///
    /// # Errors
    /// [`Reject::Envelope`], [`Reject::Kind`] or [`Reject::Evidence`].
    pub fn open(entry: Entry) -> Result<Self, Reject> {
        let opened = Opened::open(&entry)?;
        Ok(Self::of(entry, opened))
    }

    /// A contribution that this process signs. It needs no verification.
    pub fn of_contribution(contribution: Contribution, key: &SecretKey) -> Self {
        let (signed, envelope) = Signed::seal(contribution, key);
        Self::of(Entry::Envelope(envelope), Opened::Contribution(signed))
    }

    /// `opened` must be what [`Opened::open`] makes of `entry`.
    pub(super) fn of(entry: Entry, opened: Opened) -> Self {
        Self(Arc::new(CheckedEntry { id: entry.id(), entry, opened, sound: Arc::default() }))
    }

    /// The id of the entry.
    pub fn id(&self) -> Hash {
        self.0.id
    }

    /// The entry in the form that travels between nodes.
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    /// The key that signed it.
    pub fn signer(&self) -> PublicKey {
        self.opened().signer()
    }

    /// The window of the entry.
    pub fn window(&self) -> WindowIndex {
        self.opened().window()
    }

    /// The run of the entry.
    pub fn run(&self) -> RunId {
        self.opened().run()
    }

    /// The kind of the statement, such as `vote`, `reveal` or `evidence`.
    pub fn name(&self) -> &'static str {
        self.opened().name()
    }

    /// The content of the entry.
    pub(super) fn opened(&self) -> &Opened {
        &self.0.opened
    }

    /// The results of checks on the entry, for all nodes of this process.
    pub(super) fn sound(&self) -> &Arc<Sound> {
        &self.0.sound
    }
}

/// A record whose header is signed and names its body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProposedRecord {
    pub(super) id: RecordId,
    pub(super) record: Arc<WindowRecord>,
    /// The signature under the header.
    pub(super) publisher: Witness,
}

impl ProposedRecord {
    /// A record whose header this process has signed.
    pub(super) fn of(header: &Signed<WindowHeader>, body: WindowBody) -> Self {
        let publisher = Witness { signer: header.signer(), signature: header.signature() };
        Self { id: header.id().into(), record: Arc::new(WindowRecord { header: *header.payload(), body }), publisher }
    }

    fn open(entry: &RecordEntry) -> Result<Self, Reject> {
        let header: Signed<WindowHeader> = entry.header.open()?;
        let publisher = Witness { signer: header.signer(), signature: header.signature() };
        let id = header.id().into();
        let header = *header.payload();
        let other = || Reject::OtherBody(publisher.signer.short());
        if header.body_root.hash() != Hash::of(&entry.body) {
            return Err(other());
        }
        let body: WindowBody = payload::decode(&entry.body).map_err(|error| Reject::Envelope(error.into()))?;
        if (body.run, body.window) != (header.run, header.window) {
            return Err(other());
        }
        Ok(Self { id, record: Arc::new(WindowRecord { header, body }), publisher })
    }
}

/// The content of an entry, decoded and with a checked signature.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Opened {
    Contribution(Signed<Contribution>),
    Registration(Signed<Registration>),
    Inbox(Signed<Inbox>),
    Cut(Signed<Cut>),
    Reveals(Signed<RevealSet>),
    Score(Signed<Score>),
    Window(ProposedRecord),
    Vote(Signed<Vote>),
    Reveal(RevealEntry),
    Evidence(Arc<EvidenceEntry>),
}

impl Opened {
    /// Decodes the payload, checks the signature, and checks that the signer is the key that the payload names.
    ///
    /// # Errors
    /// [`Reject::Envelope`], [`Reject::Kind`] or [`Reject::Evidence`].
    pub(super) fn open(entry: &Entry) -> Result<Self, Reject> {
        let envelope = match entry {
            Entry::Reveal(reveal) => return Ok(Self::Reveal(*reveal)),
            Entry::Evidence(shown) => {
                evidence::check(&shown.run, &shown.contradiction).map_err(Reject::Evidence)?;
                return Ok(Self::Evidence(Arc::new(EvidenceEntry::clone(shown))));
            }
            Entry::Record(record) => return ProposedRecord::open(record).map(Self::Window),
            Entry::Envelope(envelope) => envelope,
        };
        let (kind, _) = payload::peek(&envelope.payload).map_err(|error| Reject::Envelope(error.into()))?;
        Ok(match kind {
            // Whether the signer is the miner's node key is checked against the members of the window.
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
            Kind::Reveals => Self::Reveals(envelope.open()?),
            Kind::Score => {
                let signed: Signed<Score> = envelope.open()?;
                let validator = signed.payload().validator;
                Self::Score(signed.expect_signer(&validator)?)
            }
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
            Self::Reveals(signed) => signed.payload().run,
            Self::Score(signed) => signed.payload().run,
            Self::Window(proposed) => proposed.record.header.run,
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
            Self::Reveals(signed) => signed.payload().window,
            Self::Score(signed) => signed.payload().window,
            Self::Window(proposed) => proposed.record.header.window,
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
            Self::Reveals(signed) => signed.signer(),
            Self::Score(signed) => signed.signer(),
            Self::Window(proposed) => proposed.publisher.signer,
            Self::Vote(signed) => signed.signer(),
            Self::Reveal(reveal) => reveal.validator,
            Self::Evidence(shown) => shown.contradiction.signer,
        }
    }

    /// The id of the payload. For a reveal it is the value, for evidence the id of its second statement.
    pub(super) fn payload_id(&self) -> Hash {
        match self {
            Self::Contribution(signed) => signed.id(),
            Self::Registration(signed) => signed.id(),
            Self::Inbox(signed) => signed.id(),
            Self::Cut(signed) => signed.id(),
            Self::Reveals(signed) => signed.id(),
            Self::Score(signed) => signed.id(),
            Self::Window(proposed) => proposed.id.hash(),
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
            Self::Reveals(_) => RevealSet::KIND.name(),
            Self::Score(_) => Score::KIND.name(),
            Self::Window(_) => WindowHeader::KIND.name(),
            Self::Vote(_) => Vote::KIND.name(),
            Self::Reveal(_) => "reveal",
            Self::Evidence(_) => "evidence",
        }
    }

    /// Whether it is a cut, reveal set or record. Two of them by one signer are no contradiction, since a proposer may
    /// propose again.
    pub(super) fn is_body(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Reveals(_) | Self::Window(_))
    }

    /// Checks that the signer may make such a statement at all.
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
            // Anybody may ask for a slot, and the state decides whose evidence counts.
            Self::Registration(_) | Self::Evidence(_) => Ok(()),
            _ => state.genesis().validator(&signer).map(|_| ()).ok_or_else(|| Reject::NotAValidator(signer.short())),
        }
    }
}

impl Opened {
    /// Checks that every list could be honest, so that held entries stay small.
    pub(super) fn check_size(&self, genesis: &Genesis) -> Result<(), Reject> {
        let (miners, validators) = (genesis.registration.slots as usize, genesis.validators.len());
        // Each registration of a cut is in inboxes of more than a third of the stake, so in at least one of
        // three honest ones.
        let registrations = 3 * Rank::most_named(&genesis.registration);
        let fits = match self {
            // Contributions and registrations have no lists, and inboxes and evidence are never held.
            Self::Contribution(_) | Self::Registration(_) | Self::Inbox(_) => true,
            Self::Vote(_) | Self::Reveal(_) | Self::Evidence(_) => true,
            Self::Cut(signed) => {
                let cut = signed.payload();
                cut.contributions.len() <= miners
                    && cut.registrations.len() <= registrations
                    && cut.inboxes.len() <= validators
            }
            Self::Reveals(signed) => signed.payload().reveals.len() <= validators,
            Self::Score(signed) => {
                let score = signed.payload();
                let proofs = score.entries.iter().map(|entry| &entry.proof);
                let mut proofs = proofs.chain(score.verdicts.iter().map(|verdict| &verdict.proof)).flatten();
                let mut measured = score.entries.iter().filter_map(|entry| entry.evaluation.measurement());
                score.entries.len() <= miners
                    && score.verdicts.len() as u64 <= miners as u64 * genesis.replay.open_windows()
                    && proofs.all(|proof| proof.witnesses.len() <= validators)
                    && measured.all(|measured| measured.witnesses.len() <= validators)
            }
            Self::Window(proposed) => {
                let record = &proposed.record.body;
                record.outcomes.len() <= miners
                    && record.weights.len() <= miners
                    && record.admissions.len() <= registrations
                    && record.scores.len() <= validators
                    && record.reveals.len() <= validators
                    && record.mints.len() <= miners + 2 * validators + 1
                    && record.refuted.len() <= validators
                    && record.slashes.len() as u64
                        <= miners as u64 * (genesis.replay.open_windows() + 1)
                            + validators as u64 * (2 + MAX_CONTRADICTIONS as u64)
                    && record.challenges.len() as u64 <= miners as u64 * genesis.replay.open_windows()
            }
        };
        if fits { Ok(()) } else { Err(Reject::Oversized(self.name())) }
    }
}
