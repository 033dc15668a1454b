//! The journal of a member: the entries that its node accepted, which its peers pull, and what it knows of others.

use std::collections::{BTreeMap, VecDeque};

use templar_manifest::{Hash, WindowIndex};
use templar_protocol::{Input, Verified};

/// An entry with the number that this simulation gave it. All members that hold the entry share it. The number stands
/// beside the pointer to the entry, so that a log can be searched for new numbers without a look at the entries.
#[derive(Debug, Clone)]
pub(crate) struct NumberedEntry {
    pub(crate) number: u64,
    pub(crate) entry: Verified,
}

impl NumberedEntry {
    pub(crate) fn input(&self) -> Input {
        Input::Verified(self.entry.clone())
    }
}

/// Numbers the entries of a simulation in the order in which they are first seen, and keeps one copy of each.
#[derive(Debug, Default)]
pub(crate) struct EntryNumbers {
    /// Every entry by its id, until all members have closed its window.
    entries: BTreeMap<Hash, NumberedEntry>,
    /// The number of the first entry of each window.
    first: BTreeMap<WindowIndex, u64>,
    numbered: u64,
}

impl EntryNumbers {
    /// The entry with its number, which is the same for everybody.
    pub(crate) fn number(&mut self, entry: &Verified) -> NumberedEntry {
        if let Some(known) = self.entries.get(&entry.id()) {
            return known.clone();
        }
        let number = self.numbered;
        self.numbered += 1;
        self.first.entry(entry.window()).or_insert(number);
        let carried = NumberedEntry { number, entry: entry.clone() };
        self.entries.insert(entry.id(), carried.clone());
        carried
    }

    /// The number of the first entry of a window; `None` where no entry of the window has been seen.
    pub(crate) fn first_of(&self, window: WindowIndex) -> Option<u64> {
        self.first.get(&window).copied()
    }

    /// Drops the entries of all windows before this one.
    pub(crate) fn forget(&mut self, before: WindowIndex) {
        self.entries.retain(|_, carried| carried.entry.window() >= before);
        self.first = self.first.split_off(&before);
    }
}

/// The entries that a node accepted, in order. Positions count from the first entry ever.
#[derive(Debug, Default)]
pub(crate) struct MemberLog {
    forgotten: u64,
    entries: VecDeque<NumberedEntry>,
}

impl MemberLog {
    /// The position after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// The position of the first entry that is kept.
    pub(crate) fn start(&self) -> u64 {
        self.forgotten
    }

    pub(crate) fn push(&mut self, carried: NumberedEntry) {
        self.entries.push_back(carried);
    }

    /// The entries at the positions `from..to`, without those that are no longer kept.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &NumberedEntry> {
        let skip = from.saturating_sub(self.forgotten) as usize;
        let end = to.saturating_sub(self.forgotten) as usize;
        self.entries.range(skip.min(end)..end)
    }

    /// Drops the entries before a position.
    pub(crate) fn forget(&mut self, before: u64) {
        while self.forgotten < before && self.entries.pop_front().is_some() {
            self.forgotten += 1;
        }
    }
}

/// The set of entry numbers that a node has accepted, as a bit set whose low end can be cut off.
#[derive(Debug, Default)]
pub(crate) struct SeenEntries {
    /// Every number below it counts as accepted; `base` is at most 63 less.
    floor: u64,
    /// The number of the first bit.
    base: u64,
    bits: VecDeque<u64>,
}

impl SeenEntries {
    pub(crate) fn contains(&self, number: u64) -> bool {
        let Some(place) = number.checked_sub(self.base).filter(|_| number >= self.floor) else { return true };
        self.bits.get((place / 64) as usize).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, number: u64) {
        let Some(place) = number.checked_sub(self.base) else { return };
        let word = (place / 64) as usize;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (place % 64);
    }

    /// Counts every number below `base` as accepted from now on.
    pub(crate) fn raise(&mut self, base: u64) {
        self.floor = self.floor.max(base);
        while self.base + 64 <= base {
            self.base += 64;
            self.bits.pop_front();
        }
    }
}

/// Everything that a member keeps of the entries it has received.
#[derive(Debug, Default)]
pub(crate) struct MemberJournal {
    /// The accepted entries, which peers pull.
    pub(crate) log: MemberLog,
    /// The position at which the entries of the open window begin.
    pub(crate) open_from: u64,
    /// The numbers of the accepted entries.
    pub(crate) seen: SeenEntries,
    /// Entries of windows that are not open at this member yet.
    pub(crate) early: Vec<NumberedEntry>,
}

impl MemberJournal {
    /// The entries of the open window.
    pub(crate) fn open(&self) -> impl Iterator<Item = &NumberedEntry> {
        self.log.range(self.open_from, self.log.end())
    }

    /// Notes an entry that the member's own node has accepted.
    pub(crate) fn accept(&mut self, carried: NumberedEntry) {
        self.seen.insert(carried.number);
        self.log.push(carried);
    }

    /// Keeps an entry until its window opens; the same entry is kept once.
    pub(crate) fn keep_early(&mut self, carried: NumberedEntry) {
        if !self.early.iter().any(|early| early.number == carried.number) {
            self.early.push(carried);
        }
    }

    /// Begins with the next window, whose first entry has the number `first`, if any has been seen.
    pub(crate) fn next_window(&mut self, first: Option<u64>) {
        self.open_from = self.log.end();
        if let Some(number) = first {
            self.seen.raise(number);
        }
    }

    /// Rebuilds the set of accepted entries from the log after a crash; the open window's first entry has the number
    /// `first`, if any has been seen.
    pub(crate) fn restart(&mut self, first: Option<u64>) {
        self.early.clear();
        let mut seen = SeenEntries::default();
        if let Some(number) = first {
            seen.raise(number);
        }
        self.open().for_each(|carried| seen.insert(carried.number));
        self.seen = seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_entries_are_remembered_also_when_the_base_rises() {
        let mut seen = SeenEntries::default();
        for number in [0, 1, 63, 64, 200, 1000] {
            assert!(!seen.contains(number));
            seen.insert(number);
            assert!(seen.contains(number));
        }
        assert!(!seen.contains(2) && !seen.contains(5000));
        seen.raise(130);
        assert!(seen.contains(2) && seen.contains(200) && !seen.contains(201) && seen.contains(1000));
        seen.insert(3);
        seen.insert(201);
        assert!(seen.contains(201));
    }
}
