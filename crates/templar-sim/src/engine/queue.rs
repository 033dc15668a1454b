//! Future events, in the order of the virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use templar_manifest::{Outcome, WindowIndex};
use templar_protocol::{EvaluationTask, JudgePlan, Phase, ReplayTask, Subject};

use crate::journal::NumberedEntry;

/// Something that happens at one moment of the virtual clock.
///
/// `who` and `to` are indices of members. `life` counts a member's restarts: an event that was scheduled before a crash
/// does nothing after it.
#[derive(Debug)]
pub(super) enum SimEvent {
    /// A batch of a peer's log arrives, up to the position `upto`.
    Batch { link: usize, upto: u64, life: u32 },
    /// An entry arrives that its author sent to this member alone.
    Direct { to: usize, carried: Arc<NumberedEntry> },
    /// Work is finished, or waits for something and looks for it again.
    Work { who: usize, life: u32, work: Work },
    /// The time of a phase is over.
    Deadline { who: usize, life: u32, window: WindowIndex, phase: Phase },
    /// A fault begins: a crash or a partition, as `engine/faults.rs` draws it.
    Fault,
    /// The partition ends and the network is whole.
    Heal,
    /// A crashed member starts again.
    Restart { who: usize },
    /// A log is read again from its beginning, for entries that the reader did not accept the first time.
    ReadAgain { link: usize },
    /// The liveness check looks whether the run has progressed.
    Watch,
}

/// Work of a member, which takes time on the virtual clock. `since_ms` is when the work was asked for; some
/// work gives up waiting for blobs after a while.
#[derive(Debug)]
pub(super) enum Work {
    /// A miner trains, then sends its contribution.
    Train { window: WindowIndex },
    /// A miner without a node of its own trains; `guest` is its place among the guests of the member.
    TrainGuest { window: WindowIndex, guest: usize },
    /// A miner without a slot computes its proof of work, then registers.
    Register { window: WindowIndex },
    /// A validator that grinds the seed looks at what others have released.
    Grind { window: WindowIndex, since_ms: u64 },
    /// A validator releases the value that it kept until now.
    ReleaseLate { window: WindowIndex },
    /// A validator evaluates and replays.
    Judge { plan: Box<JudgePlan>, since_ms: u64 },
    /// A validator replays one contribution about which others disagree.
    Confirm { window: WindowIndex, subject: Subject, task: Box<ReplayTask>, since_ms: u64 },
    /// A validator measures one contribution about which others disagree.
    Remeasure { window: WindowIndex, subject: Subject, task: Box<EvaluationTask>, since_ms: u64 },
    /// The outer step is computed for these outcomes.
    Apply { window: WindowIndex, outcomes: Vec<Outcome> },
    /// A validator signs the inbox that it kept open for its late friend.
    Sign,
}

/// An event with its moment. `number` counts the scheduled events and decides the order of those at the same moment.
#[derive(Debug)]
struct Scheduled {
    at_ms: u64,
    number: u64,
    event: SimEvent,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.number) == (other.at_ms, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

/// The virtual clock with the events that are still to come.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    now_ms: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    handled: u64,
}

impl EventQueue {
    /// The virtual clock, in milliseconds since the run began.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The number of events that were taken from the queue.
    pub(super) fn handled(&self) -> u64 {
        self.handled
    }

    pub(super) fn schedule(&mut self, after_ms: u64, event: SimEvent) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at_ms: self.now_ms + after_ms, number: self.scheduled, event }));
    }

    /// Takes the next event and moves the clock to its moment.
    pub(super) fn next(&mut self) -> Option<SimEvent> {
        let Reverse(next) = self.events.pop()?;
        self.now_ms = next.at_ms;
        self.handled += 1;
        Some(next.event)
    }
}
