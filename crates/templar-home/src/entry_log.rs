//! The entries of a run in memory, in the order in which this node accepted them. Peers pull from this log.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use templar_manifest::Hash;
use tokio::sync::watch;

/// The entries of a run, numbered from 1 in the order in which this node accepted them.
///
/// Its *milestones* are the records of closed windows. Two nodes whose logs have different orders reach the same
/// milestones, so a peer that names one needs only the entries after it.
#[derive(Debug)]
pub struct EntryLog {
    run: Hash,
    kept: Mutex<KeptEntries>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct KeptEntries {
    entries: Vec<Bytes>,
    /// The records of closed windows, in order.
    records: Vec<Hash>,
    /// The number of the last entry when a window closed, by its record.
    closed_at: BTreeMap<Hash, u64>,
}

impl EntryLog {
    /// An empty log of `run`.
    pub(crate) fn new(run: Hash) -> Self {
        Self { run, kept: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// Appends an entry and wakes whoever waits for it.
    pub(crate) fn push(&self, entry: Bytes) {
        let mut kept = self.kept.lock();
        kept.entries.push(entry);
        self.last.send_replace(kept.entries.len() as u64);
    }

    /// Notes that the entries so far have closed a window with this record.
    pub(crate) fn close(&self, record: Hash) {
        let mut kept = self.kept.lock();
        let last = kept.entries.len() as u64;
        kept.closed_at.insert(record, last);
        kept.records.push(record);
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.kept.lock().entries.len()
    }

    /// The run that the log belongs to.
    pub fn run(&self) -> Hash {
        self.run
    }

    /// Entries with a number above `seq`, ascending: at most `max_entries`, and at most `max_bytes` together,
    /// except that the first is always given.
    pub fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let entries = &self.kept.lock().entries;
        let start = usize::try_from(seq).unwrap_or(usize::MAX).min(entries.len());
        let mut bytes = 0usize;
        let mut batch = Vec::new();
        for (index, entry) in entries.iter().enumerate().skip(start).take(max_entries) {
            bytes = bytes.saturating_add(entry.len());
            if bytes > max_bytes && !batch.is_empty() {
                break;
            }
            batch.push((index as u64 + 1, entry.clone()));
        }
        batch
    }

    /// The number of the last entry, as it grows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// At most `max` milestones, newest first: the latest eight, and earlier ones ever further apart.
    pub fn milestones(&self, max: usize) -> Vec<Hash> {
        let kept = self.kept.lock();
        sparser(kept.records.len()).take(max).map(|index| kept.records[index]).collect()
    }

    /// The number of the last entry that a peer does not need if it has reached `milestone`. `None` if this log
    /// has not reached it.
    pub fn reached(&self, milestone: &Hash) -> Option<u64> {
        self.kept.lock().closed_at.get(milestone).copied()
    }
}

/// Indices of the last of `count` things, and of earlier ones: eight one after the other, then at twice the
/// distance each time, so that two histories that differ are found to agree somewhere near where they part.
fn sparser(count: usize) -> impl Iterator<Item = usize> {
    let distances = (0..8).chain((3..usize::BITS - 1).map(|power| 1 << power));
    distances.map_while(move |distance: usize| count.checked_sub(distance + 1))
}

#[cfg(test)]
mod tests {
    use super::sparser;

    #[test]
    fn milestones_are_dense_at_the_end_and_reach_far() {
        assert_eq!(sparser(0).count(), 0);
        assert_eq!(sparser(3).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(sparser(100).collect::<Vec<_>>(), [99, 98, 97, 96, 95, 94, 93, 92, 91, 83, 67, 35]);
        assert!(sparser(1 << 24).count() <= 32);
    }
}
