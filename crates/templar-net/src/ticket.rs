//! Tickets: one line of text with everything that is needed to join a run or to fetch a blob.
//!
//! A run's ticket is `templar` followed by base32 of its bytes (the same form as iroh's own tickets); a blob's ticket is
//! iroh-blobs' and works with its other clients. Invariant: a text is bounded before it is decoded, and a ticket has
//! exactly one spelling.

use std::fmt;
use std::str::FromStr;

use iroh_tickets::{ParseError, Ticket as _};
use serde::{Deserialize, Serialize};
use templar_manifest::Hash;

use crate::peer::PeerAddr;

pub use iroh_blobs::ticket::BlobTicket;

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 8 << 10;

/// How many peers one ticket may name.
const MAX_PEERS: usize = 16;

/// An invitation to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The run.
    pub run: Hash,
    /// A recent window record of the run, which whoever hands out the ticket vouches for. Without one, a joiner
    /// verifies the validator sets from genesis on.
    pub record: Option<Hash>,
    /// Where to begin: peers that take part.
    pub peers: Vec<PeerAddr>,
}

/// A text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin like any ticket.
    #[error("not a ticket: it begins with neither `templar` nor `blob`")]
    Kind,
    /// It is longer than any ticket.
    #[error("not a ticket: {len} bytes of text, more than {MAX_TEXT}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The part after the prefix does not decode: a character is missing or wrong.
    #[error("a damaged ticket: {0}")]
    Damaged(String),
    /// A peer in it is of no use, or there are too many.
    #[error("a ticket with a bad peer: {0}")]
    Peer(String),
}

/// A variant from the beginning, so that another layout can be told apart.
#[derive(Serialize, Deserialize)]
enum Wire {
    V0 { run: Hash, record: Option<Hash>, peers: Vec<PeerAddr> },
}

impl iroh_tickets::Ticket for Ticket {
    const KIND: &'static str = "templar";

    fn encode_bytes(&self) -> Vec<u8> {
        let wire = Wire::V0 { run: self.run, record: self.record, peers: self.peers.clone() };
        // Writing these types into memory cannot fail.
        postcard::to_allocvec(&wire).unwrap_or_default()
    }

    fn decode_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let Wire::V0 { run, record, peers } = postcard::from_bytes(bytes)?;
        let ticket = Self { run, record, peers };
        // postcard accepts several spellings of one value, and bytes after the end.
        if ticket.encode_bytes() == bytes {
            Ok(ticket)
        } else {
            Err(ParseError::verification_failed("not in its only spelling"))
        }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode_string())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bounded(text)?;
        let mut ticket = Self::decode_string(text).map_err(damaged)?;
        if ticket.peers.len() > MAX_PEERS {
            return Err(TicketError::Peer(format!("{} peers, more than {MAX_PEERS}", ticket.peers.len())));
        }
        let peers: Result<Vec<PeerAddr>, _> = ticket.peers.into_iter().map(PeerAddr::checked).collect();
        ticket.peers = peers.map_err(|error| TicketError::Peer(error.to_string()))?;
        Ok(ticket)
    }
}

/// Either kind of ticket, told apart by how the text begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyTicket {
    /// An invitation to a run.
    Run(Ticket),
    /// A blob, or a list of blobs, and where to get it.
    Blob(BlobTicket),
}

impl FromStr for AnyTicket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        bounded(text)?;
        if text.starts_with(Ticket::KIND) {
            text.parse().map(Self::Run)
        } else if text.starts_with(BlobTicket::KIND) {
            let ticket = BlobTicket::decode_string(text).map_err(damaged)?;
            // As above; iroh's own decoder does not look at bytes after the end.
            if !ticket.encode_string().eq_ignore_ascii_case(text) {
                return Err(TicketError::Damaged("not in its only spelling".to_owned()));
            }
            Ok(Self::Blob(ticket))
        } else {
            Err(TicketError::Kind)
        }
    }
}

fn bounded(text: &str) -> Result<(), TicketError> {
    if text.len() > MAX_TEXT { Err(TicketError::TooLong { len: text.len() }) } else { Ok(()) }
}

fn damaged(error: ParseError) -> TicketError {
    match error {
        ParseError::Kind { .. } => TicketError::Kind,
        other => TicketError::Damaged(other.to_string()),
    }
}
