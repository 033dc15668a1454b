//! The parts of a replica that peers get: its log of entries, and the blobs that the rules allow.

use std::sync::Arc;

use bytes::Bytes;
use templar_home::entry_log::EntryLog;
use templar_home::replica::{AfterTheCut, Replica};
use templar_manifest::Hash;
use templar_net::{Log, PeerId, ServePolicy};
use tokio::sync::watch;

/// A replica's entries, as peers pull them.
#[derive(Debug)]
pub struct ServedLog(Arc<EntryLog>);

impl ServedLog {
    /// The log of `replica`, which grows with it.
    pub fn of(replica: &Replica) -> Arc<Self> {
        Arc::new(Self(replica.log()))
    }
}

impl Log for ServedLog {
    fn run(&self) -> Hash {
        self.0.run()
    }

    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        self.0.after(seq, max_entries, max_bytes)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed()
    }

    fn milestones(&self, max: usize) -> Vec<Hash> {
        self.0.milestones(max)
    }

    fn reached(&self, milestone: &Hash) -> Option<u64> {
        self.0.reached(milestone)
    }
}

/// The blobs of a replica, as peers fetch them: the same for every peer.
#[derive(Debug)]
pub struct ServedBlobs(AfterTheCut);

impl ServedBlobs {
    /// The blobs that the rules let peers have of `replica`.
    pub fn of(replica: &Replica) -> Arc<Self> {
        Arc::new(Self(replica.policy()))
    }
}

impl ServePolicy for ServedBlobs {
    fn may_serve(&self, blob: &Hash, _to: &PeerId) -> bool {
        self.0.may_serve(blob)
    }
}
