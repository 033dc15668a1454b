//! How far a visit to the network is: what a bar shows. Counts only; nothing reads them to decide anything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use templar_manifest::Hash;
use templar_net::Net;

use crate::replica::lock;

/// Counted by those who work, read by who shows it.
#[derive(Debug, Default)]
pub struct Tally {
    wanted: AtomicU64,
    here: AtomicU64,
    entries: AtomicU64,
    behind: AtomicU64,
    followed: AtomicU64,
    nets: Mutex<Vec<Net>>,
}

/// How far a visit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries that were new here.
    pub entries: u64,
    /// Bytes of the blobs that are known to be wanted, at most; more may become known.
    pub wanted_bytes: u64,
    /// Those of them that are here.
    pub here_bytes: u64,
    /// Bytes that came over the network, whatever they were.
    pub received_bytes: u64,
    /// Windows by which the model that was here is behind, as far as it is brought up to date by aggregates.
    pub windows_behind: u64,
    /// Those of them that have been taken.
    pub windows_followed: u64,
}

impl Tally {
    pub(crate) fn watch(&self, net: &Net) {
        lock(&self.nets).push(net.clone());
    }

    /// The bytes of blobs by their limits. A tokenizer's limit says nothing of its length, so it is left out.
    pub(crate) fn bytes_of(blobs: &[(Hash, u64)]) -> u64 {
        let lengths = blobs.iter().map(|(_, bytes)| *bytes);
        lengths.filter(|bytes| *bytes != templar_data::MAX_TOKENIZER_BYTES as u64).sum()
    }

    pub(crate) fn want(&self, bytes: u64) {
        self.wanted.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn have(&self, bytes: u64) {
        self.here.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn entries(&self, new: usize) {
        self.entries.fetch_add(new as u64, Ordering::Relaxed);
    }

    pub(crate) fn behind(&self, windows: usize) {
        self.behind.store(windows as u64, Ordering::Relaxed);
        self.followed.store(0, Ordering::Relaxed);
    }

    pub(crate) fn followed(&self) {
        self.followed.fetch_add(1, Ordering::Relaxed);
    }

    /// How far it is now.
    pub fn progress(&self) -> Progress {
        Progress {
            entries: self.entries.load(Ordering::Relaxed),
            wanted_bytes: self.wanted.load(Ordering::Relaxed),
            here_bytes: self.here.load(Ordering::Relaxed),
            received_bytes: lock(&self.nets).iter().map(Net::received_bytes).sum(),
            windows_behind: self.behind.load(Ordering::Relaxed),
            windows_followed: self.followed.load(Ordering::Relaxed),
        }
    }
}
