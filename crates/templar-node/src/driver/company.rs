//! Notices that a node reaches nobody, and says so: soon, then ever more rarely, and once more when somebody is there.
//!
//! The network tries all peers again by itself. But a person at a log that has gone quiet cannot tell a node that waits
//! for others from one whose packets go nowhere.

use std::collections::BTreeMap;
use std::time::Duration;

use templar_manifest::PublicKey;
use templar_net::{ForeignText, Net, PeerAddr};

/// How long a node may be alone before it says so. A peer that does not answer at all is noticed after five seconds.
const SOON: Duration = Duration::from_secs(8);

/// The longest time between two such words.
const RARELY: Duration = Duration::from_secs(600);

/// The greatest number of peers that are named.
const NAMED: usize = 3;

/// The peers and relays that a node sees at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// The number of peers with an open connection.
    pub(super) connected: usize,
    /// The peers that could be asked.
    pub(super) known: Vec<PeerAddr>,
    /// The last problem with each peer that had one.
    pub(super) problems: BTreeMap<[u8; 32], ForeignText>,
    /// The reason why no relay accepts this node, if one should.
    pub(super) relay: Option<String>,
}

impl Sight {
    /// Looks at the network of a node.
    pub(super) fn of(net: &Net) -> Self {
        let (connected, relay) = (net.connected(), net.relay_problem());
        Self { connected, known: net.peers(), problems: net.problems(), relay }
    }

    /// The trouble as a sentence for people, after `alone` of it. `None` if there is none. A node that `waits` for
    /// others to come is in no trouble while it knows nobody.
    fn trouble(&self, alone: Duration, waits: bool) -> Option<String> {
        let seconds = alone.as_secs();
        let peers = match (self.connected, self.known.len()) {
            (0, 0) if waits => None,
            (0, 0) => Some(format!("no peer has been reached in {seconds} s, for none is known here")),
            (0, count) => {
                let none = match count {
                    1 => "the only known peer has not".to_owned(),
                    count => format!("none of {count} known peers has"),
                };
                Some(format!("{none} answered in {seconds} s: {}", self.names()))
            }
            _ => None,
        };
        let trouble: Vec<String> = peers.into_iter().chain(self.relay.clone()).collect();
        (!trouble.is_empty()).then(|| trouble.join("; "))
    }

    /// The first known peers, each with its addresses and its last problem.
    fn names(&self) -> String {
        let name = |peer: &PeerAddr| {
            let addrs: Vec<String> = peer.addrs.iter().map(ToString::to_string).collect();
            let problem = self.problems.get(&peer.id).map_or("no answer", |problem| problem);
            format!("{} at {} ({problem})", PublicKey::from_bytes(peer.id).short(), addrs.join(", "))
        };
        let mut names: Vec<String> = self.known.iter().take(NAMED).map(name).collect();
        if self.known.len() > NAMED {
            names.push(format!("and {} more", self.known.len() - NAMED));
        }
        names.join("; ")
    }
}

/// A message for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// The node is in this trouble.
    Trouble(String),
    /// The trouble is over, after this number of seconds.
    Over(u64),
}

/// How long a node has been without company, and when it last said so.
#[derive(Debug)]
pub(super) struct Company {
    waits: bool,
    /// When the trouble began.
    since: Duration,
    /// The time until the next word, from the beginning of the trouble.
    next: Duration,
}

impl Company {
    /// Of a node that starts at the time `now`. It `waits` if it need not find others: they come to it.
    pub(super) fn new(waits: bool, now: Duration) -> Self {
        Self { waits, since: now, next: SOON }
    }

    /// The message that is due at the time `now`.
    pub(super) fn look(&mut self, sight: &Sight, now: Duration) -> Option<Word> {
        let alone = now.saturating_sub(self.since);
        let Some(trouble) = sight.trouble(alone, self.waits) else {
            let said = self.next > SOON;
            (self.since, self.next) = (now, SOON);
            return said.then_some(Word::Over(alone.as_secs()));
        };
        if alone < self.next {
            return None;
        }
        self.next = alone + alone.clamp(SOON, RARELY);
        Some(Word::Trouble(trouble))
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::SecretKey;

    use super::*;

    fn peer(seed: u8) -> PeerAddr {
        let id = *SecretKey::from_bytes(&[seed; 32]).public().as_bytes();
        PeerAddr { id, addrs: vec![([10, 77, 0, seed], 4433).into()] }
    }

    /// The seconds at which there is something to say, looking every two seconds until `end`.
    fn words(company: &mut Company, sight: &Sight, end: u64) -> Vec<(u64, Word)> {
        let at = |second| Some((second, company.look(sight, Duration::from_secs(second))?));
        (0..end).step_by(2).filter_map(at).collect()
    }

    #[test]
    fn a_lonely_node_says_so_within_ten_seconds_and_then_ever_more_rarely() {
        let peers = vec![peer(1), peer(2)];
        let problems = BTreeMap::from([(peers[0].id, ForeignText::of("refused"))]);
        let alone = Sight { known: peers, problems, ..Sight::default() };
        let mut company = Company::new(false, Duration::ZERO);
        let said = words(&mut company, &alone, 3600);
        let seconds: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [8, 16, 32, 64, 128, 256, 512, 1024, 1624, 2224, 2824, 3424]);
        let Word::Trouble(first) = &said[0].1 else { panic!("{said:?}") };
        assert!(first.starts_with("none of 2 known peers has answered in 8 s"), "{first}");
        assert!(first.contains("10.77.0.1:4433 (refused)") && first.contains("10.77.0.2:4433 (no answer)"), "{first}");

        let met = Sight { connected: 1, ..alone.clone() };
        assert_eq!(company.look(&met, Duration::from_secs(3600)), Some(Word::Over(3600)));
        assert_eq!(company.look(&met, Duration::from_secs(3602)), None);
        // It is alone again, and has as long as before.
        assert_eq!(company.look(&alone, Duration::from_secs(3608)), None);
        assert!(matches!(company.look(&alone, Duration::from_secs(3610)), Some(Word::Trouble(_))));
    }

    #[test]
    fn who_waits_for_others_is_in_no_trouble_while_it_knows_nobody() {
        let nobody = Sight::default();
        assert_eq!(words(&mut Company::new(true, Duration::ZERO), &nobody, 3600), []);
        let said = words(&mut Company::new(false, Duration::ZERO), &nobody, 10);
        assert!(matches!(&said[..], [(8, Word::Trouble(text))] if text.contains("none is known")), "{said:?}");
    }

    #[test]
    fn a_relay_that_does_not_answer_is_trouble_whoever_is_there() {
        let sight = Sight { connected: 2, relay: Some("no relay of x answers".to_owned()), ..Sight::default() };
        let said = words(&mut Company::new(true, Duration::ZERO), &sight, 10);
        assert!(matches!(&said[..], [(8, Word::Trouble(text))] if text == "no relay of x answers"), "{said:?}");
        let both = Sight { connected: 0, known: vec![peer(1)], ..sight };
        let said = words(&mut Company::new(true, Duration::ZERO), &both, 10);
        let [(8, Word::Trouble(text))] = &said[..] else { panic!("{said:?}") };
        assert!(text.contains("the only known peer has not answered") && text.contains("no relay of x"), "{text}");
    }

    #[test]
    fn a_list_of_peers_is_short() {
        let known: Vec<PeerAddr> = (1..=9).map(peer).collect();
        let text = Sight { known, ..Sight::default() }.trouble(SOON, false).unwrap_or_default();
        assert!(text.ends_with("and 6 more") && text.len() < 400, "{text}");
    }
}
