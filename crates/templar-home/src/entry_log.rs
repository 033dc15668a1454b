//! The entries of a run, in the order in which this node accepted them. Peers pull from this log.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use templar_manifest::Hash;
use tokio::sync::watch;

use crate::journal::{JournalMark, JournalReader, WindowRow};

/// The entries of a run, numbered from 1 in the order in which this node accepted them.
///
/// Those of the open window and of the last closed one are in memory, and older ones are read from the journal.
///
/// Its *milestones* are the records of closed windows. Two nodes whose logs have different orders reach the same
/// milestones, so a peer that names one needs only the entries after it.
#[derive(Debug)]
pub struct EntryLog {
    run: Hash,
    kept: Mutex<KeptEntries>,
    last: watch::Sender<u64>,
    journal: JournalReader,
}

#[derive(Debug, Default)]
struct KeptEntries {
    /// The number of entries before those that are in memory.
    before: u64,
    entries: VecDeque<Bytes>,
    /// The closed windows, in order.
    windows: Vec<WindowRow>,
    /// The place of each closed window among them, by its record.
    by_record: BTreeMap<Hash, usize>,
}

impl KeptEntries {
    fn count(&self) -> u64 {
        self.before + self.entries.len() as u64
    }

    fn close(&mut self, row: WindowRow) {
        self.by_record.insert(row.record, self.windows.len());
        self.windows.push(row);
    }

    /// The place in the journal at which the closed window begins that entry number `seq + 1` belongs to, and the
    /// number of its last entry.
    fn window_of(&self, seq: u64) -> (JournalMark, u64) {
        let before = self.windows.partition_point(|row| row.end.records <= seq);
        let from = before.checked_sub(1).map_or(JournalMark::START, |last| self.windows[last].end);
        (from, self.windows.get(before).map_or(u64::MAX, |row| row.end.records))
    }
}

impl EntryLog {
    /// The log of `run` with the entries of these closed windows, all of which are in the journal.
    pub(crate) fn new(run: Hash, journal: JournalReader, windows: &[WindowRow]) -> Self {
        let mut kept = KeptEntries::default();
        windows.iter().for_each(|row| kept.close(*row));
        kept.before = windows.last().map_or(0, |row| row.end.records);
        let last = watch::Sender::new(kept.before);
        Self { run, kept: Mutex::new(kept), last, journal }
    }

    /// Appends an entry and wakes whoever waits for it.
    pub(crate) fn push(&self, entry: Bytes) {
        let mut kept = self.kept.lock();
        kept.entries.push_back(entry);
        self.last.send_replace(kept.count());
    }

    /// Notes that the entries so far have closed a window. Those of the windows before it leave the memory.
    pub(crate) fn close(&self, row: WindowRow) {
        let mut kept = self.kept.lock();
        let old = kept.windows.last().map_or(0, |row| row.end.records);
        kept.close(row);
        while kept.before < old && kept.entries.pop_front().is_some() {
            kept.before += 1;
        }
    }

    /// The closed windows, in order.
    pub(crate) fn windows(&self) -> Vec<WindowRow> {
        self.kept.lock().windows.clone()
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.kept.lock().count() as usize
    }

    /// The run that the log belongs to.
    pub fn run(&self) -> Hash {
        self.run
    }

    /// Entries with a number above `seq`, ascending: at most `max_entries`, and at most `max_bytes` together,
    /// except that the first is always given. This may read from the disk.
    pub fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let mut seq = seq;
        loop {
            let (from, window_end) = {
                let kept = self.kept.lock();
                if seq >= kept.before {
                    return kept.after(seq, max_entries, max_bytes);
                }
                kept.window_of(seq)
            };
            let batch = self.journal.after(from, seq, max_entries, max_bytes);
            if !batch.is_empty() {
                return batch;
            }
            // The rest of the window is damaged. Readers need the later ones all the same.
            seq = window_end;
        }
    }

    /// The number of the last entry, as it grows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// At most `max` milestones, newest first: the latest eight, and earlier ones ever further apart.
    pub fn milestones(&self, max: usize) -> Vec<Hash> {
        let kept = self.kept.lock();
        sparser(kept.windows.len()).take(max).map(|index| kept.windows[index].record).collect()
    }

    /// The number of the last entry that a peer does not need if it has reached `milestone`. `None` if this log
    /// has not reached it.
    pub fn reached(&self, milestone: &Hash) -> Option<u64> {
        let kept = self.kept.lock();
        kept.by_record.get(milestone).map(|place| kept.windows[*place].end.records)
    }
}

