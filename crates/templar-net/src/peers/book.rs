//! The address book: which peers exist, where they may be reached, and how they behaved.
//!
//! Invariant: no words of peers make the book exceed its bound. A configured peer outlives a peer that announced
//! itself, which outlives a peer that others mentioned. A peer on the [`Roll`] outlives them all, except the
//! configured ones, and takes none of their places. Among strangers that announced themselves one that has served this
//! node outlives one that has not, and a newcomer takes the place of the one that called longest ago. Only peers that
//! this node has met are passed on, so invented addresses do not spread. Addresses need no trust: a connection proves
//! the peer's id or fails.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iroh::{EndpointAddr, RelayUrl};
use templar_manifest::Hash;
use tokio::sync::watch;

use crate::foreign::ForeignText;
use crate::peers::peer::{Addr, MAX_ADDRS, PeerAddr, PeerId};
use crate::peers::reach::can_send;
use crate::peers::roll::Roll;

/// The number of failed attempts after which a neighbour is replaced by another peer, if there is one.
pub(crate) const PATIENT_ATTEMPTS: u32 = 3;

/// The number of failed attempts after which a peer known by hearsay only, and never met, is forgotten.
const ATTEMPTS_FOR_HEARSAY: u32 = 5;

/// The number of places kept for hearsay among the addresses of a peer that is known better.
const HEARSAY_ADDRS: usize = 2;

/// A peer in the book, as far as the choice of neighbours needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: PeerId,
    /// Whether a ticket or the node's configuration named it.
    pub(crate) configured: bool,
    /// Whether it is being punished.
    pub(crate) blamed: bool,
    /// The number of failed attempts to reach it since the last connection with it.
    pub(crate) failures: u32,
}

/// The source of a peer's addresses. A later variant is stronger than an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddrSource {
    /// Another peer told us.
    Heard,
    /// The peer itself told us, over a connection that proves its id.
    Announced,
    /// A ticket or the node's configuration.
    Configured,
}

#[derive(Debug, Clone)]
struct BookEntry {
    /// Best first, at most [`MAX_ADDRS`].
    addrs: Vec<Addr>,
    /// The strongest source that has named this peer.
    source: AddrSource,
    /// Whether a connection with the peer has existed.
    met: bool,
    /// The number of failed attempts to reach the peer since the last connection with it.
    failures: u32,
    /// Counts the times that the peer contacted us or a new address became known. A change is a reason to try
    /// it at once.
    contacts: u64,
    /// The bytes per second that one request for a blob brought when the peer last served us.
    rate: Option<u64>,
    /// Whether it is being punished for breaking a protocol or sending wrong bytes.
    blamed: bool,
    /// The last problem with the peer, as text for people.
    problem: Option<ForeignText>,
    /// The place of the peer's last call among all calls. A call is an announcement by the peer itself.
    called: u64,
}

/// The address book of a node.
#[derive(Debug)]
pub(crate) struct Book {
    own_id: PeerId,
    max_peers: usize,
    /// The peers that have a place by right, and do not count.
    roll: Roll,
    /// The number of calls so far.
    calls: AtomicU64,
    /// The relays that this node may use. It never connects to another relay that a peer names.
    relays: BTreeSet<RelayUrl>,
    /// Whether a name service can find a peer by its id alone.
    looks_up: bool,
    /// The sockets of this node. Without any, every address counts as one that it can send to.
    sockets: Vec<SocketAddr>,
    peers: Mutex<BTreeMap<PeerId, BookEntry>>,
    /// Counts changes of the book, so that tasks can wait for one.
    changes: watch::Sender<u64>,
}

