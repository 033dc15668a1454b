//! The reasons for which a node refuses an input.

use templar_manifest::{EnvelopeError, Kind, WindowIndex};

use crate::run::evidence::EvidenceError;
use crate::run::{AdvanceError, CutError, JudgingError, RegistrationError, ScoreError};

/// The reasons for which a node refuses an input. The node has not changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The payload does not decode or the signature does not verify.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The body of a record is not the one that its header names.
    #[error("record by {0} has another body than its header names")]
    OtherBody(String),
    /// The manifest is of a kind that is not exchanged as an entry.
    #[error("a manifest of the kind {0} is not an entry")]
    Kind(Kind),
    /// The entry belongs to another run.
    #[error("entry is of another run")]
    OtherRun,
    /// The run is over, so no entry counts any more.
    #[error("the run is over")]
    Over,
    /// The window of the entry is not open yet. The entry may be offered again when it is.
    #[error("entry is of window {window}, window {open} is open")]
    Early {
        /// The window of the entry.
        window: WindowIndex,
        /// The window that is open.
        open: WindowIndex,
    },
    /// The miner or signer is not registered.
    #[error("{0} is not registered")]
    NotRegistered(String),
    /// The signer is not a validator of the run.
    #[error("{0} is not a validator")]
    NotAValidator(String),
    /// A list is longer than any honest one could be.
    #[error("{0} lists more than there are miners or validators")]
    Oversized(&'static str),
    /// The signer has made more different statements of one kind than are kept; two prove an equivocation. The
    /// refusal is not final: an entry that others build on is taken in once they have said so.
    #[error("{signer} has made too many different statements of the kind {kind} in one window")]
    TooMany {
        /// The kind of the manifest.
        kind: &'static str,
        /// The signer, in short.
        signer: String,
    },
    /// The evidence proves nothing, or its signer would not pay for it any more.
    #[error("evidence proves nothing")]
    Evidence(#[source] EvidenceError),
    /// Evidence against this signer and window is here already, or there is no room for more.
    #[error("evidence against {0} is here")]
    Shown(String),
    /// The contribution came after the cut was certified without it.
    #[error("contribution of {0} is not in the certified cut")]
    NotInCut(String),
    /// The registration is not valid.
    #[error(transparent)]
    Registration(RegistrationError),
    /// The contribution makes a claim that does not fit the miner's record. The text names the field.
    #[error("contribution makes a wrong claim: {0}")]
    Claim(&'static str),
    /// The inbox or cut breaks a rule.
    #[error(transparent)]
    Cut(CutError),
    /// The cut is not the one that follows from its inboxes.
    #[error("cut is not what its inboxes give")]
    CutDiffers,
    /// The value is not on the validator's hash chain.
    #[error("value of validator {0} is not on its hash chain")]
    Reveal(String),
    /// The value came after the validators had agreed on the set that counts, and is not in it.
    #[error("value of validator {0} came after the agreed set of values")]
    AfterSet(String),
    /// The reveal set, score or record names another cut than the certified one.
    #[error("{0} is of another cut than the certified one")]
    OtherCut(&'static str),
    /// The score does not recompute from its entries.
    #[error(transparent)]
    Score(ScoreError),
    /// The reveals or contributions of the record do not fit.
    #[error(transparent)]
    Judging(JudgingError),
    /// The record does not recompute from its parts.
    #[error(transparent)]
    Record(AdvanceError),
    /// The cut, reveal set or record is wrong, and no vote names it. A node that has taken it in may not have been able
    /// to tell.
    #[error(transparent)]
    Wrong(Box<Reject>),
    /// The result was not asked for.
    #[error("measurement is not wanted: {0}")]
    Measurement(&'static str),
}
