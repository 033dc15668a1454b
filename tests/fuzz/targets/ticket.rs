//! Tickets, as text or as the bytes that the text spells.

use data_encoding::BASE32_NOPAD;
use templar_manifest::{Hash, SecretKey};
use templar_net::{AnyTicket, PeerAddr, Ticket};

/// The length of the checksum at the end of a ticket's bytes.
const CHECKSUM_BYTES: usize = 4;

/// The first byte of an input says whether the rest is text (0) or the content behind a prefix: of a run's ticket (1),
/// to which the checksum is added, or of a blob's (others), which needs none.
pub(super) fn decode(bytes: &[u8]) -> bool {
    let Some((form, bytes)) = bytes.split_first() else { return false };
    let spelled = |bytes: &[u8]| BASE32_NOPAD.encode(bytes).to_ascii_lowercase();
    let hash = Hash::of(bytes);
    let sum = &hash.as_bytes()[..CHECKSUM_BYTES];
    let text = match form {
        0 => String::from_utf8_lossy(bytes).into_owned(),
        1 => format!("templar{}", spelled(&[bytes, sum].concat())),
        _ => format!("blob{}", spelled(bytes)),
    };
    match text.parse() {
        Ok(AnyTicket::Run(ticket)) => {
            assert_eq!(ticket.to_string().parse(), Ok(ticket));
            true
        }
        Ok(AnyTicket::Blob(_)) => true,
        Err(_) => false,
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let key = SecretKey::from_bytes(&[7; 32]).public();
    let peer = PeerAddr { id: *key.as_bytes(), addrs: vec![([127, 0, 0, 1], 4433).into()] };
    let tickets = [
        Ticket { run: Hash::of(b"run"), record: None, peers: vec![peer.clone()] },
        Ticket { run: Hash::of(b"run"), record: Some(Hash::of(b"record")), peers: vec![peer.clone(), peer] },
    ];
    let texts = tickets.iter().map(Ticket::to_string);
    texts
        .flat_map(|text| {
            let spelled = text.trim_start_matches("templar").to_ascii_uppercase();
            let bytes = BASE32_NOPAD.decode(spelled.as_bytes()).expect("a ticket is base32");
            let content = &bytes[..bytes.len() - CHECKSUM_BYTES];
            [[&[0], text.as_bytes()].concat(), [&[1], content].concat()]
        })
        .collect()
}
