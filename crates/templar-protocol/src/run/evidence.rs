//! Evidence: proof that a signer contradicted itself, checked from bytes alone.
//!
//! Evidence is two signed statements where the protocol allows one, for example two contributions of one miner
//! in one window. A validator shows in its score the evidence that it found or that somebody handed in
//! ([`EvidenceEntry`](crate::EvidenceEntry)). Nobody has to believe the validator, since the signatures prove
//! it. The record of that window slashes the signer's unvested pay. It does so once for each window in which
//! the signer contradicted itself, and only while pay of that window has not vested.

use templar_manifest::{
    Contradiction, Contribution, Envelope, EnvelopeError, Hash, Inbox, Kind, Payload, PublicKey, RunId, Score, Vote,
    VoteOn, VoteStep, WindowIndex, payload,
};

/// The reasons for which two statements are no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// A statement does not decode, its signature does not verify, or it names another key than its signer.
    #[error("evidence against {signer} is not signed: {source}")]
    Envelope {
        /// The accused key, in short.
        signer: String,
        /// The reason for which the statement does not open.
        #[source]
        source: EnvelopeError,
    },
    /// The statements are of a kind of which a signer may publish several, or that is not exchanged in a
    /// window.
    #[error("two manifests of the kind {0} contradict nothing")]
    Kind(Kind),
    /// The two statements are of different kinds, or of another signer, run or window than the evidence names.
    #[error("evidence against {signer}: the statements are of another {what}")]
    Other {
        /// The accused key, in short.
        signer: String,
        /// `kind`, `signer`, `run`, `window` or `step`.
        what: &'static str,
    },
    /// The two statements are the same, or the one with the higher id comes first.
    #[error("evidence against {0}: the statements are one and the same, or out of order")]
    Same(String),
    /// The window is not open yet, or its pay has vested.
    #[error("evidence against {signer} is of window {window}, which is too late or too early")]
    Window {
        /// The accused key, in short.
        signer: String,
        /// The window of the statements.
        window: WindowIndex,
    },
    /// A record has slashed the signer for that window already.
    #[error("{0} has paid for what it said in this window")]
    Paid(String),
    /// The signer has no part in the run.
    #[error("{0} has no part in the run")]
    Stranger(String),
}

/// The scope of a statement: within one scope of a window its signer may make one statement.
#[derive(PartialEq)]
enum StatementScope {
    Whole,
    /// One step of one attempt, for a vote. In another one a validator may vote for something else.
    Step(VoteOn, u32, VoteStep),
}

/// The parts of a statement that are compared.
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
        Kind::Score => open(envelope, |said: &Score| (said.run, said.window, StatementScope::Whole)),
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

/// Checks that the two statements contradict each other and are of this run.
///
/// # Errors
/// [`EvidenceError`]
pub fn check(run: &RunId, evidence: &Contradiction) -> Result<(), EvidenceError> {
    let first = statement(&evidence.signer, &evidence.first)?;
    let second = statement(&evidence.signer, &evidence.second)?;
    let signer = evidence.signer.short();
    for (what, equal) in [
        ("kind", first.kind == second.kind),
        ("run", first.run == *run && second.run == *run),
        ("window", first.window == evidence.window && second.window == evidence.window),
        ("step", first.part == second.part),
    ] {
        if !equal {
            return Err(EvidenceError::Other { signer, what });
        }
    }
    if first.id >= second.id { Err(EvidenceError::Same(signer)) } else { Ok(()) }
}

/// Makes evidence of two statements of a run, in either order. Anybody who holds both may hand it in.
///
/// # Errors
/// [`EvidenceError`], if they prove nothing.
pub fn of_two(run: &RunId, one: Envelope, other: Envelope) -> Result<Contradiction, EvidenceError> {
    let window = statement(&one.signer, &one)?.window;
    let evidence = of(window, one, other);
    check(run, &evidence).map(|()| evidence)
}

/// The evidence of two statements, with the lower id first. It is not checked.
pub(crate) fn of(window: WindowIndex, one: Envelope, other: Envelope) -> Contradiction {
    let signer = one.signer;
    let (first, second) = if one.id() < other.id() { (one, other) } else { (other, one) };
    Contradiction { signer, window, first, second }
}
