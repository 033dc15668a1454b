//! A lease: a piece of a blob that one peer has been asked for, and how far it has come.

use std::ops::Range;
use std::time::Duration;

use templar_manifest::Hash;

use crate::peers::peer::PeerId;

/// The time since the swarm began. The caller gives it, because the plan has no clock.
pub(crate) type Time = Duration;

/// The number of a lease, unique for as long as the swarm lives.
pub(crate) type LeaseId = u64;

/// The piece of a blob that one request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobPiece {
    /// All of a small blob, into memory.
    Whole,
    /// The last chunks of a blob, which prove its length.
    Proof {
        /// The first chunk that is asked for.
        start: u64,
    },
    /// Some chunks of a blob whose length is known.
    Range {
        /// The blob's length in bytes.
        size: u64,
        /// The chunks that have not come yet.
        left: Range<u64>,
    },
}

/// One request for a peer's task to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) lease: LeaseId,
    /// The blob to ask for.
    pub(crate) id: Hash,
    /// The largest length, in bytes, that the blob may turn out to have.
    pub(crate) max_bytes: u64,
    pub(crate) piece: BlobPiece,
}

/// A piece that is being fetched from one peer, its holder.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The number of the want that the piece belongs to.
    pub(super) want: u64,
    /// The peer that holds the lease.
    pub(super) peer: PeerId,
    pub(super) piece: BlobPiece,
    /// The time at which the piece was leased.
    pub(super) since: Time,
    /// The time at which bytes last came.
    pub(super) progressed: Time,
    /// The bytes that have come.
    pub(super) bytes: u64,
    /// Whether the lease was taken away. The holder has not stopped yet.
    pub(super) void: bool,
}
