//! Tickets are bounded, have one spelling, and every damage to one is an error.

use iroh::SecretKey;
use proptest::prelude::*;
use templar_manifest::Hash;

use crate::{AnyTicket, BlobTicket, PeerAddr, Ticket, TicketError};

fn peer(seed: u8) -> PeerAddr {
    let id = *SecretKey::from_bytes(&[seed; 32]).public().as_bytes();
    PeerAddr { id, addrs: vec![([127, 0, 0, 1], 4000 + u16::from(seed)).into()] }
}

fn ticket(peers: u8) -> Ticket {
    Ticket { run: Hash::of(b"run"), record: Some(Hash::of(b"record")), peers: (1..=peers).map(peer).collect() }
}

#[test]
fn a_ticket_comes_back() {
    for ticket in [ticket(0), ticket(1), ticket(16), Ticket { record: None, ..ticket(2) }] {
        let text = ticket.to_string();
        assert!(text.starts_with("templar") && text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
        assert_eq!(text.parse::<Ticket>().unwrap(), ticket);
        assert_eq!(format!(" {text}\n").parse::<AnyTicket>().unwrap(), AnyTicket::Run(ticket));
    }
}

#[test]
fn blob_tickets_of_other_programs_are_read() {
    let addr = peer(1).to_endpoint_addr().unwrap();
    let ticket = BlobTicket::new(addr, iroh_blobs::Hash::new(b"blob"), iroh_blobs::BlobFormat::Raw);
    assert_eq!(ticket.to_string().parse::<AnyTicket>().unwrap(), AnyTicket::Blob(ticket));
}

#[test]
fn hostile_tickets_are_errors() {
    let text = ticket(1).to_string();
    assert_eq!("".parse::<AnyTicket>(), Err(TicketError::Kind));
    assert_eq!("endpointaaaa".parse::<AnyTicket>(), Err(TicketError::Kind));
    assert_eq!(text[1..].parse::<Ticket>(), Err(TicketError::Kind));
    let long = format!("templar{}", "a".repeat(9000));
    assert!(matches!(long.parse::<AnyTicket>(), Err(TicketError::TooLong { len: 9007 })));
    for damaged in [&text[..text.len() - 1], &format!("{text}aaaaaaaa"), "templar", "templar1", "templar!", "bloba"] {
        assert!(matches!(damaged.parse::<AnyTicket>(), Err(TicketError::Damaged(_))), "{damaged}");
    }
    let mut bad = ticket(17);
    assert!(matches!(bad.to_string().parse::<Ticket>(), Err(TicketError::Peer(_))), "too many peers");
    bad.peers = vec![PeerAddr { addrs: vec![([127, 0, 0, 1], 0_u16).into()], ..peer(1) }];
    assert!(matches!(bad.to_string().parse::<Ticket>(), Err(TicketError::Peer(_))), "port 0");
    bad.peers = vec![PeerAddr { addrs: vec![([127, 0, 0, 1], 5_u16).into(); 9], ..peer(1) }];
    assert!(matches!(bad.to_string().parse::<Ticket>(), Err(TicketError::Peer(_))), "too many addresses");
}

proptest! {
    /// Every text that parses is written the same way again, apart from upper and lower case, which base32
    /// ignores.
    #[test]
    fn a_ticket_has_one_spelling(body in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z2-7]{0,200}") {
        let encoded = format!("templar{}", data_encoding::BASE32_NOPAD.encode(&body).to_lowercase());
        for text in [encoded, format!("templar{text}")] {
            if let Ok(ticket) = text.parse::<Ticket>() {
                prop_assert_eq!(ticket.to_string(), text);
            }
        }
    }

    #[test]
    fn any_change_of_one_letter_is_noticed_or_another_ticket(at in any::<prop::sample::Index>(), letter in "[a-z2-7]") {
        let mut text = ticket(2).to_string();
        let at = at.index(text.len());
        text.replace_range(at..=at, &letter);
        if let Ok(parsed) = text.parse::<Ticket>() {
            prop_assert_eq!(parsed.to_string(), text);
        }
    }
}
