//! The address book: which peers exist, where they may be, how they behaved.
//!
//! Invariant: bounded whatever peers say. What we were configured with outlives what a peer said of itself, which
//! outlives what others said of it; only peers that we have met are passed on, so invented addresses do not spread.
//! Addresses carry no trust: a connection proves the id or fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iroh::{EndpointAddr, RelayUrl};
use templar_manifest::Hash;
use tokio::sync::watch;

use crate::neighbours::{Candidate, PATIENT_ATTEMPTS};
use crate::peer::{Addr, MAX_ADDRS, PeerAddr, PeerId};

/// Attempts after which a peer that we only heard of, and never met, is forgotten.
const ATTEMPTS_FOR_HEARSAY: u32 = 5;

/// Places kept for addresses that others tell us of a peer that we know.
const HEARSAY_ADDRS: usize = 2;

/// Who told us of a peer, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Another peer.
    Heard,
    /// The peer itself, over a connection that proves its id.
    Announced,
    /// A ticket or the person who runs the node.
    Configured,
}

#[derive(Debug, Clone)]
struct Peer {
    addrs: Vec<Addr>,
    source: Source,
    /// A connection with it has existed.
    met: bool,
    /// Attempts to reach it that failed since it was last met.
    failures: u32,
    /// How often it came to us, or we were told a new address: a reason to try it again at once.
    contacts: u64,
    /// How many bytes a second one request for a blob brought, when it last served us.
    rate: Option<u64>,
    /// It broke the protocol or sent bytes that are not what it was asked for.
    blamed: bool,
    /// The last thing that went wrong, for people.
    problem: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    own_id: PeerId,
    max_peers: usize,
    /// Relays that this node may use: what a peer names besides is not connected to.
    relays: BTreeSet<RelayUrl>,
    /// Whether a peer can be found by its id alone.
    looks_up: bool,
    peers: Mutex<BTreeMap<PeerId, Peer>>,
    /// Counts changes, so that tasks can wait for one.
    changes: watch::Sender<u64>,
}

impl Book {
    pub(crate) fn new(own_id: PeerId, max_peers: usize) -> Self {
        Self {
            own_id,
            max_peers,
            relays: BTreeSet::new(),
            looks_up: false,
            peers: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// With relays that may be used, and whether a peer can be found by its id alone.
    pub(crate) fn reaching(mut self, relays: BTreeSet<RelayUrl>, looks_up: bool) -> Self {
        (self.relays, self.looks_up) = (relays, looks_up);
        self
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Peer>> {
        // Every critical section leaves the map whole, so a panic elsewhere does not spoil it.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Lets those who wait for a change look again.
    pub(crate) fn wake(&self) {
        self.bump();
    }

    /// Changes of the book from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes in an address that has been checked. Returns whether the peer is now in the book.
    pub(crate) fn learn(&self, addr: PeerAddr, source: Source) -> bool {
        if addr.id == self.own_id {
            return false;
        }
        let mut peers = self.lock();
        if !peers.contains_key(&addr.id) && peers.len() >= self.max_peers && !make_room(&mut peers, source) {
            return false;
        }
        let peer = peers.entry(addr.id).or_insert_with(|| Peer {
            addrs: Vec::new(),
            source,
            met: false,
            failures: 0,
            contacts: 0,
            rate: None,
            blamed: false,
            problem: None,
        });
        let before = peer.addrs.clone();
        // Hearsay does not displace what the peer itself or our own configuration says; the peer itself may. It is tried
        // beside it, though: a peer that moved while we were away is known to others first.
        let displaces = source != Source::Heard || peer.source == Source::Heard || peer.addrs.is_empty();
        let (mut addrs, added) = if displaces { (addr.addrs, before.clone()) } else { (before.clone(), addr.addrs) };
        if !displaces {
            addrs.truncate(MAX_ADDRS - HEARSAY_ADDRS);
        }
        for added in added {
            if !addrs.contains(&added) {
                addrs.push(added);
            }
        }
        addrs.truncate(MAX_ADDRS);
        peer.addrs = addrs;
        peer.source = peer.source.max(source);
        let news = peer.addrs != before && (source == Source::Configured || peer.failures > 0);
        if source == Source::Announced || news {
            peer.contacts = peer.contacts.wrapping_add(1);
        }
        drop(peers);
        self.bump();
        true
    }

    /// A connection with the peer exists.
    pub(crate) fn met(&self, id: &PeerId) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.met = true;
            peer.failures = 0;
        }
    }

    /// The peer could not be reached, or the connection ended. Forgets hearsay that leads nowhere.
    pub(crate) fn unreachable(&self, id: &PeerId, problem: String) {
        let mut peers = self.lock();
        let Some(peer) = peers.get_mut(id) else { return };
        peer.failures = peer.failures.saturating_add(1);
        peer.problem = Some(problem);
        if peer.source == Source::Heard && !peer.met && peer.failures >= ATTEMPTS_FOR_HEARSAY {
            peers.remove(id);
        } else if !peer.failures.is_multiple_of(PATIENT_ATTEMPTS) {
            return;
        }
        drop(peers);
        self.bump();
    }

    /// Something went wrong that is nobody's fault or not worth a punishment.
    pub(crate) fn note(&self, id: &PeerId, problem: String) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.problem = Some(problem);
        }
        self.bump();
    }

