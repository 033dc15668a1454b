//! Whose logs this node reads, and who reads its own: a node of a large run needs a few neighbours, not everybody.
//!
//! A node chooses up to [`Limits::neighbours`](crate::Limits) peers and reads their logs; whoever reads its log it reads
//! in turn. What one node accepts goes to all of its neighbours, so entries flood a graph whose edges go both ways.
//! Invariant: the choice follows a secret of this node, so nobody can make up keys that it prefers, and half of the places
//! are kept for peers that a person named, so nobody can fill all of them either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use templar_manifest::{Hash, SecretKey};

use crate::book::Book;
use crate::peer::PeerId;

/// Failed attempts after which another peer is tried instead, where there is one.
pub(crate) const PATIENT_ATTEMPTS: u32 = 3;

/// Entries of one peer that are remembered as its own news.
const REMEMBERED: usize = 1024;

/// What the book says of a peer that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: PeerId,
    /// A person named it.
    pub(crate) configured: bool,
    pub(crate) blamed: bool,
    /// Attempts to reach it that failed since it was last met.
    pub(crate) failures: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Neighbours {
    salt: [u8; 32],
    max_chosen: usize,
    max_followers: usize,
    book: Arc<Book>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whom this node reads by its own choice.
    chosen: BTreeSet<PeerId>,
    /// Who reads this node's log, with the number of streams.
    followers: BTreeMap<PeerId, usize>,
    /// How often a peer said that it has no room.
    declined: BTreeMap<PeerId, u32>,
    /// What each peer has sent since it began to read our log: it needs none of that from us.
    given: BTreeMap<PeerId, Given>,
}

#[derive(Debug, Default)]
struct Given {
    known: BTreeSet<Hash>,
    order: VecDeque<Hash>,
}

impl Neighbours {
    pub(crate) fn new(secret_key: &[u8; 32], max_chosen: usize, max_followers: usize, book: Arc<Book>) -> Self {
        let salt = SecretKey::from_bytes(secret_key).derive("templar/1 choice of neighbours", b"");
        Self { salt, max_chosen: max_chosen.max(1), max_followers, book, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses anew, and says whose logs are to be read: those that are chosen, the likeliest to answer first, and those that
    /// read ours.
    pub(crate) fn choose(&self, mut candidates: Vec<Candidate>) -> Vec<PeerId> {
        let mut state = self.lock();
        state.declined.retain(|id, _| candidates.iter().any(|candidate| candidate.id == *id));
        candidates.sort_by_cached_key(|candidate| {
            let declined = state.declined.get(&candidate.id).copied().unwrap_or(0);
            let trouble = (candidate.failures / PATIENT_ATTEMPTS).saturating_add(declined);
            (candidate.blamed, trouble, *Hash::of(&[self.salt, candidate.id].concat()).as_bytes())
        });
        let named = candidates.iter().filter(|candidate| candidate.configured).take(self.max_chosen.div_ceil(2));
        let mut chosen: BTreeSet<PeerId> = named.map(|candidate| candidate.id).collect();
        for candidate in &candidates {
            if chosen.len() >= self.max_chosen {
                break;
            }
            chosen.insert(candidate.id);
        }
        let reads = |id: &PeerId| chosen.contains(id) || state.followers.contains_key(id);
        let order = candidates.iter().map(|candidate| candidate.id).filter(reads).collect();
        state.chosen = chosen;
        order
    }

    /// Whose logs are to be read, as it was last chosen.
    pub(crate) fn read_by_us(&self) -> Vec<PeerId> {
        let state = self.lock();
        let mut all = state.chosen.clone();
        all.extend(state.followers.keys());
        all.into_iter().collect()
    }

    /// A place among those who read our log, if there is one: a chosen peer always has one.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Option<Follower> {
        let mut state = self.lock();
        let known = state.followers.contains_key(&peer) || state.chosen.contains(&peer);
        if !known && state.followers.len() >= self.max_followers {
            return None;
        }
        *state.followers.entry(peer).or_insert(0) += 1;
        // Whatever it had before, it may have lost.
        state.given.remove(&peer);
        drop(state);
        self.book.wake();
        Some(Follower { neighbours: self.clone(), peer })
    }

    /// The peer has no room for us: it is chosen after others.
    pub(crate) fn declined(&self, peer: &PeerId) {
        let mut state = self.lock();
        let times = state.declined.entry(*peer).or_insert(0);
        *times = times.saturating_add(1);
        drop(state);
        self.book.wake();
    }

    /// The peer lets us read.
    pub(crate) fn welcomed(&self, peer: &PeerId) {
        self.lock().declined.remove(peer);
    }

    /// The peer sent this entry, so it has it.
    pub(crate) fn gave(&self, peer: &PeerId, entry: Hash) {
        let mut state = self.lock();
        // Who does not read our log is sent nothing that could be left out.
        if !state.followers.contains_key(peer) {
            return;
        }
        let given = state.given.entry(*peer).or_default();
        if given.known.insert(entry) {
            given.order.push_back(entry);
            if given.order.len() > REMEMBERED
                && let Some(oldest) = given.order.pop_front()
            {
                given.known.remove(&oldest);
            }
        }
    }

    /// Whether the peer has sent this entry itself.
    pub(crate) fn has_from(&self, peer: &PeerId, bytes: &[u8]) -> bool {
        let state = self.lock();
        state.given.get(peer).is_some_and(|given| given.known.contains(&Hash::of(bytes)))
    }
}

/// A place among those who read our log.
#[derive(Debug)]
pub(crate) struct Follower {
    neighbours: Arc<Neighbours>,
    peer: PeerId,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.neighbours.lock();
        if let Some(streams) = state.followers.get_mut(&self.peer) {
            *streams -= 1;
            if *streams == 0 {
                state.followers.remove(&self.peer);
                state.given.remove(&self.peer);
            }
        }
        drop(state);
        self.neighbours.book.wake();
    }
}
