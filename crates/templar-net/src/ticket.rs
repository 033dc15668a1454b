//! Tickets: one line of text that holds everything needed to join a run or to fetch a blob.
//!
//! A run's ticket is the word `templar` followed by the base32 of its bytes, which is the form of iroh's own
//! tickets. A blob's ticket is that of iroh-blobs, so other programs understand it. Invariant: the length of a
//! text is checked before it is decoded, and a ticket has exactly one spelling.

use std::fmt;
use std::str::FromStr;

use iroh_tickets::{ParseError, Ticket as _};
use serde::{Deserialize, Serialize};
use templar_manifest::Hash;

use crate::peers::peer::PeerAddr;

pub use iroh_blobs::ticket::BlobTicket;

/// The longest text that is decoded, in bytes.
const MAX_TEXT: usize = 8 << 10;

/// The largest number of peers in one ticket.
const MAX_PEERS: usize = 16;

/// An invitation to a run.
///
/// ```
/// use templar_manifest::Hash;
/// use templar_net::Ticket;
///
/// let ticket = Ticket { run: Hash::of(b"a run"), record: None, peers: Vec::new() };
/// let text = ticket.to_string();
/// assert!(text.starts_with("templar"));
/// assert_eq!(text.parse::<Ticket>()?, ticket);
/// # Ok::<(), templar_net::TicketError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The id of the run, which is the hash of its genesis.
    pub run: Hash,
    /// The id of a recent window record, for which the giver of the ticket vouches. Without one, a joiner
    /// verifies the validator sets from genesis on.
    pub record: Option<Hash>,
    /// Some peers of the run, with their addresses.
    pub peers: Vec<PeerAddr>,
}

/// The reason why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The text begins with neither kind of ticket's prefix.
    #[error("not a ticket: it begins with neither `templar` nor `blob`")]
    Kind,
    /// The text is longer than any ticket.
    #[error("not a ticket: {len} bytes of text, more than {MAX_TEXT}")]
    TooLong {
        /// The length of the text in bytes.
        len: usize,
    },
    /// The part after the prefix does not decode, because a character is missing or wrong.
    #[error("a damaged ticket: {0}")]
    Damaged(String),
    /// A peer in the ticket cannot be used, or there are too many peers.
    #[error("a ticket with a bad peer: {0}")]
    Peer(String),
}

/// The ticket's bytes. The variant's number comes first, so that a later layout can be told apart.
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
        // postcard accepts several spellings of a value, and bytes after its end. Only one spelling is a
        // ticket.
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

/// Either kind of ticket. The beginning of the text decides which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyTicket {
    /// An invitation to a run.
    Run(Ticket),
    /// A blob or a list of blobs, and a peer that has it.
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
            // A blob's ticket has one spelling, too. iroh's decoder ignores bytes after the end.
            if !ticket.encode_string().eq_ignore_ascii_case(text) {
                return Err(TicketError::Damaged("not in its only spelling".to_owned()));
            }
            Ok(Self::Blob(ticket))
        } else {
            Err(TicketError::Kind)
        }
    }
}

/// Checks the length of a text before it is decoded.
fn bounded(text: &str) -> Result<(), TicketError> {
    if text.len() > MAX_TEXT { Err(TicketError::TooLong { len: text.len() }) } else { Ok(()) }
}

fn damaged(error: ParseError) -> TicketError {
    match error {
        ParseError::Kind { .. } => TicketError::Kind,
        other => TicketError::Damaged(other.to_string()),
    }
}