impl Book {
    /// An empty book of at most `max_peers` strangers, without relays or a name service.
    pub(crate) fn new(own_id: PeerId, max_peers: usize) -> Self {
        Self {
            own_id,
            max_peers,
            roll: Roll::default(),
            calls: AtomicU64::new(0),
            relays: BTreeSet::new(),
            looks_up: false,
            sockets: Vec::new(),
            peers: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// The same book with the relays that may be used, and whether a name service can find a peer by its id.
    pub(crate) fn reaching(mut self, relays: BTreeSet<RelayUrl>, looks_up: bool) -> Self {
        (self.relays, self.looks_up) = (relays, looks_up);
        self
    }

    /// The same book for a node that sends from these sockets.
    pub(crate) fn sending_from(mut self, sockets: Vec<SocketAddr>) -> Self {
        self.sockets = sockets;
        self
    }

    /// The standing of the peers.
    pub(crate) fn roll(&self) -> &Roll {
        &self.roll
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, BookEntry>> {
        // Every critical section leaves the map consistent, so a panic in another thread does not spoil it.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes the tasks that wait for a change, although the book itself has not changed.
    pub(crate) fn wake(&self) {
        self.bump();
    }

    /// A channel that reports the changes of the book from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Adds a peer's addresses, which must have been checked. Returns whether the peer is now in the book.
    pub(crate) fn learn(&self, addr: PeerAddr, source: AddrSource) -> bool {
        if addr.id == self.own_id {
            return false;
        }
        let mut peers = self.lock();
        if !peers.contains_key(&addr.id) && !self.has_room(&mut peers, &addr.id, source) {
            return false;
        }
        let peer = peers.entry(addr.id).or_insert_with(|| BookEntry {
            addrs: Vec::new(),
            source,
            met: false,
            failures: 0,
            contacts: 0,
            rate: None,
            blamed: false,
            problem: None,
            called: 0,
        });
        if source == AddrSource::Announced {
            peer.called = self.calls.fetch_add(1, Ordering::Relaxed);
        }
        let before = peer.addrs.clone();
        // Hearsay does not displace addresses from the peer itself or from our configuration, but it is tried
        // in addition to them: other nodes learn first that a peer has moved while we were away.
        let displaces = source != AddrSource::Heard || peer.source == AddrSource::Heard || peer.addrs.is_empty();
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
        let news = peer.addrs != before && (source == AddrSource::Configured || peer.failures > 0);
        if source == AddrSource::Announced || news {
            peer.contacts = peer.contacts.wrapping_add(1);
        }
        drop(peers);
        self.bump();
        true
    }

    /// Records that a connection with the peer exists.
    pub(crate) fn met(&self, id: &PeerId) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.met = true;
            peer.failures = 0;
        }
    }

    /// Records that the peer could not be reached, or that the connection ended. Forgets a peer known by
    /// hearsay only after [`ATTEMPTS_FOR_HEARSAY`] failures.
    pub(crate) fn unreachable(&self, id: &PeerId, problem: impl Display) {
        let problem = ForeignText::of(problem);
        let mut peers = self.lock();
        let Some(peer) = peers.get_mut(id) else { return };
        peer.failures = peer.failures.saturating_add(1);
        peer.problem = Some(problem);
        if peer.source == AddrSource::Heard && !peer.met && peer.failures >= ATTEMPTS_FOR_HEARSAY {
            peers.remove(id);
        } else if !peer.failures.is_multiple_of(PATIENT_ATTEMPTS) {
            return;
        }
        drop(peers);
        self.bump();
    }

    /// Records a problem that deserves no punishment.
    pub(crate) fn note(&self, id: &PeerId, problem: impl Display) {
        let problem = ForeignText::of(problem);
        if let Some(peer) = self.lock().get_mut(id) {
            peer.problem = Some(problem);
        }
        self.bump();
    }

    /// Records that the peer misbehaved. Until it is pardoned, its log is not read and it is asked last for
    /// blobs.
    pub(crate) fn blame(&self, id: &PeerId, problem: impl Display) {
        let problem = ForeignText::of(problem);
        if let Some(peer) = self.lock().get_mut(id) {
            peer.blamed = true;
            peer.problem = Some(problem);
        }
        self.bump();
    }

    /// Ends the punishment of a peer.
    pub(crate) fn pardon(&self, id: &PeerId) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.blamed = false;
        }
    }

    /// Whether the peer is being punished.
    pub(crate) fn is_blamed(&self, id: &PeerId) -> bool {
        self.lock().get(id).is_some_and(|peer| peer.blamed)
    }

    /// Records the rate at which the peer served us, in bytes per second of one request.
    pub(crate) fn served(&self, id: &PeerId, rate: u64) {
        if let Some(peer) = self.lock().get_mut(id) {
            peer.rate = Some(rate);
        }
    }

    /// The rate at which the peer last served us, in bytes per second of one request.
    pub(crate) fn rate(&self, id: &PeerId) -> Option<u64> {
        self.lock().get(id)?.rate
    }

    /// The number of times that the peer contacted us or got a new address. `None` if it is not in the book.
    pub(crate) fn contacts(&self, id: &PeerId) -> Option<u64> {
        self.lock().get(id).map(|peer| peer.contacts)
    }

    #[cfg(test)]
    pub(crate) fn failures(&self, id: &PeerId) -> u32 {
        self.lock().get(id).map_or(0, |peer| peer.failures)
    }

    /// The addresses of a peer in the book.
    pub(crate) fn addr(&self, id: &PeerId) -> Option<PeerAddr> {
        self.lock().get(id).map(|peer| PeerAddr { id: *id, addrs: peer.addrs.clone() })
    }

