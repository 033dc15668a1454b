//! The configuration of a [`Net`](crate::Net): its key, its address, and every limit that it enforces against
//! its peers.
//!
//! Invariant: each limit bounds something that a peer could otherwise make grow without end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::peers::discovery::Discovery;

/// A wall clock that returns milliseconds since 1970, UTC.
pub type Clock = fn() -> u64;

/// Everything that [`Net::bind`](crate::Net::bind) needs to start a node's endpoint.
#[derive(Clone)]
pub struct NetConfig {
    /// The node's ed25519 secret key (32 bytes). Its public key is the node's [`PeerId`](crate::PeerId).
    pub secret_key: [u8; 32],
    /// The UDP address to listen on. Port 0 takes any free port.
    pub bind: SocketAddr,
    /// The ways in which this node and its peers find each other.
    pub discovery: Discovery,
    /// The wall clock that is sent to peers, so that they can compare it with theirs. `None` sends no time.
    pub clock: Option<Clock>,
    /// The algorithm that decides how fast a connection sends.
    pub congestion: Congestion,
    /// The resources that peers may use.
    pub limits: NetLimits,
}

/// The congestion control algorithm of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// BBR (draft-ietf-ccwg-bbr) sends at the rate at which packets were delivered, so a loss of one packet in
    /// a thousand costs nothing. A path with a round trip below one millisecond gets CUBIC instead, because
    /// BBR's pacing needs finer timers than an operating system has.
    #[default]
    Bbr,
    /// CUBIC (RFC 9438) is QUIC's usual algorithm. It takes every loss for a full queue: with one loss in a
    /// thousand and a round trip of 40 ms it sends about 11 Mbit/s, however fast the link is.
    Cubic,
}

impl NetConfig {
    /// Listens on any free port of the loopback interface, with default limits, no clock and no discovery.
    pub fn loopback(secret_key: [u8; 32]) -> Self {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            secret_key,
            bind,
            discovery: Discovery::default(),
            clock: None,
            congestion: Congestion::default(),
            limits: NetLimits::default(),
        }
    }
}

impl std::fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret key must not get into a log.
        f.debug_struct("NetConfig")
            .field("bind", &self.bind)
            .field("discovery", &self.discovery)
            .field("congestion", &self.congestion)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The bounds on the resources that peers may use, and on the time that this node waits for them.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// The largest number of strangers in the address book. A peer that takes part in the run does not count.
    pub max_peers: usize,
    /// Connections and the memory that they hold.
    pub connections: ConnectionLimits,
    /// Blobs that this node sends.
    pub serving: ServingLimits,
    /// Blobs that this node fetches.
    pub fetching: FetchingLimits,
    /// Logs that this node reads, and that peers read from it.
    pub sync: SyncLimits,
    /// The longest waits for a peer before it counts as gone.
    pub timeouts: Timeouts,
    /// The pauses before a peer is tried again.
    pub pauses: Pauses,
}

/// The bounds on connections. Those on inbound connections hold for each of the three protocols separately.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The largest number of open connections that peers made, over all peers.
    pub max_inbound: usize,
    /// The largest number of open connections that one peer made.
    pub max_inbound_per_peer: usize,
    /// The largest number of streams that a peer may have open on one connection.
    pub max_streams: u32,
    /// The bytes that one connection may buffer in each direction: sent and not yet acknowledged, or received
    /// and not yet read.
    pub memory: u32,
    /// The bytes that all connections which one peer made may buffer together. One connection counts `memory`
    /// bytes.
    pub max_memory_per_peer: u64,
    /// The bytes that all connections which peers made may buffer together. One connection counts `memory`
    /// bytes.
    pub max_memory: u64,
}

/// The bounds on serving blobs.
#[derive(Debug, Clone)]
pub struct ServingLimits {
    /// The largest number of requests served at the same time, over all peers.
    pub max_requests: usize,
    /// The largest number of requests served at the same time to one peer. Further ones are refused.
    pub max_requests_per_peer: usize,
    /// The longest request that is read, in bytes.
    pub max_request_bytes: u32,
    /// The bytes of blobs sent per second, over all peers. `None` sets no bound.
    pub bytes_per_second: Option<u64>,
}

