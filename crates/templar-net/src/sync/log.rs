//! A node's log as the network sees it: numbered entries, without their meaning.
//!
//! Invariant: entries are numbered in the order in which the node accepted them, and a number never gets
//! another entry.

use bytes::Bytes;
use templar_manifest::Hash;
use tokio::sync::watch;

/// The entries that this node has accepted, in that order. The sync protocol serves them to peers.
///
/// Entries are numbered from 1 and are never renumbered. They are opaque to the network, and each is at most
/// [`MAX_ENTRY_BYTES`](crate::MAX_ENTRY_BYTES) long. All methods are called from async tasks and must not
/// block.
///
/// A *milestone* is a point that every node passes, also where logs differ in the order of their entries. An example is
/// the close of a window. A node that has passed it needs no entry that any log has before it. A reader therefore
/// names the milestones that it has passed, and is sent only the entries behind the latest one that both sides
/// know.
pub trait Log: Send + Sync + 'static {
    /// The run that the log belongs to.
    fn run(&self) -> Hash;

    /// The entries with a number above `seq`, ascending, each with its number.
    ///
    /// There are at most `max_entries`, of at most `max_bytes` bytes in all. The first is always included,
    /// however long.
    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)>;

    /// The number of the last entry. The channel reports every change.
    fn changed(&self) -> watch::Receiver<u64>;

    /// At most `max` milestones that this log has reached, newest first. The gaps between earlier ones grow.
    fn milestones(&self, max: usize) -> Vec<Hash> {
        let _ = max;
        Vec::new()
    }

    /// The number of the last entry that a reader past `milestone` may skip. `None` if this log has not reached
    /// it.
    fn reached(&self, milestone: &Hash) -> Option<u64> {
        let _ = milestone;
        None
    }
}

/// A log without entries, for nodes that only fetch.
#[derive(Debug)]
pub struct EmptyLog {
    run: Hash,
    last: watch::Sender<u64>,
}

impl EmptyLog {
    /// The empty log of `run`.
    pub fn new(run: Hash) -> Self {
        Self { run, last: watch::Sender::new(0) }
    }
}

impl Log for EmptyLog {
    fn run(&self) -> Hash {
        self.run
    }

    fn after(&self, _seq: u64, _max_entries: usize, _max_bytes: usize) -> Vec<(u64, Bytes)> {
        Vec::new()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}
