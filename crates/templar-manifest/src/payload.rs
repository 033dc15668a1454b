//! Canonical encoding of payloads: DAG-CBOR, decoded strictly.
//!
//! A payload is the map `{"body": …, "kind": "…", "version": n}`. One value has one spelling: decoding
//! re-encodes and compares, so unknown fields, other key orders, long integers, tags and trailing bytes are all
//! refused. The payload's BLAKE3 hash is its id.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::id::{Hash, RunId};

/// The length limit of every payload in bytes. A peer that announces more is refused before anything is allocated.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// The kinds of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash)]
pub enum Kind {
    /// The whole configuration of a run.
    Genesis,
    /// Tokenised shards with their source and licence.
    Dataset,
    /// A miner's commitment to one delta for one window.
    Contribution,
    /// A request for a slot in a run, or for another node key.
    Registration,
    /// The contributions that one validator had received at its deadline.
    Inbox,
    /// The contributions and registrations of a window that count.
    Cut,
    /// The hash-chain values of a window that count.
    Reveals,
    /// One validator's judgement of a window.
    Score,
    /// The header of the record that closes a window.
    Window,
    /// The body of that record.
    Body,
    /// A validator's vote on a cut, a set of values, or a record.
    Vote,
    /// The model between two windows.
    Checkpoint,
    /// A miner's optimiser moments and error feedback between two windows.
    State,
    /// One auditor's recomputation of a window.
    Audit,
}

impl Kind {
    /// All kinds, in the order of the way of the data.
    pub const ALL: [Self; 14] = [
        Self::Genesis,
        Self::Dataset,
        Self::Contribution,
        Self::Registration,
        Self::Inbox,
        Self::Cut,
        Self::Reveals,
        Self::Score,
        Self::Window,
        Self::Body,
        Self::Vote,
        Self::Checkpoint,
        Self::State,
        Self::Audit,
    ];

    /// The name in the `kind` field of the payload.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Genesis => "genesis",
            Self::Dataset => "dataset",
            Self::Contribution => "contribution",
            Self::Registration => "registration",
            Self::Inbox => "inbox",
            Self::Cut => "cut",
            Self::Reveals => "reveals",
            Self::Score => "score",
            Self::Window => "window",
            Self::Body => "body",
            Self::Vote => "vote",
            Self::Checkpoint => "checkpoint",
            Self::State => "state",
            Self::Audit => "audit",
        }
    }

    /// The kind with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The reasons for which bytes are not the payload that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The bytes are more than [`MAX_PAYLOAD_BYTES`].
    #[error("payload of {0} bytes is longer than the {MAX_PAYLOAD_BYTES} that any manifest may have")]
    TooLong(usize),
    /// Not DAG-CBOR, or not the fields of the kind.
    #[error("payload does not decode: {0}")]
    Malformed(String),
    /// Decodes, but is not the one spelling of its value.
    #[error("payload is not canonical: the same value is spelled differently")]
    NotCanonical,
    /// The payload is of a kind that this version does not know.
    #[error("unknown kind of manifest {0:?}")]
    UnknownKind(String),
    /// The payload is of another kind than the one wanted.
    #[error("manifest is of the kind {found}, not {expected}")]
    WrongKind {
        /// The kind that was wanted.
        expected: Kind,
        /// The kind of the payload.
        found: Kind,
    },
    /// The payload has a layout that this version does not know.
    #[error("{kind} manifest of version {found}, this program reads version {expected}")]
    WrongVersion {
        /// The kind of the payload.
        kind: Kind,
        /// The version that this program reads.
        expected: u64,
        /// The version of the payload.
        found: u64,
    },
    /// The fields are spelled right and break a rule of their kind.
    #[error("{kind} manifest breaks a rule: {rule}")]
    Rule {
        /// The kind of the payload.
        kind: Kind,
        /// The rule that is broken, in words.
        rule: String,
    },
}

/// A value that can be the body of a manifest.
pub trait Payload: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug {
    /// The kind of this payload.
    const KIND: Kind;
    /// The version of its layout; 0 until the first release freezes the formats.
    const VERSION: u64 = 0;

