//! One member of a simulated run: a protocol node with its key, its journal, and the memory of its driver,
//! which a crash erases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{ContributionId, Hash, PublicKey, SecretKey, VoteOn, WindowIndex};
use templar_protocol::{Node, Phase, RunState, Subject};

use crate::blobs::HeldBlobs;
use crate::journal::MemberJournal;
use crate::rng::ONE_PPM;
use crate::strategy::{MemberRole, Strategy};

/// Names a piece of work in a window, so that a member begins it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkKey {
    Train,
    /// The training of the guest at this place.
    TrainGuest(usize),
    /// The judgement under this seed.
    Judge(Hash),
    Confirm(Subject),
    Remeasure(Subject),
    /// The outer step for the outcomes with this hash.
    Apply(Hash),
    Timer(Phase),
    Sign,
    Register,
    Grind,
    ReleaseLate,
}

/// The machine that a member runs on.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) is_up: bool,
    /// The number of crashes so far. Work that was begun in an earlier life never ends.
    pub(crate) life: u32,
    /// How long the member's work takes, in parts per million of the drawn time.
    pub(crate) work_ppm: u64,
    /// How long a timer runs on the virtual clock, in parts per million of its stated length.
    pub(crate) clock_ppm: u64,
}

/// The contradictions that an adversary has sent.
#[derive(Debug, Default)]
pub(crate) struct Contradictions {
    /// The kinds of documents of a window for which it has already sent a second document, or done what it does once.
    pub(crate) done: BTreeSet<(WindowIndex, &'static str)>,
    /// The second cut and the second record that it proposed in the open window.
    pub(crate) rivals: BTreeMap<VoteOn, Hash>,
}

/// A miner or validator with a node of its own.
pub(crate) struct SimMember {
    pub(crate) role: MemberRole,
    pub(crate) key: SecretKey,
    /// Miners that have no node of their own and work through this one.
    pub(crate) guests: Vec<SecretKey>,
    /// `None` for an honest member.
    pub(crate) strategy: Option<Strategy>,
    /// The first window in which the member asks for a slot, where it has none.
    pub(crate) asks_from: WindowIndex,
    pub(crate) node: Node,
    pub(crate) journal: MemberJournal,
    pub(crate) machine: Machine,
    pub(crate) held: HeldBlobs,
    /// Work that the member has begun and must not begin again.
    pub(crate) under_way: BTreeSet<(WindowIndex, WorkKey)>,
    pub(crate) contradictions: Contradictions,
}

impl SimMember {
    /// An honest member at the start of a run.
    pub(crate) fn new(role: MemberRole, key: SecretKey, state: Arc<RunState>) -> Self {
        let node = Node::new(state, Some(key.public()));
        Self {
            role,
            key,
            guests: Vec::new(),
            strategy: None,
            asks_from: WindowIndex(0),
            node,
            journal: MemberJournal::default(),
            machine: Machine { is_up: true, life: 0, work_ppm: ONE_PPM, clock_ppm: ONE_PPM },
            held: HeldBlobs::default(),
            under_way: BTreeSet::new(),
            contradictions: Contradictions::default(),
        }
    }

    pub(crate) fn is_honest(&self) -> bool {
        self.strategy.is_none()
    }

    /// The owner keys of the miners that use this node, its own first.
    pub(crate) fn miners(&self) -> impl Iterator<Item = PublicKey> {
        let own = (self.role == MemberRole::Miner).then(|| self.key.public());
        own.into_iter().chain(self.guests.iter().map(SecretKey::public))
    }

    /// The open window of this member's node.
    pub(crate) fn window(&self) -> WindowIndex {
        self.node.state().window()
    }

    /// Whether an event of that life still concerns this member.
    pub(crate) fn lives(&self, life: u32) -> bool {
        self.machine.is_up && self.machine.life == life
    }

    /// Builds a node from the journal alone, as a restart does: from the state `first` before window 0, or without it
    /// from the state before the open window.
    ///
    /// # Errors
    /// The reason, where the node refuses an entry of its own journal.
    pub(crate) fn refolded(&self, first: Option<&Arc<RunState>>) -> Result<Node, String> {
        let (state, from) = match first {
            Some(first) => (first.clone(), 0),
            None => (self.node.shared_state(), self.journal.open_from),
        };
        let mut node = Node::new(state, Some(self.key.public()));
        for carried in self.journal.log.range(from, self.journal.log.end()) {
            node.take(carried.input()).map_err(|reject| format!("an entry of its own journal is refused: {reject}"))?;
        }
        Ok(node)
    }

    /// Starts again with a node that was built from the journal, and forgets what was only in memory. `first` is the
    /// number of the open window's first entry.
    pub(crate) fn restart(&mut self, node: Node, first: Option<u64>) {
        self.node = node;
        self.machine.is_up = true;
        self.under_way.clear();
        self.held = HeldBlobs::default();
        self.journal.restart(first);
    }

    /// Moves on to the window `open`. `kept` is the oldest window of which blobs may still be asked for, and
    /// `first` the number of the open window's first entry.
    pub(crate) fn next_window(&mut self, open: WindowIndex, kept: WindowIndex, first: Option<u64>) {
        self.under_way = self.under_way.split_off(&(open, WorkKey::Train));
        self.contradictions.done = self.contradictions.done.split_off(&(open, ""));
        self.contradictions.rivals.clear();
        self.held.states.retain(|_, window| *window >= kept);
        let oldest = (kept, ContributionId::new(Hash::from_bytes([0; 32])));
        self.held.contributions = self.held.contributions.split_off(&oldest);
        self.journal.next_window(first);
    }
}

/// Names the first part in which two nodes differ, of those that a journal must reproduce; `None` where they are equal.
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