    /// The peer misbehaved: it is left alone for a while and asked last.
    pub(crate) fn blame(&self, id: &PeerId, problem: String) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.blamed = true;
            peer.problem = Some(problem);
        }
        self.bump();
    }

    /// The punishment is over.
    pub(crate) fn pardon(&self, id: &PeerId) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.blamed = false;
        }
    }

    pub(crate) fn is_blamed(&self, id: &PeerId) -> bool {
        self.lock().get(id).is_some_and(|peer| peer.blamed)
    }

    /// The peer has served us at this rate, in bytes a second of one request.
    pub(crate) fn served(&self, id: &PeerId, rate: u64) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.rate = Some(rate);
        }
    }

    /// The rate at which the peer last served us.
    pub(crate) fn rate(&self, id: &PeerId) -> Option<u64> {
        self.lock().get(id)?.rate
    }

    /// How often the peer came to us; none if it is not in the book.
    pub(crate) fn contacts(&self, id: &PeerId) -> Option<u64> {
        self.lock().get(id).map(|peer| peer.contacts)
    }

    #[cfg(test)]
    pub(crate) fn failures(&self, id: &PeerId) -> u32 {
        self.lock().get(id).map_or(0, |peer| peer.failures)
    }

    pub(crate) fn addr(&self, id: &PeerId) -> Option<PeerAddr> {
        self.lock().get(id).map(|peer| PeerAddr { id: *id, addrs: peer.addrs.clone() })
    }

    /// Where to dial a peer, or why it cannot be dialled.
    pub(crate) fn dial(&self, id: &PeerId) -> Result<EndpointAddr, String> {
        let mut addr = self.addr(id).ok_or("it is not known")?;
        addr.addrs.retain(|addr| match addr {
            Addr::Ip(_) => true,
            Addr::Relay(url) => self.relays.contains(url),
        });
        if addr.addrs.is_empty() && !self.looks_up {
            return Err("no address is known that this node can use".to_owned());
        }
        Ok(addr.to_endpoint_addr().ok_or("not a valid key")?)
    }

    /// Everybody who may be chosen as a neighbour.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let peers = self.lock();
        let candidate = |(id, peer): (&PeerId, &Peer)| {
            let configured = peer.source == Source::Configured;
            Candidate { id: *id, configured, blamed: peer.blamed, failures: peer.failures }
        };
        peers.iter().map(candidate).collect()
    }

    /// How many peers are blamed now.
    pub(crate) fn blamed(&self) -> usize {
        self.lock().values().filter(|peer| peer.blamed).count()
    }

    pub(crate) fn all(&self) -> Vec<PeerAddr> {
        self.lock().iter().map(|(id, peer)| PeerAddr { id: *id, addrs: peer.addrs.clone() }).collect()
    }

    /// Peers that we have met, to be passed on, except `to` itself; of many, everybody is told of others.
    pub(crate) fn shareable(&self, to: Option<&PeerId>, max: usize) -> Vec<PeerAddr> {
        let peers = self.lock();
        let met = peers.iter().filter(|(id, peer)| peer.met && !peer.addrs.is_empty() && Some(*id) != to);
        let mut met: Vec<PeerAddr> = met.map(|(id, peer)| PeerAddr { id: *id, addrs: peer.addrs.clone() }).collect();
        if met.len() > max {
            let to = to.copied().unwrap_or_default();
            met.sort_by_cached_key(|peer| *Hash::of(&[to, peer.id].concat()).as_bytes());
            met.truncate(max);
        }
        met
    }

    /// The last problem with each peer that had one.
    pub(crate) fn problems(&self) -> BTreeMap<PeerId, String> {
        self.lock().iter().filter_map(|(id, peer)| Some((*id, peer.problem.clone()?))).collect()
    }

    /// In which order to ask for a blob: `preferred` first, then who has served us fastest; blamed peers and peers that
    /// are away last.
    pub(crate) fn order(&self, preferred: &[PeerId]) -> Vec<PeerId> {
        let peers = self.lock();
        let mut others: Vec<(Option<u64>, PeerId)> = peers.iter().map(|(id, peer)| (peer.rate, *id)).collect();
        others.sort_by_key(|(rate, _)| std::cmp::Reverse(*rate));
        let mut order: Vec<PeerId> = Vec::new();
        for id in preferred.iter().chain(others.iter().map(|(_, id)| id)) {
            if *id != self.own_id && !order.contains(id) {
                order.push(*id);
            }
        }
        // A stable sort keeps the preference among equals.
        order.sort_by_key(|id| peers.get(id).map_or((false, false), |peer| (peer.blamed, peer.failures > 0)));
        order
    }
}

/// Forgets one peer that matters less than one of `source`; says whether it could.
fn make_room(peers: &mut BTreeMap<PeerId, Peer>, source: Source) -> bool {
    let least = peers
        .iter()
        .filter(|(_, peer)| peer.source < source)
        .min_by_key(|(_, peer)| (peer.source, peer.met, std::cmp::Reverse(peer.failures)))
        .map(|(id, _)| *id);
    match least {
        Some(id) => peers.remove(&id).is_some(),
        None => false,
    }
}
