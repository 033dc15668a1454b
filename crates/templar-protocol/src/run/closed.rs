//! A closed window with everything that its record names, and the certificates that made it final.

use templar_manifest::envelope::signed_bytes;
use templar_manifest::{
    Contribution, Cut, CutId, Envelope, Genesis, Inbox, Kind, Payload, PublicKey, RecordId, Registration, RevealSet,
    RunId, Score, Signature, Signed, Vote, VoteOn, VoteStep, WindowIndex, WindowRecord, payload,
};

use super::cut::CutError;
use super::difference::RecordField;
use super::judge::JudgingError;
use super::score::ScoreError;
use crate::entry::{Entry, RecordEntry, RevealEntry};
use crate::stake;

/// The reasons for which a record does not close the open window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvanceError {
    /// The inboxes do not make a cut.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// The id of the record is not the hash of its header.
    #[error("{0} does not have the id it is said to have")]
    Id(Kind),
    /// The cut is not the one that follows from its inboxes.
    #[error("cut {0} is not what its inboxes give")]
    CutDiffers(CutId),
    /// The record names another cut.
    #[error("record is of another cut than {0}")]
    OtherCut(CutId),
    /// A contribution or registration is signed by another key than the node key that may sign it.
    #[error("{kind} of {owner} is not signed by its node key")]
    Signer {
        /// The kind of the manifest.
        kind: Kind,
        /// The owner, in short.
        owner: String,
    },
    /// The contributions, registrations or reveals do not fit the cut or the run.
    #[error(transparent)]
    Judging(#[from] JudgingError),
    /// A score does not recompute from its entries.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The record counts two scores of one validator.
    #[error("two scores of validator {0}")]
    TwoScores(String),
    /// The counted scores have two thirds of the stake or less.
    #[error("scores of {stake} of the stake of {total}, more than two thirds are needed")]
    NoQuorum {
        /// The stake of the validators whose scores are counted.
        stake: u64,
        /// The stake of all validators.
        total: u64,
    },
    /// The record refutes a statement that the score of this validator does not make.
    #[error("the record refutes a statement that the score of validator {0} does not make")]
    Unstated(String),
    /// The record counts a score that contests what this validator measured, and does not refute it.
    #[error("the record counts a score that contests a measurement of validator {0}, and does not refute it")]
    Unrefuted(String),
    /// A field of the record is not what follows from its parts. This is the first such field.
    #[error("record does not recompute: {0} differs")]
    Differs(RecordField),
    /// The signatures are of two thirds of the stake or less, or one does not verify.
    #[error("{0} is not certified by more than two thirds of the stake")]
    NotCertified(Kind),
}

/// The proof that a cut, a reveal set or the header of a record is final: votes for it by more than two thirds of the
/// stake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteCertificate {
    /// The attempt in which validators agreed. Nothing else depends on it.
    pub attempt: u32,
    /// The signature of a validator on the cut, set or header itself, with which it travels between nodes.
    pub publisher: Witness,
    /// The validators' signatures on the precommit for it, by signer.
    pub witnesses: Vec<Witness>,
}

impl VoteCertificate {
    /// The vote that the witnesses have signed.
    pub fn vote<T: Payload>(&self, run: RunId, window: WindowIndex, on: VoteOn, body: &T) -> Vote {
        let value = Some(payload::id_of(body));
        Vote { run, window, on, attempt: self.attempt, step: VoteStep::Precommit, value }
    }

    /// Verifies that the publisher signed `body`, that the witnesses signed `vote`, which is for it, and that
    /// they are enough.
    pub(super) fn check<T: Payload>(&self, genesis: &Genesis, vote: &Vote, body: &T) -> Result<(), AdvanceError> {
        let valid = is_signed(body, &self.publisher) && self.witnesses.iter().all(|witness| is_signed(vote, witness));
        let publisher = genesis.validator(&self.publisher.signer);
        if valid
            && publisher.is_some()
            && stake::is_quorum(genesis, self.witnesses.iter().map(|witness| &witness.signer))
        {
            return Ok(());
        }
        Err(AdvanceError::NotCertified(T::KIND))
    }
}

fn is_signed<T: Payload>(payload: &T, witness: &Witness) -> bool {
    let bytes = signed_bytes(T::KIND, T::VERSION, payload.run(), &payload::id_of(payload));
    witness.signer.verify(&bytes, &witness.signature).is_ok()
}

