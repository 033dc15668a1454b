//! The address book is bounded, and a peer's own addresses displace hearsay.

use std::collections::{BTreeMap, BTreeSet};

use iroh::SecretKey;

use crate::peers::book::{AddrSource, Book};
use crate::peers::peer::{MAX_ADDRS, PeerAddr, PeerAddrError, PeerId};
use crate::peers::roll::Standing;

fn id(seed: u8) -> PeerId {
    *SecretKey::from_bytes(&[seed; 32]).public().as_bytes()
}

fn at(seed: u8, port: u16) -> PeerAddr {
    PeerAddr { id: id(seed), addrs: vec![([127, 0, 0, 1], port).into()] }
}

#[test]
fn what_a_peer_says_of_itself_beats_hearsay() {
    let book = Book::new(id(0), 10);
    assert!(!book.learn(at(0, 1), AddrSource::Configured), "not ourselves");
    assert!(book.learn(at(1, 1), AddrSource::Heard));
    assert!(book.learn(at(1, 2), AddrSource::Announced));
    assert!(book.learn(at(1, 3), AddrSource::Heard));
    let ports =
        |book: &Book| book.addr(&id(1)).unwrap().addrs.iter().map(|addr| addr.ip().unwrap().port()).collect::<Vec<_>>();
    assert_eq!(ports(&book), [2, 1, 3], "its own word first, hearsay last");
    for port in 10..30 {
        book.learn(at(1, port), AddrSource::Announced);
    }
    assert_eq!(ports(&book).len(), MAX_ADDRS);
    assert_eq!(ports(&book)[0], 29);
}

#[test]
fn the_book_is_bounded_and_keeps_what_matters() {
    let book = Book::new(id(0), 3);
    for seed in 1..=5 {
        assert_eq!(book.learn(at(seed, 1), AddrSource::Heard), seed <= 3);
    }
    assert!(book.learn(at(6, 1), AddrSource::Announced));
    assert!(book.learn(at(7, 1), AddrSource::Configured));
    assert!(book.learn(at(8, 1), AddrSource::Configured));
    assert!(book.learn(at(9, 1), AddrSource::Configured));
    assert!(!book.learn(at(10, 1), AddrSource::Configured), "full of what we were told ourselves");
    assert!(!book.learn(at(11, 1), AddrSource::Announced));
    assert_eq!(book.candidates().len(), 3);
}

#[test]
fn strangers_take_turns_and_the_roll_always_has_a_place() {
    let book = Book::new(id(0), 3);
    for seed in 1..=3 {
        assert!(book.learn(at(seed, 1), AddrSource::Announced));
        book.met(&id(seed));
    }
    let known = |book: &Book| book.all().iter().map(|peer| peer.id).collect::<BTreeSet<_>>();
    book.served(&id(1), 1_000);
    assert!(book.learn(at(2, 1), AddrSource::Announced), "it calls again");
    assert!(book.learn(at(4, 1), AddrSource::Announced), "a newcomer takes the place of the one that called first");
    assert_eq!(known(&book), BTreeSet::from([id(1), id(2), id(4)]), "but not of one that has served us");
    assert!(!book.learn(at(5, 1), AddrSource::Heard), "hearsay displaces nobody");
    book.roll().replace(BTreeMap::from([(id(2), Standing::Member), (id(6), Standing::Validator)]));
    assert!(book.learn(at(6, 1), AddrSource::Heard), "who takes part has a place by right");
    for seed in 10..=20 {
        assert!(book.learn(at(seed, 1), AddrSource::Announced), "a place is free since the second takes part");
    }
    assert_eq!(known(&book), BTreeSet::from([id(1), id(2), id(6), id(19), id(20)]));
}

#[test]
fn hearsay_that_leads_nowhere_is_forgotten() {
    let book = Book::new(id(0), 10);
    book.learn(at(1, 1), AddrSource::Heard);
    book.learn(at(2, 1), AddrSource::Configured);
    for _ in 0..5 {
        book.unreachable(&id(1), "no answer");
        book.unreachable(&id(2), "no answer");
    }
    assert_eq!(book.all().iter().map(|peer| peer.id).collect::<Vec<_>>(), [id(2)]);
    assert!(book.shareable(None, 10).is_empty(), "nobody was met");
}

#[test]
fn blamed_and_absent_peers_are_asked_last() {
    let book = Book::new(id(0), 10);
    for seed in 1..=4 {
        book.learn(at(seed, 1), AddrSource::Configured);
    }
    book.blame(&id(1), "lied");
    book.unreachable(&id(2), "no answer");
    let order = book.order(&[id(1), id(2), id(4), id(4), id(0)]);
    assert_eq!(order, [id(4), id(3), id(2), id(1)]);
    book.met(&id(2));
    book.pardon(&id(1));
    assert_eq!(book.order(&[id(1), id(2)])[..2], [id(1), id(2)]);
}

#[test]
fn peers_are_written_and_read() {
    let peer = PeerAddr { id: id(1), addrs: vec!["127.0.0.1:4444".parse().unwrap(), "[::1]:5".parse().unwrap()] };
    assert_eq!(peer.to_string().parse::<PeerAddr>().unwrap(), peer);
    let hex = data_encoding::HEXLOWER.encode(&id(1));
    assert_eq!(format!("{hex}@").parse::<PeerAddr>().unwrap().addrs, []);
    for bad in ["", "@", "zz@127.0.0.1:1", &hex, &format!("{hex}@localhost:1"), &format!("{hex}@127.0.0.1")] {
        assert!(matches!(bad.parse::<PeerAddr>(), Err(PeerAddrError::Syntax(_))), "{bad}");
    }
    let parsed = |addrs: &str| format!("{hex}@{addrs}").parse::<PeerAddr>();
    for bad in ["127.0.0.1:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1"] {
        assert!(matches!(parsed(bad), Err(PeerAddrError::Unreachable(_))), "{bad}");
    }
    assert!(matches!(parsed(&["127.0.0.1:1"; 9].join(",")), Err(PeerAddrError::TooManyAddrs(9))));
    // Some sequences of 32 bytes are not a point on the curve.
    let bad_key = (0..=255_u8).map(|i| [i; 32]).find(|key| iroh::EndpointId::from_bytes(key).is_err()).unwrap();
    let text = format!("{}@127.0.0.1:1", data_encoding::HEXLOWER.encode(&bad_key));
    assert!(matches!(text.parse::<PeerAddr>(), Err(PeerAddrError::Key(_))));
}
