//! Tickets: one line of text that holds everything needed to join a run or to fetch a blob.
//!
//! A run's ticket is the word `templar` followed by the base32 of its bytes, which is the form of iroh's own
//! tickets. A blob's ticket is that of iroh-blobs, so other programs understand it. The bytes of both end with a
//! checksum, so a wrong letter is noticed; other programs ignore it, and write tickets without one.
//!
//! A person copies tickets out of mails and chats. So blanks, line breaks, quotes and the full stop of a sentence are
//! dropped, and capital letters are taken. Invariant: the length of a text is checked before it is decoded, and apart
//! from that a ticket has exactly one spelling.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, DecodeKind};
use iroh_tickets::{ParseError, Ticket as _};
use serde::{Deserialize, Serialize};
use templar_manifest::Hash;

use crate::peers::peer::PeerAddr;

pub use iroh_blobs::ticket::BlobTicket;

/// The longest ticket that is decoded, in letters.
const MAX_TEXT: usize = 8 << 10;

/// The largest number of peers in one ticket.
const MAX_PEERS: usize = 16;

/// The length of the checksum at the end of a ticket's bytes.
const CHECKSUM_BYTES: usize = 4;

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
    /// The id of a recent window record, for which the giver of the ticket vouches. An audit by whoever takes the
    /// ticket asks whether the run leads to it.
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
    /// The ticket of a blob stands where the ticket of a run is needed.
    #[error("this is the ticket of a blob, not of a run")]
    OfABlob,
    /// The text is longer than any ticket.
    #[error("not a ticket: {len} bytes of text, more than {MAX_TEXT}")]
    TooLong {
        /// The length of the text in bytes.
        len: usize,
    },
    /// A letter that no ticket has.
    #[error("a damaged ticket: no ticket has the letter {letter:?}, which is its number {at}")]
    Letter {
        /// The wrong letter.
        letter: char,
        /// Its number in the ticket, from 1.
        at: usize,
    },
    /// The letters do not fit the checksum among them.
    #[error("a damaged ticket: at least one of its letters is wrong or missing, for its checksum does not fit")]
    Checksum,
    /// The checksum fits and the content does not: another version of the program made the ticket.
    #[error("a ticket that this program does not understand: {0}")]
    Content(String),
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
        with_checksum(postcard::to_allocvec(&wire).unwrap_or_default())
    }

    fn decode_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let content = without_checksum(bytes).ok_or_else(|| ParseError::verification_failed("checksum"))?;
        let Wire::V0 { run, record, peers } = postcard::from_bytes(content)?;
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
        let letters = cleaned(text)?;
        if letters.starts_with(BlobTicket::KIND) {
            return Err(TicketError::OfABlob);
        }
        run_ticket(&letters)
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
        let letters = cleaned(text)?;
        if letters.starts_with(Ticket::KIND) {
            run_ticket(&letters).map(Self::Run)
        } else {
            blob_ticket(&letters).map(Self::Blob)
        }
    }
}

/// A blob's ticket as text, with a checksum. Other programs of iroh-blobs read it, and ignore the checksum.
///
/// ```
/// use templar_net::{AnyTicket, blob_ticket_text};
/// # let key = iroh::SecretKey::from_bytes(&[7; 32]).public();
/// # let hash = iroh_blobs::Hash::new(b"a blob");
/// # let ticket = templar_net::BlobTicket::new(key.into(), hash, iroh_blobs::BlobFormat::Raw);
///
/// let text = blob_ticket_text(&ticket);
/// assert_eq!(text.parse::<AnyTicket>()?, AnyTicket::Blob(ticket.clone()));
/// // Other programs read it too.
/// assert_eq!(text.parse::<templar_net::BlobTicket>()?, ticket);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn blob_ticket_text(ticket: &BlobTicket) -> String {
    let bytes = with_checksum(ticket.encode_bytes());
    format!("{}{}", BlobTicket::KIND, BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// Decodes the letters of a run's ticket.
fn run_ticket(letters: &str) -> Result<Ticket, TicketError> {
    let bytes = bytes(letters, Ticket::KIND)?;
    if without_checksum(&bytes).is_none() {
        return Err(TicketError::Checksum);
    }
    let ticket = Ticket::decode_bytes(&bytes).map_err(|error| TicketError::Content(error.to_string()))?;
    if ticket.peers.len() > MAX_PEERS {
        return Err(TicketError::Peer(format!("{} peers, more than {MAX_PEERS}", ticket.peers.len())));
    }
    let peers: Result<Vec<PeerAddr>, _> = ticket.peers.into_iter().map(PeerAddr::checked).collect();
    Ok(Ticket { peers: peers.map_err(|error| TicketError::Peer(error.to_string()))?, ..ticket })
}

/// Decodes the letters of a blob's ticket. Only tickets of this program have a checksum.
fn blob_ticket(letters: &str) -> Result<BlobTicket, TicketError> {
    let bytes = bytes(letters, BlobTicket::KIND)?;
    let ticket = BlobTicket::decode_bytes(&bytes).map_err(|_| TicketError::Checksum)?;
    let content = ticket.encode_bytes();
    if bytes == content || bytes == with_checksum(content) { Ok(ticket) } else { Err(TicketError::Checksum) }
}

/// The bytes behind the prefix `kind`.
fn bytes(letters: &str, kind: &str) -> Result<Vec<u8>, TicketError> {
    let digits = letters.strip_prefix(kind).ok_or(TicketError::Kind)?;
    BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|error| match error.kind {
        DecodeKind::Symbol => {
            let wrong = digits.char_indices().enumerate().find(|(_, (at, _))| *at >= error.position);
            wrong.map_or(TicketError::Checksum, |(index, (_, letter))| TicketError::Letter {
                letter,
                at: kind.len() + index + 1,
            })
        }
        // A letter is missing, or the last one is wrong.
        _ => TicketError::Checksum,
    })
}

/// The letters of a ticket, in lower case and without what came along when a person copied it.
fn cleaned(text: &str) -> Result<String, TicketError> {
    let bounded = |len: usize, most| if len > most { Err(TicketError::TooLong { len }) } else { Ok(()) };
    // Blanks and the like count too, but a ticket that was cut into lines is hardly twice as long.
    bounded(text.len(), 2 * MAX_TEXT)?;
    let letters: String = text.chars().filter(|letter| !comes_along(*letter)).collect();
    let letters = letters.trim_matches(['(', ')', '[', ']', '.', ',', ';', ':', '!', '?']).to_ascii_lowercase();
    bounded(letters.len(), MAX_TEXT)?;
    Ok(letters)
}

/// Whether a letter of a pasted text belongs to its layout: blanks, quotes, and what cannot be seen.
fn comes_along(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || matches!(letter, '"' | '\'' | '`' | '<' | '>' | '\u{ab}' | '\u{bb}' | '\u{ad}' | '\u{feff}')
        || matches!(letter, '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}' | '\u{200b}'..='\u{200f}' | '\u{2060}')
}

/// The checksum of a ticket's content: the beginning of its BLAKE3 hash.
fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Hash::of(content);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

fn with_checksum(mut content: Vec<u8>) -> Vec<u8> {
    content.extend(checksum(&content));
    content
}

/// The content before a checksum. `None` if the checksum does not fit.
fn without_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    (checksum(content)[..] == *sum).then_some(content)
}
