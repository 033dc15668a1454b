//! The messages of the sync protocol. Each travels as one frame of [`crate::frame`].
//!
//! A connection has one stream. The side that dialled sends one [`SyncRequest`] and then only reads. It gets
//! one [`SyncReply::Hello`] and, if it asked for the log, entries as they come, with a [`SyncReply::CaughtUp`]
//! whenever no more are waiting. A request that cannot be served ends in [`SyncReply::Refused`].

use serde::{Deserialize, Serialize};
use templar_manifest::Hash;

use crate::peers::peer::{Addr, PeerAddr};

/// The sync protocol's name in the TLS handshake. It ends in the version.
pub const SYNC_ALPN: &[u8] = b"templar/sync/0";

/// The longest frame that carries a reply, in bytes.
pub(crate) const MAX_REPLY: usize = templar_manifest::MAX_PAYLOAD_BYTES + 1024;

/// The longest frame that carries a request, in bytes.
pub(crate) const MAX_REQUEST: usize = 4 << 10;

/// The longest log entry that can be sent, in bytes. A [`Log`](crate::Log) must not hold longer ones.
pub const MAX_ENTRY_BYTES: usize = MAX_REPLY - 64;

/// The largest number of peers in one [`SyncReply::Hello`].
pub(crate) const MAX_PEERS_SENT: usize = 64;

/// The largest number of milestones in one [`Ask::Log`]. Their gaps grow, so 32 cover a history of 2^24
/// milestones.
pub(crate) const MAX_MILESTONES: usize = 32;

/// A reader's position in another node's log. The hash shows whether that log is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The number of the last entry taken.
    pub(crate) seq: u64,
    /// The BLAKE3 hash of that entry.
    pub(crate) entry: Hash,
}

/// The only message of the side that dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SyncRequest {
    /// The run that the request is about.
    pub(crate) run: Hash,
    /// The service that is asked for.
    pub(crate) ask: Ask,
}

/// The service that the asking side wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A [`SyncReply::Hello`] and nothing else. The asking side is not added to the address book.
    Hello,
    /// The log, for as long as the stream lives.
    Log {
        /// The reader's position in this log, if it has read it before.
        after: Option<Cursor>,
        /// The milestones that the reader has reached, newest first. It needs no entry from before any of them.
        reached: Vec<Hash>,
        /// The addresses at which the reader listens.
        addrs: Vec<Addr>,
    },
}

/// The reason why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SyncRefusal {
    /// This node takes part in another run.
    WrongRun {
        /// The run that it takes part in.
        run: Hash,
    },
    /// The log has as many readers as it may have. The asking side should read other logs.
    Busy,
}

/// A message of the side that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SyncReply<'a> {
    /// The request is not served; this is the last message.
    Refused(SyncRefusal),
    /// The greeting, which is the first message.
    Hello {
        /// The sender's clock in milliseconds since 1970, UTC, or 0 if it has none.
        unix_ms: u64,
        /// Other peers that the sender has met.
        peers: Vec<PeerAddr>,
    },
    /// One entry of the log, in the sender's order.
    Entry {
        /// The entry's number in the sender's log.
        seq: u64,
        /// The bytes of the entry.
        #[serde(borrow, with = "serde_bytes")]
        bytes: &'a [u8],
    },
    /// All entries of the log have been sent. More follow when the log grows.
    CaughtUp,
}
