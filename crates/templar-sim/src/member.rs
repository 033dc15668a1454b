//! One participant: the protocol's node with its key, its journal, and what its driver remembers until it crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use templar_manifest::{ContributionId, Hash, PublicKey, SecretKey, StateId, VoteOn, WindowIndex};
use templar_protocol::{Input, Node, Phase, RunState, Subject, Verified};

use crate::strategy::{Role, Strategy};

/// An entry on its way, with the number that this simulation gives it. Shared by all who hold it.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) number: u64,
    pub(crate) entry: Verified,
}

impl Carried {
    pub(crate) fn input(&self) -> Input {
        Input::Verified(self.entry.clone())
    }
}

/// A journal, which is also the log that peers pull. Positions count from the first entry ever.
#[derive(Debug, Default)]
pub(crate) struct Log {
    forgotten: u64,
    entries: VecDeque<Arc<Carried>>,
}

impl Log {
    pub(crate) fn end(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    pub(crate) fn start(&self) -> u64 {
        self.forgotten
    }

    pub(crate) fn push(&mut self, carried: Arc<Carried>) {
        self.entries.push_back(carried);
    }

    /// The entries of these positions, as far as they are kept.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Arc<Carried>> {
        let skip = from.saturating_sub(self.forgotten) as usize;
        let end = to.saturating_sub(self.forgotten) as usize;
        self.entries.range(skip.min(end)..end)
    }

    /// Forgets what lies before a position.
    pub(crate) fn forget(&mut self, before: u64) {
        while self.forgotten < before && self.entries.pop_front().is_some() {
            self.forgotten += 1;
        }
    }
}

/// Numbers of the entries that a node has taken.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Everything below it counts as taken; `base` is at most 63 less.
    floor: u64,
    base: u64,
    bits: VecDeque<u64>,
}

impl Seen {
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

    /// Takes everything below `base` for taken.
    pub(crate) fn raise(&mut self, base: u64) {
        self.floor = self.floor.max(base);
        while self.base + 64 <= base {
            self.base += 64;
            self.bits.pop_front();
        }
    }
}

/// Work that is done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    Train,
    TrainGuest(usize),
    Judge(Hash),
    Confirm(Subject),
    Apply(Hash),
    Timer(Phase),
    Sign,
    Register,
    Grind,
}

pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) key: SecretKey,
    /// Miners that work through this one's node.
    pub(crate) guests: Vec<SecretKey>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) node: Node,
    pub(crate) log: Log,
    /// Where the entries of the open window begin in the log.
    pub(crate) open_from: u64,
    pub(crate) seen: Seen,
    /// Entries of windows that are not open here yet.
    pub(crate) early: Vec<Arc<Carried>>,
    pub(crate) under_way: BTreeSet<(WindowIndex, Task)>,
    /// Contributions whose blobs are here, of the open window and of those of which verdicts still count.
    pub(crate) fetched: BTreeSet<(WindowIndex, ContributionId)>,
    /// Miners' states that are here, with the last window to which one was needed.
    pub(crate) states: BTreeMap<StateId, WindowIndex>,
    pub(crate) is_up: bool,
    /// Which life: what was started in an earlier one never ends.
    pub(crate) life: u32,
    /// How long its work takes, and how fast its clock runs, in parts per million of what is usual.
    pub(crate) work_ppm: u64,
    pub(crate) clock_ppm: u64,
    /// The window of which documents were signed twice already.
    pub(crate) contradicted: BTreeSet<(WindowIndex, &'static str)>,
    /// The other cut and record that it proposed in the open window.
    pub(crate) rivals: BTreeMap<VoteOn, Hash>,
    /// The first window in which it asks for a slot, where it has none.
    pub(crate) asks_from: WindowIndex,
}

impl Member {
    pub(crate) fn is_honest(&self) -> bool {
        self.strategy.is_none()
    }

    /// The miners whose node this is, its own first.
    pub(crate) fn miners(&self) -> impl Iterator<Item = PublicKey> {
        let own = (self.role == Role::Miner).then(|| self.key.public());
        own.into_iter().chain(self.guests.iter().map(SecretKey::public))
    }

    pub(crate) fn window(&self) -> WindowIndex {
        self.node.state().window()
    }

    /// The node that its journal gives, folded from `first` or, without it, from the state before the open window.
    ///
    /// # Errors
    /// The reason, where an entry of its own journal is refused.
    pub(crate) fn refolded(&self, first: Option<&Arc<RunState>>) -> Result<Node, String> {
        let (state, from) = match first {
            Some(first) => (first.clone(), 0),
            None => (self.node.shared_state(), self.open_from),
        };
        let mut node = Node::new(state, Some(self.key.public()));
        for carried in self.log.range(from, self.log.end()) {
            node.step(carried.input()).map_err(|reject| format!("an entry of its own journal is refused: {reject}"))?;
        }
        Ok(node)
    }

    /// Takes the node that was folded again, and forgets what was only in memory.
    pub(crate) fn start_again(&mut self, node: Node) {
        self.node = node;
        self.is_up = true;
        self.early.clear();
        self.under_way.clear();
    }
}

/// What of two nodes differs that their journals decide, if anything.
pub(crate) fn difference(before: &Node, after: &Node) -> Option<&'static str> {
    let ids = |node: &Node| -> Vec<Hash> { node.contributions().map(|signed| signed.id()).collect() };
    let scores = |node: &Node| -> Vec<Hash> { node.scores().map(|signed| signed.id()).collect() };
    let own = |node: &Node| node.me().map(|me| node.votes_of(&me));
    [
        ("the state", before.state() == after.state()),
        ("the closed windows", before.closed() == after.closed()),
        ("the contributions", ids(before) == ids(after)),
        ("the scores", scores(before) == scores(after)),
        ("the cut", before.cut() == after.cut()),
        ("the seed", before.seed() == after.seed()),
        ("its votes", own(before) == own(after)),
    ]
    .into_iter()
    .find_map(|(what, equal)| (!equal).then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_remembered_also_when_the_base_rises() {
        let mut seen = Seen::default();
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
