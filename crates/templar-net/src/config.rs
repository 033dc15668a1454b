//! How a [`Net`](crate::Net) is set up, and every limit that it enforces against its peers.
//!
//! Invariant: each limit bounds something that a peer could otherwise make grow without end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::clock::Clock;
use crate::reach::Reach;

/// What a [`Net`](crate::Net) needs to start.
#[derive(Clone)]
pub struct NetConfig {
    /// The node's ed25519 secret key; its public key is the node's [`PeerId`](crate::PeerId).
    pub secret_key: [u8; 32],
    /// Where to listen; port 0 takes any free one.
    pub bind: SocketAddr,
    /// How it is reached and finds others.
    pub reach: Reach,
    /// The wall clock that peers may compare theirs with.
    pub clock: Option<Clock>,
    /// How fast it sends.
    pub congestion: Congestion,
    /// Bounds on what peers may use.
    pub limits: Limits,
}

/// What decides how fast a connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// BBR (draft-ietf-ccwg-bbr): the rate at which what was sent arrives, measured. A lost packet in a thousand costs nothing. On
    /// a path with less than a millisecond of round trip, where BBR's pace is finer than timers are, CUBIC.
    #[default]
    Bbr,
    /// CUBIC (RFC 9438), QUIC's usual one: every loss is taken for a full queue. With a loss in a thousand and 40 ms of round
    /// trip it stays near 11 Mbit/s, whatever the line could carry.
    Cubic,
}

impl NetConfig {
    /// Listens on any free port of the loopback interface, with the default limits and no clock.
    pub fn loopback(secret_key: [u8; 32]) -> Self {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            secret_key,
            bind,
            reach: Reach::default(),
            clock: None,
            congestion: Congestion::default(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("NetConfig")
            .field("bind", &self.bind)
            .field("reach", &self.reach)
            .field("congestion", &self.congestion)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds on what peers may use, and on how long they are waited for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Peers remembered with their addresses.
    pub max_peers: usize,
    /// Peers whose logs this node reads by its own choice; besides them it reads those of who reads its own.
    pub neighbours: usize,
    /// Peers that may read this node's log at the same time, besides those that it chose itself.
    pub followers: usize,
    /// Connections accepted at the same time, over all peers and per protocol.
    pub max_inbound: usize,
    /// Connections accepted at the same time from one peer and per protocol.
    pub max_inbound_per_peer: usize,
    /// Streams that a peer may have open on one connection.
    pub max_streams: u32,
    /// Requests for blobs served at the same time, over all peers.
    pub max_requests: usize,
    /// Requests for blobs served at the same time to one peer; more are refused as too many.
    pub max_requests_per_peer: usize,
    /// The longest request for blobs that is read, in bytes.
    pub max_request_bytes: u32,
    /// Bytes of blobs that are sent in a second, over all peers; none for as many as are asked for.
    pub upload_bytes_per_second: Option<u64>,
    /// What may wait on one connection in each direction, sent and not confirmed or received and not taken, in bytes.
    pub connection_memory: u32,
    /// What may wait on all connections with one peer that it made; together with `connection_memory` it bounds them.
    pub max_memory_per_peer: u64,
    /// What may wait on all connections that peers made, likewise. Both hold for each protocol.
    pub max_memory: u64,
    /// Peers that blobs are fetched from at the same time.
    pub providers_at_once: usize,
    /// The longest range of a blob that one request asks for, in bytes.
    pub max_range_bytes: u64,
    /// Ranges asked of one peer at a time: two, so that the line is not idle between them.
    pub ranges_per_peer: usize,
    /// Requests of any kind, small blobs among them, that one peer has from us at a time.
    pub requests_per_peer: usize,
    /// Memory for blobs of at most 1 MiB on their way in, in bytes, over all peers.
    pub fetch_memory: u64,
    /// Bytes of blobs that are taken in a second, over all peers; none for as many as come.
    pub download_bytes_per_second: Option<u64>,
    /// Entries pulled and not yet taken by the node; more wait in the network.
    pub entries_in_flight: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a peer may leave a started answer without progress (a frame, a chunk of 16 KiB).
    pub stall_timeout: Duration,
    /// A connection that is silent for so long is dead.
    pub idle_timeout: Duration,
    /// How often a connection shows that it lives.
    pub keep_alive: Duration,
    /// The pause after the first failed attempt to reach a peer; doubled each time.
    pub retry_pause: Duration,
    /// The longest pause between two attempts to reach a peer that is away.
    pub max_retry_pause: Duration,
    /// How long a log is read at least before it is read again from the last milestone; doubled each time.
    pub read_again_pause: Duration,
    /// How long a peer that broke the protocol, or that refused us, is left alone.
    pub misbehaviour_pause: Duration,
}

impl Limits {
    /// How many connections peers may have with us, over all of them and each, in each protocol.
    pub(crate) fn inbound(&self) -> (usize, usize) {
        let fit =
            |memory: u64| usize::try_from(memory / u64::from(self.connection_memory.max(1))).unwrap_or(usize::MAX);
        (self.max_inbound.min(fit(self.max_memory)), self.max_inbound_per_peer.min(fit(self.max_memory_per_peer)))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 256,
            neighbours: 8,
            followers: 48,
            max_inbound: 512,
            max_inbound_per_peer: 8,
            max_streams: 64,
            max_requests: 512,
            max_requests_per_peer: 32,
            max_request_bytes: 64 << 10,
            upload_bytes_per_second: None,
            connection_memory: 8 << 20,
            max_memory_per_peer: 64 << 20,
            max_memory: 1 << 30,
            providers_at_once: 32,
            max_range_bytes: 16 << 20,
            ranges_per_peer: 2,
            requests_per_peer: 16,
            fetch_memory: 64 << 20,
            download_bytes_per_second: None,
            entries_in_flight: 256,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(10),
            // QUIC's usual 30 seconds would leave a fetch hanging on a dead provider.
            idle_timeout: Duration::from_secs(6),
            keep_alive: Duration::from_secs(1),
            retry_pause: Duration::from_millis(50),
            max_retry_pause: Duration::from_secs(5),
            read_again_pause: Duration::from_secs(2),
            misbehaviour_pause: Duration::from_secs(60),
        }
    }
}
