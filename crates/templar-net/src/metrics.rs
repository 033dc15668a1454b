//! What a node's network counts, for whoever watches it.
//!
//! iroh counts packets and bytes of its own accord ([`Net::register_metrics`](crate::Net::register_metrics) adds them);
//! here is what only this crate knows. Nothing reads a counter to decide anything.

use iroh_metrics::{Counter, Gauge, MetricsGroup};

/// Counters since the start, and states as they were when last asked for.
#[derive(Debug, MetricsGroup)]
#[metrics(name = "net", default)]
pub struct NetMetrics {
    /// Connections that peers made and this node accepted.
    pub connections_accepted: Counter,
    /// Connections that peers made and this node closed at once, since it had too many.
    pub connections_refused: Counter,
    /// Connections that this node made to read a log.
    pub connections_made: Counter,
    /// Requests for a log that were refused: another run, or no room.
    pub requests_refused: Counter,
    /// Log entries that arrived, the same one from several peers counted each time.
    pub entries_received: Counter,
    /// Their bytes.
    pub entry_bytes_received: Counter,
    /// Log entries that were sent, the same one to several peers counted each time.
    pub entries_sent: Counter,
    /// Their bytes.
    pub entry_bytes_sent: Counter,
    /// Log entries that were not sent to who had sent them.
    pub entries_spared: Counter,
    /// Logs that were read again from the last milestone.
    pub logs_read_again: Counter,
    /// Bytes of blobs that came over the network and verified.
    pub blob_bytes_fetched: Counter,
    /// Calls that fetched blobs, successful ones.
    pub fetches: Counter,
    /// Calls that fetched blobs and failed.
    pub fetches_failed: Counter,
    /// Bytes of blobs, with the hashes that prove them, that were sent.
    pub blob_bytes_sent: Counter,
    /// Requests for blobs that were allowed.
    pub blob_requests_served: Counter,
    /// Requests for blobs that the policy or a limit refused.
    pub blob_requests_refused: Counter,
    /// Peers in the address book.
    pub peers: Gauge,
    /// Peers that are left alone for what they did.
    pub peers_blamed: Gauge,
    /// Peers whose logs this node reads.
    pub neighbours: Gauge,
}
