//! Why a node refuses an input.

use templar_manifest::{EnvelopeError, Kind, WindowIndex};

use crate::run::evidence::EvidenceError;
use crate::run::{AdvanceError, CutError, JudgingError, RegistrationError, ScoreError};

/// Why an input is refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The payload does not decode or the signature does not verify.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A kind of manifest that is not exchanged as an entry.
    #[error("a manifest of the kind {0} is not an entry")]
    Kind(Kind),
    /// Another run.
    #[error("entry is of another run")]
    OtherRun,
    /// The run is over.
    #[error("the run is over")]
    Over,
    /// A window that is not open yet: ask again when it is.
    #[error("entry is of window {window}, window {open} is open")]
    Early {
        /// The entry's window.
        window: WindowIndex,
        /// The open window.
        open: WindowIndex,
    },
    /// The miner is not registered.
    #[error("{0} is not registered")]
    NotRegistered(String),
    /// The signer is not a validator.
    #[error("{0} is not a validator")]
    NotAValidator(String),
    /// Lists that are longer than there are miners or validators to list.
    #[error("{0} lists more than there are miners or validators")]
    Oversized(&'static str),
    /// More different statements of one kind by one signer than are kept; two prove an equivocation. Not for
    /// ever: what others build on is taken when they have said so.
    #[error("{signer} has made too many different statements of the kind {kind} in one window")]
    TooMany {
        /// The kind.
        kind: &'static str,
        /// Who.
        signer: String,
    },
    /// Evidence that proves nothing, or that nobody would pay for any more.
    #[error("evidence proves nothing")]
    Evidence(#[source] EvidenceError),
    /// Evidence against this signer and window is here already, or there is no room for more.
    #[error("evidence against {0} is here")]
    Shown(String),
    /// A contribution that came after the cut was certified without it.
    #[error("contribution of {0} is not in the certified cut")]
    NotInCut(String),
    /// A registration is not valid.
    #[error(transparent)]
    Registration(RegistrationError),
    /// A contribution claims what it cannot.
    #[error("contribution makes a wrong claim: {0}")]
    Claim(&'static str),
    /// Inbox or cut break a rule.
    #[error(transparent)]
    Cut(CutError),
    /// The cut adds or drops a contribution, or names its inboxes in another order.
    #[error("cut is not what its inboxes give")]
    CutDiffers,
    /// The value is not on the validator's hash chain.
    #[error("value of validator {0} is not on its hash chain")]
    Reveal(String),
    /// A score or record is of a cut that is not the certified one.
    #[error("{0} is of another cut than the certified one")]
    OtherCut(&'static str),
    /// The score does not recompute.
    #[error(transparent)]
    Score(ScoreError),
    /// The record's reveals or contributions do not fit.
    #[error(transparent)]
    Judging(JudgingError),
    /// The record does not recompute.
    #[error(transparent)]
    Record(AdvanceError),
    /// A cut or record that is wrong, and that no vote names. Who took it in may not have been able to tell.
    #[error(transparent)]
    Wrong(Box<Reject>),
    /// A result that nobody asked for.
    #[error("measurement is not wanted: {0}")]
    Measurement(&'static str),
}
