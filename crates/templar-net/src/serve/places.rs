//! The places for connections that peers make in one protocol.
//!
//! # Who gets a place
//!
//! Keys are free, so a bound per key alone lets sixteen keys shut the door for everybody. These are the rules:
//!
//! - Strangers hold at most half of the places. A peer on the [`Roll`] finds room beside any number of them.
//! - Where there is no room, a newcomer may take the place of another. It may always take that of a peer with a lesser
//!   standing. Among equals it may take an idle place: one on which no request has been open for [`GRACE`].
//! - A stranger may also take a busy place from an address that holds at least two places more than its own would. So
//!   one address, with whatever number of keys, cannot keep other addresses out.
//! - Of all places that it may take, it takes one of the least standing, then an idle one, then one of the address and
//!   of the peer that hold the most, then the one that has been idle longest.
//!
//! An attacker at many addresses can still take turns with honest strangers. It cannot touch those on the roll.
//!
//! Invariant: every admitted connection holds a [`Place`], and dropping it frees the room.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::TransportAddr;
use iroh::endpoint::{Connection, VarInt, WeakConnectionHandle};
use tokio::time::Instant;

use crate::config::ConnectionLimits;
use crate::metrics::NetMetrics;
use crate::peers::connections::Connections;
use crate::peers::peer::PeerId;
use crate::peers::roll::{Roll, Standing};

/// The time for which a connection keeps its place although it has no request open.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// The entrance for connections that peers make in one protocol.
#[derive(Debug, Clone)]
pub(crate) struct Inbound {
    places: Arc<Places>,
    roll: Roll,
    connections: Arc<Connections>,
    metrics: Arc<NetMetrics>,
}

impl Inbound {
    /// An entrance with places of its own.
    pub(crate) fn new(
        limits: &ConnectionLimits,
        roll: Roll,
        connections: Arc<Connections>,
        metrics: Arc<NetMetrics>,
    ) -> Self {
        let (max, max_per_peer) = limits.inbound();
        Self { places: Arc::new(Places::new(max, max_per_peer)), roll, connections, metrics }
    }

    /// Admits a connection that a peer made. Where there is no room, and no place that it may take, it closes the
    /// connection with the code `busy`. A connection whose place is taken is closed with the same code.
    pub(crate) fn admit(&self, connection: &Connection, busy: VarInt) -> Option<Place> {
        let peer = *connection.remote_id().as_bytes();
        let guest = Guest { peer, standing: self.roll.standing(&peer), network: network_of(connection) };
        let Some((place, displaced)) = self.places.admit(guest, Some(connection.weak_handle()), Instant::now()) else {
            self.metrics.connections_refused.inc();
            connection.close(busy, b"too many connections");
            return None;
        };
        if let Some(displaced) = displaced.and_then(|handle| handle.upgrade()) {
            self.metrics.connections_displaced.inc();
            displaced.close(busy, b"another peer needs the place");
        }
        self.metrics.connections_accepted.inc();
        self.connections.add(connection);
        Some(place)
    }
}

/// The part of an address that one host is usually given: an IPv4 address, or the first 64 bits of an IPv6 address.
/// `None` where there is no address, as behind a relay.
type Network = Option<IpAddr>;

/// The network at the other end of the path that a connection uses.
fn network_of(connection: &Connection) -> Network {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next());
    match path.as_ref().map(|path| path.remote_addr()) {
        Some(TransportAddr::Ip(addr)) => Some(network(addr.ip())),
        _ => None,
    }
}

fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// A peer that asks for a place, or has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    pub(crate) peer: PeerId,
    pub(crate) standing: Standing,
    pub(crate) network: Network,
}

/// A place that is taken.
#[derive(Debug)]
struct Taken {
    guest: Guest,
    /// The number of requests that are open on the connection.
    busy: usize,
    /// The time at which the last request ended, or the connection came.
    since: Instant,
    /// The connection. `None` in tests of the rules alone.
    connection: Option<WeakConnectionHandle>,
}

impl Taken {
    fn is_idle(&self, now: Instant) -> bool {
        self.busy == 0 && now.duration_since(self.since) >= GRACE
    }
}

/// The places of one protocol, and who has them.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_peer: usize,
    taken: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    places: BTreeMap<u64, Taken>,
}

impl Table {
    fn count(&self, is_counted: impl Fn(&Guest) -> bool) -> usize {
        self.places.values().filter(|taken| is_counted(&taken.guest)).count()
    }

    /// The place that the newcomer takes, if it may take any.
    fn place_for(&self, newcomer: &Guest, now: Instant) -> Option<u64> {
        let (mut of_network, mut of_peer) = (BTreeMap::<Network, usize>::new(), BTreeMap::<PeerId, usize>::new());
        for taken in self.places.values() {
            *of_network.entry(taken.guest.network).or_default() += 1;
            *of_peer.entry(taken.guest.peer).or_default() += 1;
        }
        let own = of_network.get(&newcomer.network).copied().unwrap_or(0);
        let may_take = |taken: &Taken| {
            let least = newcomer.standing == Standing::Stranger;
            let equal = taken.guest.standing == newcomer.standing;
            let is_crowded = of_network[&taken.guest.network] > own + 1;
            taken.guest.standing < newcomer.standing || (equal && (taken.is_idle(now) || (least && is_crowded)))
        };
        let order = |taken: &Taken| {
            let (crowd, held) = (of_network[&taken.guest.network], of_peer[&taken.guest.peer]);
            (taken.guest.standing, !taken.is_idle(now), Reverse(crowd), Reverse(held), taken.since)
        };
        let open = self.places.iter().filter(|(_, taken)| may_take(taken));
        open.min_by_key(|(_, taken)| order(taken)).map(|(number, _)| *number)
    }
}