    /// The addresses at which this node can dial a peer. With an open connection to the peer (`is_connected`), every
    /// address is given, since the connection itself shows a way that leads there.
    ///
    /// # Errors
    /// The reason why the peer cannot be dialled, as text for people.
    pub(crate) fn dial(&self, id: &PeerId, is_connected: bool) -> Result<EndpointAddr, String> {
        let mut addr = self.addr(id).ok_or("it is not known")?;
        let (usable, others): (Vec<Addr>, Vec<Addr>) = addr.addrs.drain(..).partition(|addr| match addr {
            Addr::Ip(addr) => {
                is_connected || self.sockets.is_empty() || self.sockets.iter().any(|socket| can_send(*socket, *addr))
            }
            Addr::Relay(url) => self.relays.contains(url),
        });
        addr.addrs = usable;
        if addr.addrs.is_empty() && !self.looks_up {
            return Err(self.why_not(&others));
        }
        Ok(addr.to_endpoint_addr().ok_or("not a valid key")?)
    }

    /// The reason why this node can dial none of a peer's addresses, as text for people.
    fn why_not(&self, addrs: &[Addr]) -> String {
        let list = |addrs: Vec<String>| addrs.join(", ");
        let at = list(addrs.iter().map(ToString::to_string).collect());
        if addrs.is_empty() {
            return "no address of it is known".to_owned();
        }
        if addrs.iter().all(|addr| addr.ip().is_none()) {
            return format!("it is reached through the relay {at} alone, and this node does not use that relay");
        }
        let from = list(self.sockets.iter().map(ToString::to_string).collect());
        format!("this node listens at {from} alone and cannot send from there to {at}")
    }

    /// All peers, as candidates for neighbours.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let peers = self.lock();
        let candidate = |(id, peer): (&PeerId, &BookEntry)| {
            let configured = peer.source == AddrSource::Configured;
            Candidate { id: *id, configured, blamed: peer.blamed, failures: peer.failures }
        };
        peers.iter().map(candidate).collect()
    }

    /// The number of peers that are being punished.
    pub(crate) fn blamed(&self) -> usize {
        self.lock().values().filter(|peer| peer.blamed).count()
    }

    /// All peers in the book with their addresses, those with the best standing first.
    pub(crate) fn all(&self) -> Vec<PeerAddr> {
        let peers = self.lock();
        let all = peers.iter().map(|(id, peer)| PeerAddr { id: *id, addrs: peer.addrs.clone() });
        let mut all: Vec<PeerAddr> = all.collect();
        drop(peers);
        all.sort_by_key(|peer| Reverse(self.roll.standing(&peer.id)));
        all
    }

    /// At most `max` peers that we have met, to be told to the peer `to`, which is left out.
    ///
    /// If there are more, the choice depends on `to`, so that different peers hear of different ones.
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

    /// The last problem with each peer that had one, as text for people.
    pub(crate) fn problems(&self) -> BTreeMap<PeerId, ForeignText> {
        self.lock().iter().filter_map(|(id, peer)| Some((*id, peer.problem.clone()?))).collect()
    }

    /// All peers in the order in which they are asked for a blob.
    ///
    /// `preferred` peers come first, then the others by the rate at which they served us. Peers that are away
    /// come after these, and blamed peers last.
    pub(crate) fn order(&self, preferred: &[PeerId]) -> Vec<PeerId> {
        let peers = self.lock();
        let mut others: Vec<(Option<u64>, PeerId)> = peers.iter().map(|(id, peer)| (peer.rate, *id)).collect();
        others.sort_by_key(|(rate, _)| Reverse(*rate));
        let mut order: Vec<PeerId> = Vec::new();
        for id in preferred.iter().chain(others.iter().map(|(_, id)| id)) {
            if *id != self.own_id && !order.contains(id) {
                order.push(*id);
            }
        }
        // The sort is stable, so it keeps this order among peers of the same standing.
        order.sort_by_key(|id| peers.get(id).map_or((false, false), |peer| (peer.blamed, peer.failures > 0)));
        order
    }

    /// Whether there is room for a newcomer, which it may have made by forgetting a stranger that matters less.
    fn has_room(&self, peers: &mut BTreeMap<PeerId, BookEntry>, newcomer: &PeerId, source: AddrSource) -> bool {
        if !self.roll.is_stranger(newcomer) {
            return true;
        }
        let strangers: Vec<_> = peers.iter().filter(|(id, _)| self.roll.is_stranger(id)).collect();
        if strangers.len() < self.max_peers {
            return true;
        }
        let matters_less = |peer: &BookEntry| {
            let calls_too = source == AddrSource::Announced && peer.source == source && peer.rate.is_none();
            peer.source < source || calls_too
        };
        let least = strangers
            .into_iter()
            .filter(|(_, peer)| matters_less(peer))
            .min_by_key(|(_, peer)| (peer.source, peer.met, Reverse(peer.failures), peer.called))
            .map(|(id, _)| *id);
        least.is_some_and(|id| peers.remove(&id).is_some())
    }
}
