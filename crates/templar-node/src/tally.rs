//! The progress of a visit to the network, for a progress bar. No decision depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use templar_manifest::Hash;
use templar_net::Net;

/// The most bytes of one blob that is fetched by its bare hash.
pub(crate) const MAX_BLOB_BYTES: u64 = 1 << 40;

/// Counters that the work increments and a progress bar reads.
#[derive(Debug, Default)]
pub struct VisitTally {
    wanted: AtomicU64,
    here: AtomicU64,
    entries: AtomicU64,
    behind: AtomicU64,
    followed: AtomicU64,
    nets: Mutex<Vec<Net>>,
}

/// The progress of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VisitProgress {
    /// The number of entries that were new here.
    pub entries: u64,
    /// The greatest possible length of the blobs that are known to be wanted, in bytes. More may become known.
    pub wanted_bytes: u64,
    /// The wanted bytes that are here.
    pub here_bytes: u64,
    /// All bytes that came over the network.
    pub received_bytes: u64,
    /// The number of windows for which aggregates are applied to bring the model up to date.
    pub windows_behind: u64,
    /// The number of those windows that have been applied.
    pub windows_followed: u64,
}

impl VisitTally {
    pub(crate) fn watch(&self, net: &Net) {
        self.nets.lock().push(net.clone());
    }

    /// The bytes of blobs by their limits. The limits of tokenizers and of blobs that are known by their hashes alone
    /// say nothing about their lengths, so these are left out.
    pub(crate) fn bytes_of(blobs: &[(Hash, u64)]) -> u64 {
        let lengths = blobs.iter().map(|(_, bytes)| *bytes);
        lengths.filter(|bytes| ![templar_data::MAX_TOKENIZER_BYTES as u64, MAX_BLOB_BYTES].contains(bytes)).sum()
    }

    pub(crate) fn want(&self, bytes: u64) {
        self.wanted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts wanted bytes that are here without a transfer. Transfers count by themselves.
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

    /// The progress as it is now.
    pub fn progress(&self) -> VisitProgress {
        let nets = self.nets.lock();
        let (wanted, here) = (self.wanted.load(Ordering::Relaxed), self.here.load(Ordering::Relaxed));
        let (wanted_bytes, here_bytes) = with_transfers(wanted, here, nets.iter().map(|net| *net.progress().borrow()));
        VisitProgress {
            entries: self.entries.load(Ordering::Relaxed),
            wanted_bytes,
            here_bytes,
            received_bytes: nets.iter().map(Net::received_bytes).sum(),
            windows_behind: self.behind.load(Ordering::Relaxed),
            windows_followed: self.followed.load(Ordering::Relaxed),
        }
    }
}

/// The wanted bytes and the bytes that are here, with those of transfers. Transfers know lengths that were
/// unknown before, such as that of the blob behind a ticket. Bytes that were fetched again after a failure do
/// not count twice.
fn with_transfers(wanted: u64, here: u64, transfers: impl Iterator<Item = templar_net::FetchProgress>) -> (u64, u64) {
    let (known, received) =
        transfers.fold((0, 0), |(bytes, received), transfer| (bytes + transfer.bytes, received + transfer.received));
    let wanted = wanted.max(known);
    (wanted, wanted.min(here + received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_says_nothing_about_a_length_does_not_count() {
        let blobs =
            [MAX_BLOB_BYTES, 5, templar_data::MAX_TOKENIZER_BYTES as u64, 7].map(|bytes| (Hash::default(), bytes));
        assert_eq!(VisitTally::bytes_of(&blobs), 12);
    }

    #[test]
    fn a_bar_moves_while_a_blob_is_on_its_way() {
        let transfer =
            |bytes, received| templar_net::FetchProgress { bytes, received, ..templar_net::FetchProgress::default() };
        assert_eq!(with_transfers(0, 0, std::iter::empty()), (0, 0));
        assert_eq!(with_transfers(0, 0, [transfer(1000, 300)].into_iter()), (1000, 300), "a ticket for a blob");
        assert_eq!(with_transfers(5000, 700, [transfer(1000, 300)].into_iter()), (5000, 1000), "some was here before");
        let two = [transfer(1000, 300), transfer(6000, 10)];
        assert_eq!(with_transfers(5000, 0, two.into_iter()), (7000, 310));
        assert_eq!(with_transfers(500, 400, [transfer(500, 200)].into_iter()), (500, 500), "never more than all");
    }
}
