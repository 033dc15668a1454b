//! Tickets are bounded, have one spelling, and every damage to one is an error.

use iroh::SecretKey;
use proptest::prelude::*;
use templar_manifest::Hash;

use crate::{AnyTicket, BlobTicket, PeerAddr, Ticket, TicketError, blob_ticket_text};

fn peer(seed: u8) -> PeerAddr {
    let id = *SecretKey::from_bytes(&[seed; 32]).public().as_bytes();
    PeerAddr { id, addrs: vec![([127, 0, 0, 1], 4000 + u16::from(seed)).into()] }
}

fn ticket(peers: u8) -> Ticket {
    Ticket { run: Hash::of(b"run"), record: Some(Hash::of(b"record")), peers: (1..=peers).map(peer).collect() }
}

fn blob_ticket() -> BlobTicket {
    let addr = peer(1).to_endpoint_addr().unwrap();
    BlobTicket::new(addr, iroh_blobs::Hash::new(b"blob"), iroh_blobs::BlobFormat::Raw)
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
    // Other programs write tickets without a checksum, and read those that have one.
    let ticket = blob_ticket();
    assert_eq!(ticket.to_string().parse::<AnyTicket>().unwrap(), AnyTicket::Blob(ticket.clone()));
    assert_eq!(blob_ticket_text(&ticket).parse::<BlobTicket>().unwrap(), ticket);
}

#[test]
fn tickets_are_taken_as_people_paste_them() {
    let (run, blob) = (ticket(2), blob_ticket());
    let text = run.to_string();
    let (half, rest) = text.split_at(40);
    let texts = |text: &str, folded: String| {
        [
            format!(" {text}\n"),
            format!("\"{text}\""),
            format!("'{text}'."),
            format!("\u{201c}{text}\u{201d},"),
            format!("<{text}>"),
            format!("({text})"),
            format!("\u{feff}{text}\u{200b}"),
            text.to_ascii_uppercase(),
            folded,
        ]
    };
    for pasted in texts(&run.to_string(), format!("> {half}\r\n> {rest}\r\n")) {
        assert_eq!(pasted.parse::<Ticket>().as_ref(), Ok(&run), "{pasted:?}");
        assert_eq!(pasted.parse::<AnyTicket>(), Ok(AnyTicket::Run(run.clone())), "{pasted:?}");
    }
    let text = blob_ticket_text(&blob);
    for pasted in texts(&text, format!("{}\n\t{}", &text[..50], &text[50..])) {
        assert_eq!(pasted.parse::<AnyTicket>(), Ok(AnyTicket::Blob(blob.clone())), "{pasted:?}");
    }
}

/// Every text that differs in one letter, has one letter less, or has two neighbours swapped.
fn slips(text: &str, kind: &str) -> Vec<String> {
    let mut slips = Vec::new();
    for at in kind.len()..text.len() {
        for letter in "abcdefghijklmnopqrstuvwxyz234567".chars() {
            slips.push(format!("{}{letter}{}", &text[..at], &text[at + 1..]));
        }
        slips.push(format!("{}{}", &text[..at], &text[at + 1..]));
        if let Some((two, after)) = text[at..].split_at_checked(2) {
            slips.push(format!("{}{}{}{after}", &text[..at], &two[1..], &two[..1]));
        }
    }
    slips.retain(|slip| slip != text);
    slips
}

#[test]
fn a_wrong_letter_is_told_as_such() {
    let run = ticket(1).to_string();
    for slip in slips(&run, "templar") {
        assert_eq!(slip.parse::<AnyTicket>(), Err(TicketError::Checksum), "{slip}");
    }
    for slip in slips(&blob_ticket_text(&blob_ticket()), "blob") {
        assert_eq!(slip.parse::<AnyTicket>(), Err(TicketError::Checksum), "{slip}");
    }
    let foreign = format!("{}1{}", &run[..30], &run[31..]);
    assert_eq!(foreign.parse::<AnyTicket>(), Err(TicketError::Letter { letter: '1', at: 31 }));
    let foreign = format!("{}\u{e9}{}", &run[..30], &run[31..]);
    assert_eq!(foreign.parse::<AnyTicket>(), Err(TicketError::Letter { letter: '\u{e9}', at: 31 }));
}

#[test]
fn hostile_tickets_are_errors() {
    let text = ticket(1).to_string();
    assert_eq!("".parse::<AnyTicket>(), Err(TicketError::Kind));
    assert_eq!("endpointaaaa".parse::<AnyTicket>(), Err(TicketError::Kind));
    assert_eq!(text[1..].parse::<Ticket>(), Err(TicketError::Kind));
    assert_eq!("blobaaaa".parse::<Ticket>(), Err(TicketError::OfABlob));
    let long = format!("templar{}", "a".repeat(9000));
    assert!(matches!(long.parse::<AnyTicket>(), Err(TicketError::TooLong { len: 9007 })));
    for damaged in [&text[..text.len() - 1], &format!("{text}aaaaaaaa"), "templar", "templar!", "bloba", "blobaaaa"] {
        assert_eq!(damaged.parse::<AnyTicket>(), Err(TicketError::Checksum), "{damaged}");
    }
    assert_eq!("templar11".parse::<AnyTicket>(), Err(TicketError::Letter { letter: '1', at: 8 }));
    // Blanks do not make a long text cheap to send and dear to read.
    let blanks = format!("{text}{}", " ".repeat(20_000));
    assert!(matches!(blanks.parse::<AnyTicket>(), Err(TicketError::TooLong { .. })));
    // The checksum fits, and the content is of another version.
    let other = [&[9_u8][..], &Hash::of(&[9]).as_bytes()[..4]].concat();
    let other = format!("templar{}", data_encoding::BASE32_NOPAD.encode(&other));
    assert!(matches!(other.parse::<AnyTicket>(), Err(TicketError::Content(_))));
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
        let hash = Hash::of(&body);
        let sum = &hash.as_bytes()[..4];
        let encoded = format!("templar{}", data_encoding::BASE32_NOPAD.encode(&[&body, sum].concat()).to_lowercase());
        for text in [encoded, format!("templar{text}")] {
            if let Ok(ticket) = text.parse::<Ticket>() {
                prop_assert_eq!(ticket.to_string(), text);
            }
        }
    }
}
