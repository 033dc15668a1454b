//! What can go wrong on the network: one enum per operation, and what each provider answered to a fetch.

use std::fmt;
use std::net::SocketAddr;

use templar_manifest::Hash;
use templar_store::ListError;

use crate::peer::{PeerId, short};
use crate::swarm::plan::Failure;

/// The node's socket or endpoint did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {reason}")]
    Addr {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// This program does not have it.
    #[error("this program was built without the feature lan, so it cannot be found in the local network")]
    NoLan,
    /// Nobody in the local network reaches a node that listens for this machine only.
    #[error("cannot be found in the local network while listening on {addr}, which this machine alone reaches")]
    Lan {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The system does not let the node announce itself.
    #[error("cannot announce this node in the local network: {reason}")]
    Multicast {
        /// What went wrong.
        reason: String,
    },
    /// A limit is out of the range that QUIC allows.
    #[error("the limit {name} is out of range")]
    Limit {
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
    },
}

/// Why one provider did not deliver a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderAnswer {
    /// No address is known, or nobody answered at it.
    Unreachable(String),
    /// It may not serve this blob to us (yet).
    Refused,
    /// It has too much to do.
    Busy,
    /// It does not have the blob, or noticed that its own copy is corrupt.
    NotHere,
    /// It stopped after so many bytes, which are kept: its copy is damaged or incomplete.
    Aborted {
        /// Bytes that arrived and verified.
        received: u64,
    },
    /// It has a part of it only, of which so much came.
    OnlyPart {
        /// Bytes that arrived and verified.
        received: u64,
    },
    /// It sent bytes that are not the blob's.
    BadData(String),
    /// It made no progress for too long.
    Stalled,
    /// It says that the blob is larger than allowed, and cannot prove it.
    ClaimsTooLarge {
        /// The length it claims, in bytes.
        size: u64,
    },
    /// The connection broke.
    Lost(String),
}

impl fmt::Display for ProviderAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(f, "unreachable ({reason})"),
            Self::Refused => f.write_str("refused"),
            Self::Busy => f.write_str("busy"),
            Self::NotHere => f.write_str("does not have it"),
            Self::Aborted { received } => write!(f, "gave up after {received} bytes"),
            Self::OnlyPart { received } => write!(f, "has only a part, gave {received} bytes"),
            Self::BadData(reason) => write!(f, "sent wrong bytes ({reason})"),
            Self::Stalled => f.write_str("made no progress"),
            Self::ClaimsTooLarge { size } => write!(f, "claims a length of {size} bytes"),
            Self::Lost(reason) => write!(f, "connection lost ({reason})"),
        }
    }
}

/// A blob was not fetched. What arrived of it and verified is kept for the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No provider is known.
    #[error("blob {id} is not here and no peer is known")]
    NoPeers {
        /// The blob.
        id: Hash,
    },
    /// Every provider that is known failed.
    #[error("nobody delivered blob {id}: {}", answers_text(answers))]
    NoProvider {
        /// The blob.
        id: Hash,
        /// What each of them answered, in the order in which they were asked.
        answers: Vec<(PeerId, ProviderAnswer)>,
    },
    /// The blob is larger than allowed: verified, not only claimed.
    #[error("blob {id} has {size} bytes, more than the {max_bytes} allowed here")]
    TooLarge {
        /// The blob.
        id: Hash,
        /// Its length in bytes.
        size: u64,
        /// The caller's limit in bytes.
        max_bytes: u64,
    },
    /// The blob that should list others by their hashes is not such a list.
    #[error("blob {id} is not a list of hashes")]
    NotAList {
        /// The blob.
        id: Hash,
    },
    /// The local disk is full.
    #[error("no space left on the disk for blob {id}")]
    DiskFull {
        /// The blob.
        id: Hash,
    },
    /// The local store failed.
    #[error("cannot store blob {id}: {reason}")]
    Store {
        /// The blob.
        id: Hash,
        /// What the store said.
        reason: String,
    },
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}

impl FetchError {
    /// Whether some provider refused: the blob exists and may be served later.
    pub fn refused(&self) -> bool {
        match self {
            Self::NoProvider { answers, .. } => answers.iter().any(|(_, answer)| *answer == ProviderAnswer::Refused),
            _ => false,
        }
    }

    pub(crate) fn list(id: &Hash, error: &ListError) -> Self {
        Self::Store { id: *id, reason: error.to_string() }
    }

    pub(crate) fn of(id: &Hash, failure: Failure, max_bytes: u64) -> Self {
        match failure {
            Failure::NoProvider(answers) if answers.is_empty() => Self::NoPeers { id: *id },
            Failure::NoProvider(answers) => Self::NoProvider { id: *id, answers },
            Failure::TooLarge { size } => Self::TooLarge { id: *id, size, max_bytes },
            Failure::DiskFull => Self::DiskFull { id: *id },
            Failure::Store(reason) => Self::Store { id: *id, reason },
            Failure::Closed => Self::Closed,
        }
    }
}

fn answers_text(answers: &[(PeerId, ProviderAnswer)]) -> String {
    const SHOWN: usize = 8;
    // Who does not have it says least.
    let (absent, telling): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(_, answer)| *answer == ProviderAnswer::NotHere);
    let mut text: Vec<String> = telling
        .into_iter()
        .chain(absent)
        .take(SHOWN)
        .map(|(peer, answer)| format!("{} {answer}", short(peer)))
        .collect();
    if answers.len() > SHOWN {
        text.push(format!("and {} more", answers.len() - SHOWN));
    }
    text.join(", ")
}
