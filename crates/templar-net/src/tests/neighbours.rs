//! The choice of neighbours: they are few, the graph is connected, and strangers can neither steer the choice nor
//! fill it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iroh::SecretKey;

use crate::PeerId;
use crate::peers::book::{Book, Candidate};
use crate::peers::neighbours::Neighbours;

fn id(seed: u16) -> PeerId {
    *SecretKey::from_bytes(&secret(seed)).public().as_bytes()
}

fn secret(seed: u16) -> [u8; 32] {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&seed.to_le_bytes());
    secret
}

fn neighbours(seed: u16, max_chosen: usize, max_followers: usize) -> Arc<Neighbours> {
    let book = Arc::new(Book::new(id(seed), 256));
    Arc::new(Neighbours::new(&secret(seed), max_chosen, max_followers, book))
}

fn candidate(id: PeerId) -> Candidate {
    Candidate { id, configured: false, blamed: false, failures: 0 }
}

/// Each of 250 nodes knows all others and chooses for itself. Every entry then reaches every node in a few hops,
/// and no node has many streams.
#[test]
fn the_choices_of_250_nodes_connect_them_all() {
    const NODES: u16 = 250;
    let ids: Vec<PeerId> = (0..NODES).map(id).collect();
    let mut edges: BTreeMap<PeerId, BTreeSet<PeerId>> = BTreeMap::new();
    for seed in 0..NODES {
        let candidates = ids.iter().filter(|other| **other != id(seed)).copied().map(candidate).collect();
        let chosen = neighbours(seed, 8, 48).choose(candidates);
        assert_eq!(chosen.len(), 8);
        for other in chosen {
            edges.entry(id(seed)).or_default().insert(other);
            edges.entry(other).or_default().insert(id(seed));
        }
    }
    let most = edges.values().map(BTreeSet::len).max().unwrap();
    assert!(most <= 8 + 48, "{most} neighbours");
    for from in &ids {
        let mut heard = BTreeSet::from([*from]);
        let mut hops = 0;
        while heard.len() < ids.len() {
            let next: BTreeSet<PeerId> = heard.iter().flat_map(|node| edges[node].iter().copied()).collect();
            assert!(!next.is_subset(&heard), "{} of {} hear", heard.len(), ids.len());
            heard.extend(next);
            hops += 1;
        }
        assert!(hops <= 4, "{hops} hops");
    }
}

#[test]
fn the_choice_is_a_secret_and_prefers_whom_a_person_named() {
    let ids: Vec<PeerId> = (1..100).map(id).collect();
    let candidates: Vec<Candidate> = ids.iter().copied().map(candidate).collect();
    let (a, b) = (neighbours(200, 8, 8), neighbours(201, 8, 8));
    assert_eq!(a.choose(candidates.clone()), a.choose(candidates.iter().rev().copied().collect()), "it stays");
    assert_ne!(a.choose(candidates.clone()), b.choose(candidates.clone()), "each node has its own");
    let mut named = candidates.clone();
    for candidate in named.iter_mut().rev().take(20) {
        candidate.configured = true;
    }
    let chosen = a.choose(named.clone());
    let configured = |id: &&PeerId| named.iter().any(|candidate| candidate.configured && candidate.id == **id);
    assert!(chosen.iter().filter(configured).count() >= 4, "half of the places");
    assert_eq!(chosen.len(), 8);
}

#[test]
fn peers_that_fail_or_decline_make_room_for_others() {
    let candidates: Vec<Candidate> = (1..20).map(id).map(candidate).collect();
    let node = neighbours(200, 3, 8);
    let first = node.choose(candidates.clone());
    let mut failing = candidates.clone();
    for candidate in &mut failing {
        candidate.failures = if first.contains(&candidate.id) { 3 } else { 0 };
    }
    assert!(node.choose(failing).iter().all(|id| !first.contains(id)));
    first.iter().for_each(|id| node.declined(id));
    assert!(node.choose(candidates.clone()).iter().all(|id| !first.contains(id)));
    first.iter().for_each(|id| node.welcomed(id));
    assert_eq!(node.choose(candidates.clone()), first);
    // If there are no other peers, they are tried again.
    first.iter().for_each(|id| node.declined(id));
    let only: Vec<Candidate> = first.iter().copied().map(candidate).collect();
    assert_eq!(node.choose(only).len(), 3);
}

#[test]
fn readers_are_read_and_bounded() {
    let node = neighbours(200, 2, 3);
    let candidates: Vec<Candidate> = (1..10).map(id).map(candidate).collect();
    let chosen = node.choose(candidates.clone());
    let strangers: Vec<PeerId> = (1..10).map(id).filter(|id| !chosen.contains(id)).collect();
    let mut followers: Vec<_> = strangers[..3].iter().map(|id| node.admit(*id).unwrap()).collect();
    assert!(node.admit(strangers[3]).is_none(), "no fourth");
    let again = node.admit(strangers[0]);
    assert!(again.is_some(), "who has a place may call again");
    let own = node.admit(chosen[0]);
    assert!(own.is_some(), "whom we read ourselves always has a place");
    let read: BTreeSet<PeerId> = node.choose(candidates.clone()).into_iter().collect();
    assert!(strangers[..3].iter().chain(&chosen).all(|id| read.contains(id)));
    assert_eq!(read.len(), 5);
    // A place becomes free when the last stream of its holder has ended.
    drop(own);
    followers.remove(0);
    assert!(node.admit(strangers[3]).is_none());
    drop(again);
    assert!(node.admit(strangers[3]).is_some());
}