    /// The run it belongs to, or `None` for what belongs to no run (a dataset) or is the run (a genesis).
    fn run(&self) -> Option<RunId>;

    /// Checks what the types do not: order, uniqueness, ranges. Returns the broken rule.
    fn check(&self) -> Result<(), String>;
}

#[derive(Serialize)]
struct FramedRef<'a, T> {
    body: &'a T,
    kind: &'a str,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Framed<T> {
    body: T,
    #[allow(dead_code, reason = "checked when the document was peeked at")]
    kind: String,
    #[allow(dead_code, reason = "checked when the document was peeked at")]
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peek {
    #[allow(dead_code, reason = "named so that other fields are refused")]
    body: IgnoredAny,
    kind: String,
    version: u64,
}

/// The canonical bytes of `payload`.
///
/// # Panics
/// Never for the kinds of this crate: their encoding into memory cannot fail.
pub fn encode<T: Payload>(payload: &T) -> Vec<u8> {
    let document = FramedRef { body: payload, kind: T::KIND.name(), version: T::VERSION };
    serde_ipld_dagcbor::to_vec(&document).expect("encoding a manifest into memory cannot fail")
}

/// The id of `payload`: the BLAKE3 hash of its canonical bytes.
pub fn id_of<T: Payload>(payload: &T) -> Hash {
    Hash::of(&encode(payload))
}

/// Says in words what the CBOR decoder found, since its own messages are names of its types.
fn malformed<E: std::fmt::Debug>(error: &serde_ipld_dagcbor::DecodeError<E>) -> PayloadError {
    use serde_ipld_dagcbor::DecodeError as Found;
    PayloadError::Malformed(match error {
        Found::Msg(said) => said.clone(),
        Found::Eof { .. } | Found::Read(_) => "it ends too early".to_owned(),
        Found::Mismatch { found, .. } | Found::Unsupported { found, .. } => {
            format!("a value is of another type than its field: head byte 0x{found:02x}")
        }
        Found::RequireUtf8 { .. } => "a text is not UTF-8".to_owned(),
        Found::DepthOverflow { .. } => "it is nested too deep".to_owned(),
        Found::TrailingData => "bytes follow its end".to_owned(),
        Found::IndefiniteSize => "a length is left open".to_owned(),
        Found::NonMinimal { .. } => "a number is longer than it must be".to_owned(),
        Found::UnorderedKey => "fields are out of order or repeated".to_owned(),
        Found::RequireLength { .. } | Found::LengthMismatch { .. } => "a list or map has another length".to_owned(),
        Found::RequireBorrowed { .. }
        | Found::LengthOverflow { .. }
        | Found::CastOverflow { .. }
        | Found::ArithmeticOverflow { .. } => "a number or length is out of range".to_owned(),
    })
}

/// The kind and version that `bytes` claim to be. The body is skipped.
pub fn peek(bytes: &[u8]) -> Result<(Kind, u64), PayloadError> {
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(PayloadError::TooLong(bytes.len()));
    }
    let peek: Peek = serde_ipld_dagcbor::from_slice(bytes).map_err(|error| malformed(&error))?;
    let kind = Kind::from_name(&peek.kind).ok_or(PayloadError::UnknownKind(peek.kind))?;
    Ok((kind, peek.version))
}

/// Decodes `bytes` as a payload of type `T` and checks the rules of its kind. Any other spelling of the same
/// value is refused.
///
/// # Errors
/// [`PayloadError`]
pub fn decode<T: Payload>(bytes: &[u8]) -> Result<T, PayloadError> {
    let (found, version) = peek(bytes)?;
    if found != T::KIND {
        return Err(PayloadError::WrongKind { expected: T::KIND, found });
    }
    if version != T::VERSION {
        return Err(PayloadError::WrongVersion { kind: found, expected: T::VERSION, found: version });
    }
    let document: Framed<T> = serde_ipld_dagcbor::from_slice(bytes).map_err(|error| malformed(&error))?;
    if encode(&document.body) != bytes {
        return Err(PayloadError::NotCanonical);
    }
    document.body.check().map_err(|rule| PayloadError::Rule { kind: T::KIND, rule })?;
    Ok(document.body)
}
