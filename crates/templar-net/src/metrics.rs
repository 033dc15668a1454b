//! The counters of a node's network, for people and for monitoring.
//!
//! iroh counts packets and bytes itself, and [`Net::register_metrics`](crate::Net::register_metrics) adds those
//! counters. The counters here are the ones that only this crate knows. No decision depends on them.

use iroh_metrics::{Counter, Gauge, MetricsGroup};

/// Counters since the start of the node, and gauges that [`Net::refresh_metrics`](crate::Net::refresh_metrics)
/// updates.
#[derive(Debug, MetricsGroup)]
#[metrics(name = "net", default)]
pub struct NetMetrics {
    /// Connections that peers made and this node accepted.
    pub connections_accepted: Counter,
    /// Connections that peers made and this node closed at once, because it had too many.
    pub connections_refused: Counter,
    /// Connections that this node closed because another peer needed the place.
    pub connections_displaced: Counter,
    /// Connections that this node made to read a log.
    pub connections_made: Counter,
    /// Requests for a log that were refused, because they named another run or there was no room.
    pub requests_refused: Counter,
    /// Log entries received. An entry that several peers sent counts each time.
    pub entries_received: Counter,
    /// Bytes of the log entries received.
    pub entry_bytes_received: Counter,
    /// Log entries sent. An entry that was sent to several peers counts each time.
    pub entries_sent: Counter,
    /// Bytes of the log entries sent.
    pub entry_bytes_sent: Counter,
    /// Log entries that were not sent to a peer, because the peer had sent them itself.
    pub entries_spared: Counter,
    /// Logs that were read again from the last milestone.
    pub logs_read_again: Counter,
    /// Bytes of blobs received over the network and verified.
    pub blob_bytes_fetched: Counter,
    /// Calls to fetch blobs that succeeded.
    pub fetches: Counter,
    /// Calls to fetch blobs that failed.
    pub fetches_failed: Counter,
    /// Bytes of blobs sent, with the hashes that prove them.
    pub blob_bytes_sent: Counter,
    /// Requests for blobs that were allowed.
    pub blob_requests_served: Counter,
    /// Requests for blobs that the policy or a limit refused.
    pub blob_requests_refused: Counter,
    /// Peers in the address book.
    pub peers: Gauge,
    /// Peers that are being punished for misbehaviour.
    pub peers_blamed: Gauge,
    /// Peers whose logs this node reads.
    pub neighbours: Gauge,
}