/// The bounds on fetching blobs.
#[derive(Debug, Clone)]
pub struct FetchingLimits {
    /// The largest number of peers that blobs are fetched from at the same time.
    pub providers_at_once: usize,
    /// The longest range of a blob that one request asks for, in bytes.
    pub max_range_bytes: u64,
    /// The number of ranges requested from one peer at a time. With two, the connection is busy while the next
    /// request is on its way.
    pub ranges_per_peer: usize,
    /// The number of requests of any kind, small blobs included, that one peer has from this node at a time.
    pub requests_per_peer: usize,
    /// The memory for blobs of at most 1 MiB that are arriving, in bytes, over all peers.
    pub memory: u64,
    /// The bytes of blobs accepted per second, over all peers. `None` sets no bound.
    pub bytes_per_second: Option<u64>,
}

/// The bounds on reading logs.
#[derive(Debug, Clone)]
pub struct SyncLimits {
    /// The number of peers whose logs this node chooses to read. It also reads the logs of the peers that read
    /// its own.
    pub neighbours: usize,
    /// The number of strangers that may read this node's log at the same time, in addition to the chosen
    /// neighbours and to the peers that take part in the run.
    pub followers: usize,
    /// The number of received entries that wait for the node to take them. Further ones wait in the network.
    pub entries_in_flight: usize,
    /// The shortest time for which a log is read before [`Net::read_again`](crate::Net::read_again) takes
    /// effect. It doubles each time, and is this again when the log was read for four times as long.
    pub read_again_pause: Duration,
}

/// The longest waits for a peer.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// The longest time to establish a connection.
    pub connect: Duration,
    /// The longest time without progress while an answer arrives. Progress is one frame, or one chunk of 16
    /// KiB.
    pub stall: Duration,
    /// The time after which a silent connection counts as dead.
    pub idle: Duration,
    /// The interval at which a connection sends a sign of life.
    pub keep_alive: Duration,
}

/// The pauses between attempts to talk to a peer.
#[derive(Debug, Clone)]
pub struct Pauses {
    /// The pause after the first failed attempt to reach a peer. It doubles each time.
    pub retry: Duration,
    /// The longest pause between two attempts to reach a peer.
    pub max_retry: Duration,
    /// The time for which a peer is left alone after it broke the protocol or belonged to another run.
    pub misbehaviour: Duration,
}

impl ConnectionLimits {
    /// The largest numbers of inbound connections per protocol: over all peers, and from one peer.
    ///
    /// The memory bounds count here, too: 64 MiB per peer and 8 MiB per connection allow eight connections.
    pub(crate) fn inbound(&self) -> (usize, usize) {
        let fit = |memory: u64| usize::try_from(memory / u64::from(self.memory.max(1))).unwrap_or(usize::MAX);
        (self.max_inbound.min(fit(self.max_memory)), self.max_inbound_per_peer.min(fit(self.max_memory_per_peer)))
    }
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            max_peers: 256,
            connections: ConnectionLimits::default(),
            serving: ServingLimits::default(),
            fetching: FetchingLimits::default(),
            sync: SyncLimits::default(),
            timeouts: Timeouts::default(),
            pauses: Pauses::default(),
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_inbound: 512,
            max_inbound_per_peer: 8,
            max_streams: 64,
            memory: 8 << 20,
            max_memory_per_peer: 64 << 20,
            max_memory: 1 << 30,
        }
    }
}

impl Default for ServingLimits {
    fn default() -> Self {
        Self { max_requests: 512, max_requests_per_peer: 32, max_request_bytes: 64 << 10, bytes_per_second: None }
    }
}

impl Default for FetchingLimits {
    fn default() -> Self {
        Self {
            providers_at_once: 32,
            max_range_bytes: 16 << 20,
            ranges_per_peer: 2,
            requests_per_peer: 16,
            memory: 64 << 20,
            bytes_per_second: None,
        }
    }
}

impl Default for SyncLimits {
    fn default() -> Self {
        Self { neighbours: 8, followers: 48, entries_in_flight: 256, read_again_pause: Duration::from_secs(2) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            // QUIC's usual 30 seconds would leave a fetch waiting for a dead provider.
            idle: Duration::from_secs(6),
            keep_alive: Duration::from_secs(1),
        }
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            retry: Duration::from_millis(50),
            max_retry: Duration::from_secs(5),
            misbehaviour: Duration::from_secs(60),
        }
    }
}
