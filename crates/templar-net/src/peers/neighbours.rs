//! Neighbours: the few peers whose logs this node reads, and the peers that read its own.
//!
//! A node chooses up to [`SyncLimits::neighbours`](crate::SyncLimits) peers and reads their logs. It also reads
//! the log of each follower, which is a peer that reads its own. An accepted entry goes to all neighbours, so
//! entries flood a graph whose edges go both ways. Invariant: the choice depends on a secret of this node, so
//! nobody can make keys that it prefers. Half of the places are kept for configured peers, so strangers cannot
//! fill all of them either, and a peer on the [roll](crate::peers::roll) comes before a stranger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use templar_manifest::{Hash, SecretKey};

use crate::peers::book::{Book, Candidate, PATIENT_ATTEMPTS};
use crate::peers::peer::PeerId;

/// The number of entries that are remembered as coming from one follower.
const REMEMBERED: usize = 1024;

/// The neighbours that a node chose, and the followers that chose it.
#[derive(Debug)]
pub(crate) struct Neighbours {
    /// The secret that orders the candidates.
    salt: [u8; 32],
    max_chosen: usize,
    max_followers: usize,
    book: Arc<Book>,
    state: Mutex<Choices>,
}

/// The state that changes while the node runs.
#[derive(Debug, Default)]
struct Choices {
    /// The peers whose logs this node chose to read.
    chosen: BTreeSet<PeerId>,
    /// The peers that read this node's log, each with its number of streams.
    followers: BTreeMap<PeerId, usize>,
    /// The number of times that each peer said it has no room for another reader.
    declined: BTreeMap<PeerId, u32>,
    /// The entries that each follower has sent us since it began to read our log. It does not need them from
    /// us.
    given: BTreeMap<PeerId, Given>,
}

/// The newest entries that came from one follower.
#[derive(Debug, Default)]
struct Given {
    known: BTreeSet<Hash>,
    /// The same hashes, oldest first.
    order: VecDeque<Hash>,
}

impl Neighbours {
    /// No neighbours yet. At most `max_chosen` are chosen from `book`, those on its roll first. At most `max_followers`
    /// strangers are admitted, and all peers on the roll.
    pub(crate) fn new(secret_key: &[u8; 32], max_chosen: usize, max_followers: usize, book: Arc<Book>) -> Self {
        let salt = SecretKey::from_bytes(secret_key).derive("templar/1 choice of neighbours", b"");
        Self { salt, max_chosen: max_chosen.max(1), max_followers, book, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Choices> {
        // Every critical section leaves the state consistent, so a panic in another thread does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses neighbours anew from all candidates. Returns the peers whose logs are to be read: the chosen
    /// ones and the followers, the most likely to answer first.
    pub(crate) fn choose(&self, mut candidates: Vec<Candidate>) -> Vec<PeerId> {
        let mut state = self.lock();
        state.declined.retain(|id, _| candidates.iter().any(|candidate| candidate.id == *id));
        candidates.sort_by_cached_key(|candidate| {
            let declined = state.declined.get(&candidate.id).copied().unwrap_or(0);
            let trouble = (candidate.failures / PATIENT_ATTEMPTS).saturating_add(declined);
            let is_stranger = self.book.roll().is_stranger(&candidate.id);
            (candidate.blamed, trouble, is_stranger, *Hash::of(&[self.salt, candidate.id].concat()).as_bytes())
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

    /// The peers whose logs are to be read, according to the last choice.
    pub(crate) fn read_by_us(&self) -> Vec<PeerId> {
        let state = self.lock();
        let mut all = state.chosen.clone();
        all.extend(state.followers.keys());
        all.into_iter().collect()
    }

    /// Gives the peer a place among the followers, if there is room. A peer on the roll, and one that this node chose,
    /// always gets one.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Option<Follower> {
        let mut state = self.lock();
        let roll = self.book.roll();
        let has_place = state.followers.contains_key(&peer) || state.chosen.contains(&peer) || !roll.is_stranger(&peer);
        let strangers = || state.followers.keys().filter(|follower| roll.is_stranger(follower)).count();
        if !has_place && strangers() >= self.max_followers {
            return None;
        }
        *state.followers.entry(peer).or_insert(0) += 1;
        // A peer that starts to read again may have lost its earlier entries.
        state.given.remove(&peer);
        drop(state);
        self.book.wake();
        Some(Follower { neighbours: self.clone(), peer })
    }

    /// Records that the peer has no room for another reader, so that others are chosen before it.
    pub(crate) fn declined(&self, peer: &PeerId) {
        let mut state = self.lock();
        let times = state.declined.entry(*peer).or_insert(0);
        *times = times.saturating_add(1);
        drop(state);
        self.book.wake();
    }

    /// Records that the peer lets us read its log.
    pub(crate) fn welcomed(&self, peer: &PeerId) {
        self.lock().declined.remove(peer);
    }

    /// Records that the peer has sent this entry, so it does not need it from us.
    pub(crate) fn gave(&self, peer: &PeerId, entry: Hash) {
        let mut state = self.lock();
        // A peer that does not read our log is sent no entries that could be spared.
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

    /// Whether the peer has sent this entry to us.
    pub(crate) fn has_from(&self, peer: &PeerId, bytes: &[u8]) -> bool {
        let state = self.lock();
        state.given.get(peer).is_some_and(|given| given.known.contains(&Hash::of(bytes)))
    }
}

/// A follower's place, which becomes free when this is dropped.
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