impl KeptEntries {
    /// The same as [`EntryLog::after`], of the entries in memory.
    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let start = usize::try_from(seq - self.before).unwrap_or(usize::MAX).min(self.entries.len());
        let mut bytes = 0usize;
        let mut batch = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().skip(start).take(max_entries) {
            bytes = bytes.saturating_add(entry.len());
            if bytes > max_bytes && !batch.is_empty() {
                break;
            }
            batch.push((self.before + index as u64 + 1, entry.clone()));
        }
        batch
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
    use super::*;
    use crate::journal::Journal;

    #[test]
    fn milestones_are_dense_at_the_end_and_reach_far() {
        assert_eq!(sparser(0).count(), 0);
        assert_eq!(sparser(3).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(sparser(100).collect::<Vec<_>>(), [99, 98, 97, 96, 95, 94, 93, 92, 91, 83, 67, 35]);
        assert!(sparser(1 << 24).count() <= 32);
    }

    fn entry(number: u64) -> Vec<u8> {
        vec![number as u8 | 1; 1 + (number % 50) as usize]
    }

    fn record(window: u64) -> Hash {
        Hash::of(&window.to_le_bytes())
    }

    /// A journal of so many windows of seven entries and three of the open one, and its log, which has seen all of it
    /// or begins after `from` windows.
    fn log(windows: u64, from: usize) -> (tempfile::TempDir, EntryLog) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        let reader = JournalReader::open(dir.path()).unwrap();
        let whole = EntryLog::new(Hash::default(), reader, &[]);
        for number in 0..windows * 7 + 3 {
            journal.append(&entry(number)).unwrap();
            whole.push(entry(number).into());
            if number % 7 == 6 {
                whole.close(WindowRow { record: record(number / 7), end: journal.mark() });
            }
        }
        if from == 0 {
            return (dir, whole);
        }
        let rows = whole.windows();
        let log = EntryLog::new(Hash::default(), JournalReader::open(dir.path()).unwrap(), &rows[..from]);
        for number in from as u64 * 7..windows * 7 + 3 {
            log.push(entry(number).into());
            if number % 7 == 6 {
                log.close(rows[number as usize / 7]);
            }
        }
        (dir, log)
    }

    #[test]
    fn old_entries_leave_the_memory_and_are_given_all_the_same() {
        for from in [0, 1, 18, 20] {
            let (_dir, log) = log(20, from);
            assert_eq!(log.count(), 143);
            assert!(log.kept.lock().entries.len() <= 10, "those of two windows");
            for seq in 0..145 {
                for (max_entries, max_bytes) in [(1, 0), (5, usize::MAX), (200, 120), (200, usize::MAX)] {
                    let batch = log.after(seq, max_entries, max_bytes);
                    assert!(batch.len() <= max_entries);
                    assert_eq!(batch.is_empty(), seq >= 143, "{seq}");
                    let bytes: usize = batch.iter().map(|(_, entry)| entry.len()).sum();
                    assert!(batch.len() <= 1 || bytes <= max_bytes);
                    for ((number, found), expected) in batch.into_iter().zip(seq..) {
                        assert_eq!((number, &found[..]), (expected + 1, &entry(expected)[..]));
                    }
                }
            }
            for window in 0..20 {
                assert_eq!(log.reached(&record(window)), Some(7 * (window + 1)));
            }
            assert_eq!(log.reached(&record(20)), None);
            assert_eq!(log.milestones(2), [record(19), record(18)]);
        }
    }

    #[test]
    fn damage_ends_a_batch_and_hides_nothing_behind_its_window() {
        let (dir, log) = log(20, 0);
        let path = dir.path().join("journal");
        let mut bytes = std::fs::read(&path).unwrap();
        let third = log.windows()[1].end.offset as usize;
        bytes[third + 60] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(log.after(0, 200, usize::MAX).len(), 14);
        for (seq, next) in [(14, 22), (15, 16), (21, 22)] {
            assert_eq!(log.after(seq, 1, usize::MAX)[0].0, next);
        }
    }
}
