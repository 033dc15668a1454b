//! Evidence: two statements of one signer that cannot both be meant, checked from their bytes alone.
//!
//! A validator shows in its score what it has caught, or what anybody has handed in
//! ([`EvidenceEntry`](crate::EvidenceEntry)); nobody has to believe it, since the signatures are there. The
//! record of that window slashes what the signer has not vested, once for each window in which it contradicted
//! itself, and only as long as pay of that window could still be slashed.

use templar_manifest::{
    Contradiction, Contribution, Envelope, EnvelopeError, Hash, Inbox, Kind, Payload, PublicKey, RunId, Score, Vote,
    VoteOn, VoteStep, WindowIndex, payload,
};

/// Why two statements are no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// One does not decode, its signature does not verify, or it is signed for somebody else.
    #[error("evidence against {signer} is not signed: {source}")]
    Envelope {
        /// Against whom.
        signer: String,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
    /// A kind of which a signer may say several things, or that is not exchanged in a window.
    #[error("two manifests of the kind {0} contradict nothing")]
    Kind(Kind),
    /// The two are of different kinds, or of another signer, run or window than the evidence says.
    #[error("evidence against {signer}: the statements are of another {what}")]
    Other {
        /// Against whom.
        signer: String,
        /// `kind`, `signer`, `run`, `window`, or `seed or step`.
        what: &'static str,
    },
    /// The two say the same, or the one with the higher id comes first.
    #[error("evidence against {0}: the statements are one and the same, or out of order")]
    Same(String),
    /// A window that is not open or closed yet, or whose pay has vested.
    #[error("evidence against {signer} is of window {window}, which is too late or too early")]
    Window {
        /// Against whom.
        signer: String,
        /// The window.
        window: WindowIndex,
    },
    /// A record has slashed its signer for it.
    #[error("{0} has paid for what it said in this window")]
    Paid(String),
    /// Somebody who has no part in the run.
    #[error("{0} has no part in the run")]
    Stranger(String),
}

/// What of a window a statement is about, of which its signer may say one thing.
#[derive(PartialEq)]
enum StatementScope {
    Whole,
    /// Of a score. Another seed is no contradiction: more validators had revealed.
    Seed(Hash),
    /// Of a vote. In another attempt or step a validator may vote for something else.
    Step(VoteOn, u32, VoteStep),
}

/// What is compared of a statement.
#[derive(PartialEq)]
struct SignedStatement {
    kind: Kind,
    run: RunId,
    window: WindowIndex,
    part: StatementScope,
    id: Hash,
}

fn open<T: Payload>(
    envelope: &Envelope,
    of: impl Fn(&T) -> (RunId, WindowIndex, StatementScope),
) -> Result<SignedStatement, EnvelopeError> {
    let signed = envelope.open::<T>()?;
    let (run, window, part) = of(signed.payload());
    Ok(SignedStatement { kind: T::KIND, run, window, part, id: signed.id() })
}

fn statement(signer: &PublicKey, envelope: &Envelope) -> Result<SignedStatement, EvidenceError> {
    let unsigned = |source: EnvelopeError| EvidenceError::Envelope { signer: signer.short(), source };
    let (kind, _) = payload::peek(&envelope.payload).map_err(|error| unsigned(error.into()))?;
    let opened = match kind {
        Kind::Contribution => open(envelope, |said: &Contribution| (said.run, said.window, StatementScope::Whole)),
        Kind::Inbox => open(envelope, |said: &Inbox| (said.run, said.window, StatementScope::Whole)),
        Kind::Score => open(envelope, |said: &Score| (said.run, said.window, StatementScope::Seed(said.seed))),
        Kind::Vote => open(envelope, |said: &Vote| {
            (said.run, said.window, StatementScope::Step(said.on, said.attempt, said.step))
        }),
        other => return Err(EvidenceError::Kind(other)),
    };
    if envelope.signer != *signer {
        return Err(EvidenceError::Other { signer: signer.short(), what: "signer" });
    }
    opened.map_err(unsigned)
}

/// Whether the two statements contradict each other, of a run.
pub fn check(run: &RunId, evidence: &Contradiction) -> Result<(), EvidenceError> {
    let first = statement(&evidence.signer, &evidence.first)?;
    let second = statement(&evidence.signer, &evidence.second)?;
    let signer = evidence.signer.short();
    for (what, equal) in [
        ("kind", first.kind == second.kind),
        ("run", first.run == *run && second.run == *run),
        ("window", first.window == evidence.window && second.window == evidence.window),
        ("seed or step", first.part == second.part),
    ] {
        if !equal {
            return Err(EvidenceError::Other { signer, what });
        }
    }
    if first.id >= second.id { Err(EvidenceError::Same(signer)) } else { Ok(()) }
}

/// The evidence that two statements of a run make, in either order: what anybody hands in who holds both.
///
/// # Errors
/// Why they are none.
pub fn of_two(run: &RunId, one: Envelope, other: Envelope) -> Result<Contradiction, EvidenceError> {
    let window = statement(&one.signer, &one)?.window;
    let evidence = of(window, one, other);
    check(run, &evidence).map(|()| evidence)
}

/// The evidence that two statements make, in its order.
pub(crate) fn of(window: WindowIndex, one: Envelope, other: Envelope) -> Contradiction {
    let signer = one.signer;
    let (first, second) = if one.id() < other.id() { (one, other) } else { (other, one) };
    Contradiction { signer, window, first, second }
}
