//! The errors of the network: one enum for each operation, and the answers of providers to a fetch.

use std::fmt;
use std::net::SocketAddr;

use templar_manifest::Hash;

use crate::foreign::ForeignText;
use crate::peers::peer::{PeerId, short};

/// The reason why a node's endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot listen on {addr}: {reason}")]
    Addr {
        /// The address asked for.
        addr: SocketAddr,
        /// The operating system's reason.
        reason: String,
    },
    /// Discovery in the local network is configured, but this program was built without it.
    #[error("this program was built without the feature lan, so it cannot be found in the local network")]
    NoLan,
    /// Discovery in the local network is configured, but the address is reachable from this machine only.
    #[error("cannot be found in the local network while listening on {addr}, which this machine alone reaches")]
    Lan {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The operating system does not let the node announce itself.
    #[error("cannot announce this node in the local network: {reason}")]
    Multicast {
        /// The reason for the failure.
        reason: String,
    },
    /// A limit is out of the range that QUIC allows.
    #[error("the limit {name} is out of range")]
    Limit {
        /// The limit's name in [`NetLimits`](crate::NetLimits) or one of its groups.
        name: &'static str,
    },
}

/// The reason why one provider did not deliver a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderAnswer {
    /// No address of it is known, or it did not answer there.
    Unreachable(ForeignText),
    /// Its policy does not let it serve this blob to us, at least not yet.
    Refused,
    /// It serves as many requests as it may.
    Busy,
    /// It does not have the blob, or found its own copy to be corrupt.
    NotHere,
    /// It stopped in the middle, because its copy is damaged or incomplete. The received bytes are kept.
    Aborted {
        /// The bytes that arrived and were verified.
        received: u64,
    },
    /// It has only a part of the blob, which came as far as it was missing here.
    OnlyPart {
        /// The bytes that arrived and were verified.
        received: u64,
    },
    /// It sent bytes that do not match the blob's hash.
    BadData(ForeignText),
    /// It made no progress for the stall timeout.
    Stalled,
    /// It claims that the blob is larger than allowed, and cannot prove it.
    ClaimsTooLarge {
        /// The claimed length in bytes.
        size: u64,
    },
    /// The connection broke, for this reason.
    Lost(ForeignText),
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

/// The reason why a blob was not fetched. Verified parts of it are kept for the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No provider is known.
    #[error("blob {id} is not here and no peer is known")]
    NoPeers {
        /// The id of the blob.
        id: Hash,
    },
    /// Every known provider failed.
    #[error("nobody delivered blob {id}: {}", answers_text(answers))]
    NoProvider {
        /// The id of the blob.
        id: Hash,
        /// The answer of each provider, in the order in which they were asked.
        answers: Vec<(PeerId, ProviderAnswer)>,
    },
    /// The blob is larger than allowed. Its length has been verified.
    #[error("blob {id} has {size} bytes, more than the {max_bytes} allowed here")]
    TooLarge {
        /// The id of the blob.
        id: Hash,
        /// The blob's length in bytes.
        size: u64,
        /// The caller's limit in bytes.
        max_bytes: u64,
    },
    /// The blob should be a list of hashes, and is not.
    #[error("blob {id} is not a list of hashes")]
    NotAList {
        /// The id of the blob.
        id: Hash,
    },
    /// The local disk is full.
    #[error("no space left on the disk for blob {id}")]
    DiskFull {
        /// The id of the blob.
        id: Hash,
    },
    /// The local store failed.
    #[error("cannot store blob {id}: {reason}")]
    Store {
        /// The id of the blob.
        id: Hash,
        /// The reason that the store gives.
        reason: String,
    },
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}

impl FetchError {
    /// Whether some provider refused to serve the blob. It then exists, and may be served later.
    pub fn refused(&self) -> bool {
        match self {
            Self::NoProvider { answers, .. } => answers.iter().any(|(_, answer)| *answer == ProviderAnswer::Refused),
            _ => false,
        }
    }

    /// Whether some provider was busy, or the connection to it broke. It may still serve a process that was killed, so
    /// asking again soon can help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoProvider { answers, .. } => {
                answers.iter().any(|(_, answer)| matches!(answer, ProviderAnswer::Busy | ProviderAnswer::Lost(_)))
            }
            _ => false,
        }
    }
}

/// The first answers as text, the most telling ones first.
fn answers_text(answers: &[(PeerId, ProviderAnswer)]) -> String {
    const SHOWN: usize = 8;
    // The answer "does not have it" says least, so it comes last.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(answers: &[ProviderAnswer]) -> FetchError {
        let answers = answers.iter().zip(0..).map(|(answer, peer)| ([peer; 32], answer.clone())).collect();
        FetchError::NoProvider { id: Hash::default(), answers }
    }

    #[test]
    fn asking_again_helps_where_a_peer_was_busy_or_the_connection_broke() {
        let lost = ProviderAnswer::Lost(ForeignText::of("timed out"));
        assert!(nobody(&[ProviderAnswer::Busy]).may_pass());
        assert!(nobody(&[ProviderAnswer::NotHere, lost]).may_pass());
        let away = ProviderAnswer::Unreachable(ForeignText::of("no answer"));
        let wrong = ProviderAnswer::BadData(ForeignText::of("another hash"));
        assert!(!nobody(&[ProviderAnswer::Refused, ProviderAnswer::NotHere, away, wrong]).may_pass());
        assert!(!FetchError::NoPeers { id: Hash::default() }.may_pass());
    }
}
