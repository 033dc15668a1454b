//! The sync protocol on the wire: frames of a bounded length, each one postcard message.
//!
//! A connection has one stream. The side that dialled sends one [`Request`] and then only reads: [`Reply::Hello`] once,
//! then, if it asked for the log, entries as they come, [`Reply::CaughtUp`] whenever nothing more is waiting; or
//! [`Reply::Refused`].
//! Invariant: a length is checked before anything is allocated for it, and memory follows the bytes that arrive.

use bytes::Bytes;
use iroh::endpoint::{RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use templar_manifest::Hash;

use crate::peer::{Addr, PeerAddr};

/// The protocol's name in the handshake; it ends in its version.
pub const SYNC_ALPN: &[u8] = b"templar/sync/0";

/// The longest frame that carries a reply.
pub(crate) const MAX_REPLY: usize = templar_manifest::MAX_PAYLOAD_BYTES + 1024;

/// The longest frame that carries a request.
pub(crate) const MAX_REQUEST: usize = 4 << 10;

/// The longest log entry that can be sent, in bytes. A [`Log`](crate::Log) must not hold longer ones.
pub const MAX_ENTRY_BYTES: usize = MAX_REPLY - 64;

/// How many peers one [`Reply::Hello`] may name.
pub(crate) const MAX_PEERS_SENT: usize = 64;

/// How many milestones one [`Ask::Log`] may name: enough for 2^24 of them, ever sparser.
pub(crate) const MAX_MILESTONES: usize = 32;

/// Where a reader stands in another node's log. The hash tells whether that log is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The last entry taken.
    pub(crate) seq: u64,
    /// The BLAKE3 hash of that entry.
    pub(crate) entry: Hash,
}

/// The only message of the side that dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The run that it is about.
    pub(crate) run: Hash,
    /// What is wanted.
    pub(crate) ask: Ask,
}

/// What the asking side wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A [`Reply::Hello`] and nothing else; the asking side is not remembered.
    Hello,
    /// The log, for as long as the stream lives.
    Log {
        /// Where the asking side stopped in this very log, if it ever read it.
        after: Option<Cursor>,
        /// Milestones that it has reached, newest first: what lies before any of them it does not need.
        reached: Vec<Hash>,
        /// Where the asking side listens.
        addrs: Vec<Addr>,
    },
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// This node takes part in another run.
    WrongRun {
        /// The run it takes part in.
        run: Hash,
    },
    /// As many nodes read its log as may; the asking side should follow others.
    Busy,
}

/// The messages of the side that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply<'a> {
    Refused(Refusal),
    /// The first answer.
    Hello {
        /// The sender's clock: milliseconds since 1970, UTC; 0 if it has none.
        unix_ms: u64,
        /// Other peers that the sender has met.
        peers: Vec<PeerAddr>,
    },
    /// One entry of the log, in the sender's order.
    Entry {
        seq: u64,
        #[serde(borrow, with = "serde_bytes")]
        bytes: &'a [u8],
    },
    /// Everything up to now has been sent.
    CaughtUp,
}

/// A frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the stream ended")]
    Ended,
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("a frame of {len} bytes, more than {max}")]
    TooLong { len: usize, max: usize },
    #[error("a message that does not parse")]
    Garbage,
}

impl WireError {
    /// Whether the peer broke the protocol, as opposed to going away.
    pub(crate) fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Garbage)
    }
}

/// Encodes a message with its length in front.
pub(crate) fn encode<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; 4];
    frame = postcard::to_extend(message, frame).map_err(|_| WireError::Garbage)?;
    let len = frame.len() - 4;
    match u32::try_from(len) {
        Ok(prefix) if len <= max => frame[..4].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(WireError::TooLong { len, max }),
    }
    Ok(frame)
}

/// Decodes a whole frame's message; trailing bytes are garbage.
pub(crate) fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        _ => Err(WireError::Garbage),
    }
}

/// Writes one message.
pub(crate) async fn write<T: Serialize>(stream: &mut SendStream, message: &T, max: usize) -> Result<(), WireError> {
    let frame = encode(message, max)?;
    stream.write_all(&frame).await.map_err(|error| WireError::Lost(error.to_string()))
}

/// Reads the length in front of a frame.
pub(crate) async fn read_len(stream: &mut RecvStream, max: usize) -> Result<usize, WireError> {
    use iroh::endpoint::ReadExactError;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(0) => WireError::Ended,
        other => WireError::Lost(other.to_string()),
    })?;
    let len = u32::from_le_bytes(prefix) as usize;
    if len > max { Err(WireError::TooLong { len, max }) } else { Ok(len) }
}

/// Reads a frame's `len` bytes, which [`read_len`] has bounded.
pub(crate) async fn read_body(stream: &mut RecvStream, len: usize) -> Result<Bytes, WireError> {
    const STEP: usize = 64 << 10;
    let mut body = Vec::with_capacity(len.min(STEP));
    while body.len() < len {
        let start = body.len();
        body.resize(len.min(start + STEP), 0);
        stream.read_exact(&mut body[start..]).await.map_err(|error| WireError::Lost(error.to_string()))?;
    }
    Ok(body.into())
}