impl Places {
    /// At most `max` places over all peers, and at most `max_per_peer` for each.
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Self {
        Self { max, max_per_peer, taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every critical section leaves the table consistent, so a panic in another thread does not spoil it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the newcomer a place, if there is room or if it may take another's. The connection of the one that lost
    /// its place is returned, to be closed.
    pub(crate) fn admit(
        self: &Arc<Self>,
        newcomer: Guest,
        connection: Option<WeakConnectionHandle>,
        now: Instant,
    ) -> Option<(Place, Option<WeakConnectionHandle>)> {
        let mut table = self.lock();
        if table.count(|guest| guest.peer == newcomer.peer) >= self.max_per_peer {
            return None;
        }
        let strangers = table.count(|guest| guest.standing == Standing::Stranger);
        let no_share = newcomer.standing == Standing::Stranger && strangers >= self.max.div_ceil(2);
        let mut displaced = None;
        if no_share || table.places.len() >= self.max {
            let number = table.place_for(&newcomer, now)?;
            displaced = table.places.remove(&number).and_then(|taken| taken.connection);
        }
        let number = table.next;
        table.next += 1;
        table.places.insert(number, Taken { guest: newcomer, busy: 0, since: now, connection });
        Some((Place { places: self.clone(), number }, displaced))
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Place {
    /// Marks the connection as busy until the guard is dropped: a request is open on it.
    pub(crate) fn busy(&self) -> Busy {
        let busy = Busy { places: self.places.clone(), number: self.number };
        busy.change(|taken| taken.busy += 1);
        busy
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Another connection may have the room already, under another number.
        self.places.lock().places.remove(&self.number);
    }
}

/// A request that is open on a connection.
#[derive(Debug)]
pub(crate) struct Busy {
    places: Arc<Places>,
    number: u64,
}

impl Busy {
    fn change(&self, change: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.places.lock().places.get_mut(&self.number) {
            change(taken);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.change(|taken| {
            taken.busy -= 1;
            taken.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(peer: u8, standing: Standing, host: u8) -> Guest {
        Guest { peer: [peer; 32], standing, network: Some([10, 0, 0, host].into()) }
    }

    /// The fate of a guest that comes at `now`: it is refused, it finds room, or it takes another's place.
    fn comes(places: &Arc<Places>, guest: Guest, now: Instant) -> (&'static str, Option<Place>) {
        let before = places.lock().places.len();
        match places.admit(guest, None, now) {
            None => ("refused", None),
            Some((place, _)) if places.lock().places.len() > before => ("room", Some(place)),
            Some((place, _)) => ("takes", Some(place)),
        }
    }

    #[test]
    fn strangers_hold_half_and_the_roll_finds_room() {
        let (places, now) = (Arc::new(Places::new(4, 2)), Instant::now());
        let (first, _a) = comes(&places, guest(1, Standing::Stranger, 1), now);
        let (second, _b) = comes(&places, guest(2, Standing::Stranger, 1), now);
        assert_eq!((first, second), ("room", "room"));
        assert_eq!(comes(&places, guest(3, Standing::Stranger, 1), now).0, "refused", "half is taken, nobody is idle");
        let (third, _c) = comes(&places, guest(4, Standing::Member, 1), now);
        let (fourth, _d) = comes(&places, guest(4, Standing::Member, 1), now);
        assert_eq!((third, fourth), ("room", "room"));
        assert_eq!(comes(&places, guest(4, Standing::Member, 1), now).0, "refused", "two for each peer");
        let (takes, _e) = comes(&places, guest(5, Standing::Member, 1), now);
        let (again, _f) = comes(&places, guest(6, Standing::Validator, 1), now);
        assert_eq!((takes, again), ("takes", "takes"), "those on the roll take the places of strangers");
        assert_eq!(places.lock().count(|guest| guest.standing == Standing::Stranger), 0);
        assert_eq!(comes(&places, guest(7, Standing::Member, 1), now).0, "refused", "nobody is less or idle");
        assert_eq!(comes(&places, guest(8, Standing::Validator, 1), now).0, "takes", "a validator takes a member's");
    }

    #[test]
    fn a_stranger_takes_an_idle_place_and_no_busy_one() {
        let (places, start) = (Arc::new(Places::new(4, 2)), Instant::now());
        let held: Vec<Place> =
            [1, 2].into_iter().filter_map(|peer| comes(&places, guest(peer, Standing::Stranger, 1), start).1).collect();
        let busy = held[0].busy();
        assert_eq!(comes(&places, guest(3, Standing::Stranger, 1), start).0, "refused", "the other has just come");
        let later = start + GRACE;
        let (takes, third) = comes(&places, guest(3, Standing::Stranger, 1), later);
        assert_eq!(takes, "takes");
        let third = third.map(|place| (place.busy(), place));
        let much_later = later + GRACE * 100;
        assert_eq!(comes(&places, guest(4, Standing::Stranger, 1), much_later).0, "refused", "both are busy");
        // Another address takes a busy place, for the first address holds two.
        assert_eq!(comes(&places, guest(4, Standing::Stranger, 2), much_later).0, "takes");
        drop((busy, third));
        // The places whose holders lost them are not freed twice.
        assert!(places.lock().places.len() <= 2);
        drop(held);
        assert_eq!(places.lock().places.len(), 0);
    }

    #[test]
    fn one_host_is_one_network() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8:1:2:3:4:5:6"), at("2001:db8:1:2::9"));
        assert_ne!(at("2001:db8:1:2::9"), at("2001:db8:1:3::9"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.2"), at("10.0.0.1"));
    }
}
