//! A closed window with everything that its record names, and the certificates that made it final.

use templar_manifest::envelope::signed_bytes;
use templar_manifest::{
    Contribution, Cut, CutId, Envelope, Genesis, Inbox, Kind, Payload, PublicKey, RecordId, Registration, RunId, Score,
    Signature, Signed, Vote, VoteOn, VoteStep, WindowIndex, WindowRecord, payload,
};

use super::cut::CutError;
use super::difference::RecordField;
use super::judge::JudgingError;
use super::score::ScoreError;
use crate::entry::{Entry, RevealEntry};
use crate::stake;

/// Why a record is not the one of the open window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvanceError {
    /// The inboxes make no cut.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// The cut or record has another id than it is said to have.
    #[error("{0} does not have the id it is said to have")]
    Id(Kind),
    /// The cut is not what its inboxes give.
    #[error("cut {0} is not what its inboxes give")]
    CutDiffers(CutId),
    /// The record is of another cut.
    #[error("record is of another cut than {0}")]
    OtherCut(CutId),
    /// A contribution or registration is not signed by the node key that may.
    #[error("{kind} of {owner} is not signed by its node key")]
    Signer {
        /// What.
        kind: Kind,
        /// Whose.
        owner: String,
    },
    /// Contributions, registrations or reveals do not fit.
    #[error(transparent)]
    Judging(#[from] JudgingError),
    /// A score does not recompute.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// Two scores of one validator.
    #[error("two scores of validator {0}")]
    TwoScores(String),
    /// Scores of two thirds of the stake or less.
    #[error("scores of {stake} of the stake of {total}, more than two thirds are needed")]
    NoQuorum {
        /// Their stake.
        stake: u64,
        /// The stake of all.
        total: u64,
    },
    /// The first field of the record that is not what its parts give.
    #[error("record does not recompute: {0} differs")]
    Differs(RecordField),
    /// Signatures of two thirds of the stake or less, or one that does not verify.
    #[error("{0} is not certified by more than two thirds of the stake")]
    NotCertified(Kind),
}

/// What makes a cut or record final: votes of more than two thirds of the stake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteCertificate {
    /// The attempt in which it was agreed on. Nothing follows from it.
    pub attempt: u32,
    /// A validator that signed the cut or record itself, so that it could travel.
    pub publisher: Witness,
    /// The signatures under the precommit for it, by signer.
    pub witnesses: Vec<Witness>,
}

impl VoteCertificate {
    /// The payload that the witnesses have signed.
    pub fn vote<T: Payload>(&self, run: RunId, window: WindowIndex, on: VoteOn, body: &T) -> Vote {
        let value = Some(payload::id_of(body));
        Vote { run, window, on, attempt: self.attempt, step: VoteStep::Precommit, value }
    }

    /// Verifies that the publisher signed `body`, that the witnesses signed `vote`, which is for it, and that
    /// they are enough.
    fn check<T: Payload>(&self, genesis: &Genesis, vote: &Vote, body: &T) -> Result<(), AdvanceError> {
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

/// One signature beside a payload that is kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Who signed.
    pub signer: PublicKey,
    /// The signature.
    pub signature: Signature,
}

/// A window that is closed, with everything that its record names.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedWindow {
    /// The record's id.
    pub record: RecordId,
    /// The record.
    pub window: WindowRecord,
    /// The cut.
    pub cut: Cut,
    /// The inboxes that the cut names, in its order.
    pub inboxes: Vec<Signed<Inbox>>,
    /// The contributions that the cut names, in its order.
    pub contributions: Vec<Signed<Contribution>>,
    /// The registrations that the cut names, in its order.
    pub registrations: Vec<Signed<Registration>>,
    /// The scores that the record names, in its order.
    pub scores: Vec<Signed<Score>>,
    /// What certifies the cut.
    pub cut_certificate: VoteCertificate,
    /// What certifies the record.
    pub record_certificate: VoteCertificate,
}

impl ClosedWindow {
    /// Verifies the signatures under cut and record.
    pub fn check_certificates(&self, genesis: &Genesis) -> Result<(), AdvanceError> {
        let (run, window) = (self.window.run, self.window.window);
        let vote = self.cut_certificate.vote(run, window, VoteOn::Cut, &self.cut);
        self.cut_certificate.check(genesis, &vote, &self.cut)?;
        let vote = self.record_certificate.vote(run, window, VoteOn::Window, &self.window);
        self.record_certificate.check(genesis, &vote, &self.window)
    }

    /// The entries that close this window in any node that has the window before, in an order in which each can be
    /// checked when it comes.
    pub fn entries(&self) -> Vec<Entry> {
        let (run, window) = (self.window.run, self.window.window);
        let reveals =
            self.window.reveals.iter().map(|reveal| {
                Entry::Reveal(RevealEntry { run, window, validator: reveal.validator, value: reveal.value })
            });
        let mut entries: Vec<Entry> = Vec::new();
        entries.extend(self.contributions.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(self.registrations.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(self.inboxes.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(witnessed(&self.cut, &[self.cut_certificate.publisher]));
        let vote = self.cut_certificate.vote(run, window, VoteOn::Cut, &self.cut);
        entries.extend(witnessed(&vote, &self.cut_certificate.witnesses));
        entries.extend(reveals);
        entries.extend(self.scores.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(witnessed(&self.window, &[self.record_certificate.publisher]));
        let vote = self.record_certificate.vote(run, window, VoteOn::Window, &self.window);
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
