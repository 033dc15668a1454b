//! Texts that are no ticket.

use templar_net::{AnyTicket, PeerAddr, Ticket};

use super::{Attack, refused};
use crate::vectors::example;
use crate::vectors::window::miners;

/// The ticket with another letter in its middle.
fn another_letter(ticket: &str) -> String {
    let (before, after) = ticket.split_at(ticket.len() / 2);
    let letter = if after.starts_with('a') { "b" } else { "a" };
    format!("{before}{letter}{}", &after[1..])
}

/// The ticket with the first two neighbours swapped that differ, behind its prefix.
fn swapped(ticket: &str) -> String {
    let mut letters: Vec<char> = ticket.chars().collect();
    let at = (7..letters.len() - 1).find(|at| letters[*at] != letters[at + 1]).unwrap_or(7);
    letters.swap(at, at + 1);
    letters.into_iter().collect()
}

pub(super) fn attacks() -> Vec<Attack> {
    let peer =
        |port: u16| PeerAddr { id: *miners()[0].public().as_bytes(), addrs: vec![([127, 0, 0, 1], port).into()] };
    let with = |peers: Vec<PeerAddr>| Ticket { run: example().genesis.id(), record: None, peers }.to_string();
    let honest = with(vec![peer(4444)]);
    let parse = |text: &str| text.parse::<AnyTicket>();
    let no_key = PeerAddr { id: [2; 32], ..peer(4444) };
    assert!(parse(&honest).is_ok());
    vec![
        refused("no text", parse("")),
        refused("a hash", parse(&example().genesis.id().to_string())),
        refused("9,000 letters", parse(&format!("templar{}", "a".repeat(8993)))),
        refused("the beginning alone", parse("templar")),
        refused("the last letter missing", parse(&honest[..honest.len() - 1])),
        refused("letters behind the end", parse(&format!("{honest}aaaaaaaa"))),
        refused("another letter", parse(&another_letter(&honest))),
        refused("two letters swapped", parse(&swapped(&honest))),
        refused("a letter that base32 does not have", parse(&format!("{}1", &honest[..honest.len() - 1]))),
        refused("a damaged blob ticket", parse("blobaaaa")),
        refused("17 peers", parse(&with(vec![peer(4444); 17]))),
        refused(
            "nine addresses of one peer",
            parse(&with(vec![PeerAddr { addrs: vec![peer(1).addrs[0].clone(); 9], ..peer(1) }])),
        ),
        refused("port 0", parse(&with(vec![peer(0)]))),
        refused("a peer whose id is no key", parse(&with(vec![no_key]))),
    ]
}