/// One signature on a payload that is kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// The key that signed.
    pub signer: PublicKey,
    /// The signature of that key.
    pub signature: Signature,
}

/// A closed window with everything that its record names.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedWindow {
    /// The id of the record.
    pub record: RecordId,
    /// The record that closes it: its header and its body.
    pub window: WindowRecord,
    /// The certified cut of the window.
    pub cut: Cut,
    /// The inboxes that the cut names, in its order.
    pub inboxes: Vec<Signed<Inbox>>,
    /// The contributions that the cut names, in its order.
    pub contributions: Vec<Signed<Contribution>>,
    /// The registrations that the cut names, in its order.
    pub registrations: Vec<Signed<Registration>>,
    /// The scores that the record names, in its order.
    pub scores: Vec<Signed<Score>>,
    /// The scores whose statements the record refutes, in its order.
    pub refuted: Vec<Signed<Score>>,
    /// The certificate of the cut.
    pub cut_certificate: VoteCertificate,
    /// The certificate of the reveal set.
    pub reveals_certificate: VoteCertificate,
    /// The certificate of the record.
    pub record_certificate: VoteCertificate,
}

impl ClosedWindow {
    /// The agreed values, which the record repeats.
    pub fn reveal_set(&self) -> RevealSet {
        RevealSet::of(&self.window.body)
    }

    /// Verifies the certificates of cut, reveal set and record.
    ///
    /// # Errors
    /// [`AdvanceError::NotCertified`]
    pub fn check_certificates(&self, genesis: &Genesis) -> Result<(), AdvanceError> {
        let header = &self.window.header;
        let (run, window) = (header.run, header.window);
        let vote = self.cut_certificate.vote(run, window, VoteOn::Cut, &self.cut);
        self.cut_certificate.check(genesis, &vote, &self.cut)?;
        let set = self.reveal_set();
        let vote = self.reveals_certificate.vote(run, window, VoteOn::Reveals, &set);
        self.reveals_certificate.check(genesis, &vote, &set)?;
        let vote = self.record_certificate.vote(run, window, VoteOn::Window, header);
        self.record_certificate.check(genesis, &vote, header)
    }

    /// The entries that close this window in any node that is at the window before, in an order in which each
    /// can be checked when it comes.
    pub fn entries(&self) -> Vec<Entry> {
        let WindowRecord { header, body } = &self.window;
        let (run, window) = (header.run, header.window);
        let reveals = body
            .reveals
            .iter()
            .map(|reveal| Entry::Reveal(RevealEntry { run, window, validator: reveal.validator, value: reveal.value }));
        let mut entries: Vec<Entry> = Vec::new();
        entries.extend(self.contributions.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(self.registrations.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(self.inboxes.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(witnessed(&self.cut, &[self.cut_certificate.publisher]));
        let vote = self.cut_certificate.vote(run, window, VoteOn::Cut, &self.cut);
        entries.extend(witnessed(&vote, &self.cut_certificate.witnesses));
        entries.extend(reveals);
        let set = self.reveal_set();
        entries.extend(witnessed(&set, &[self.reveals_certificate.publisher]));
        let vote = self.reveals_certificate.vote(run, window, VoteOn::Reveals, &set);
        entries.extend(witnessed(&vote, &self.reveals_certificate.witnesses));
        let scores = self.scores.iter().chain(&self.refuted);
        entries.extend(scores.map(|signed| Entry::Envelope(signed.envelope())));
        let Witness { signer, signature } = self.record_certificate.publisher;
        let signed = Envelope { payload: payload::encode(header), signer, signature };
        entries.push(Entry::Record(Box::new(RecordEntry { header: signed, body: payload::encode(body) })));
        let vote = self.record_certificate.vote(run, window, VoteOn::Window, header);
        entries.extend(witnessed(&vote, &self.record_certificate.witnesses));
        entries
    }
}

fn witnessed<T: Payload>(body: &T, witnesses: &[Witness]) -> Vec<Entry> {
    let payload = payload::encode(body);
    let witnesses = witnesses.iter();
    witnesses
        .map(|&Witness { signer, signature }| Envelope { payload: payload.clone(), signer, signature })
        .map(Entry::Envelope)
        .collect()
}
