//! Future events, in the order of the virtual clock.

use std::collections::BTreeMap;
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
    Direct { to: usize, carried: NumberedEntry },
    /// Work is finished, or waits for something and looks for it again.
    Work { who: usize, life: u32, work: Box<Work> },
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
    Judge { plan: Arc<JudgePlan>, since_ms: u64 },
    /// A validator replays one contribution about which others disagree.
    Confirm { window: WindowIndex, subject: Subject, task: Box<ReplayTask>, since_ms: u64 },
    /// A validator measures one contribution about which others disagree.
    Remeasure { window: WindowIndex, subject: Subject, task: Box<EvaluationTask>, since_ms: u64 },
    /// The outer step is computed for these outcomes.
    Apply { window: WindowIndex, outcomes: Vec<Outcome> },
    /// A validator signs the inbox that it kept open for its late friend.
    Sign,
}

/// A list of events at one moment: the places of its first and its last event among all of them.
#[derive(Debug, Clone, Copy)]
struct MomentList {
    first: u32,
    last: u32,
}

/// An event of a list, and the place of the next one.
#[derive(Debug)]
struct Listed {
    event: Option<SimEvent>,
    next: u32,
}

/// The place after the last event of a list.
const NONE: u32 = u32::MAX;

/// So many milliseconds of the near future have a list each. Most messages arrive within them.
const NEAR_MS: u64 = 512;

/// The virtual clock with the events that are still to come.
///
/// Events at the same moment happen in the order in which they were scheduled. So each moment of the near future has a
/// list of events, and nothing is compared; the far future is sorted by moments.
#[derive(Debug)]
pub(super) struct EventQueue {
    now_ms: u64,
    /// The lists of the moments from now on, by moment modulo [`NEAR_MS`].
    near: Vec<MomentList>,
    /// The events of these lists. Free places form a list as well.
    listed: Vec<Listed>,
    free: u32,
    /// The number of events in the lists.
    waiting: usize,
    /// The events at later moments. One comes into its list before anything else can be scheduled for its moment.
    far: BTreeMap<u64, Vec<SimEvent>>,
    handled: u64,
}

impl Default for EventQueue {
    fn default() -> Self {
        Self {
            now_ms: 0,
            near: vec![MomentList { first: NONE, last: NONE }; NEAR_MS as usize],
            listed: Vec::new(),
            free: NONE,
            waiting: 0,
            far: BTreeMap::new(),
            handled: 0,
        }
    }
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
        let at_ms = self.now_ms + after_ms;
        if after_ms < NEAR_MS {
            self.list(at_ms, event);
        } else {
            self.far.entry(at_ms).or_default().push(event);
        }
    }

    /// Takes the next event and moves the clock to its moment.
    pub(super) fn next(&mut self) -> Option<SimEvent> {
        loop {
            let moment = &mut self.near[(self.now_ms % NEAR_MS) as usize];
            if moment.first != NONE {
                let place = moment.first;
                let listed = &mut self.listed[place as usize];
                let event = listed.event.take();
                moment.first = std::mem::replace(&mut listed.next, self.free);
                self.free = place;
                self.waiting -= 1;
                self.handled += 1;
                return event;
            }
            self.now_ms = if self.waiting > 0 { self.now_ms + 1 } else { *self.far.first_key_value()?.0 };
            while let Some(entry) = self.far.first_entry().filter(|entry| *entry.key() < self.now_ms + NEAR_MS) {
                let (at_ms, events) = entry.remove_entry();
                events.into_iter().for_each(|event| self.list(at_ms, event));
            }
        }
    }

    /// Appends an event to the list of a moment in the near future.
    fn list(&mut self, at_ms: u64, event: SimEvent) {
        let listed = Listed { event: Some(event), next: NONE };
        let place = self.free;
        let place = if place == NONE {
            self.listed.push(listed);
            self.listed.len() as u32 - 1
        } else {
            self.free = std::mem::replace(&mut self.listed[place as usize], listed).next;
            place
        };
        let moment = &mut self.near[(at_ms % NEAR_MS) as usize];
        match moment.first {
            NONE => moment.first = place,
            _ => self.listed[moment.last as usize].next = place,
        }
        moment.last = place;
        self.waiting += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;
    use crate::rng::SimRng;

    /// The slow twin sorts all events by moment and number.
    #[test]
    fn events_come_by_their_moments_and_then_as_they_were_scheduled() {
        let (mut rng, mut queue, mut twin) = (SimRng::new(1), EventQueue::default(), BinaryHeap::new());
        let mut number = 0;
        let mut schedule = |queue: &mut EventQueue, twin: &mut BinaryHeap<_>, rng: &mut SimRng| {
            let after_ms = match rng.below(4) {
                0 => rng.below(4),
                1 => rng.below(NEAR_MS),
                2 => NEAR_MS - 1 + rng.below(3),
                _ => rng.below(20 * NEAR_MS),
            };
            twin.push(Reverse((queue.now_ms() + after_ms, number)));
            queue.schedule(after_ms, SimEvent::Restart { who: number });
            number += 1;
        };
        for _ in 0..10 {
            schedule(&mut queue, &mut twin, &mut rng);
        }
        for step in 0..20_000 {
            let Some(Reverse((at_ms, number))) = twin.pop() else { break };
            let Some(SimEvent::Restart { who }) = queue.next() else { panic!("the queue is empty in step {step}") };
            assert_eq!((queue.now_ms(), who), (at_ms, number), "step {step}");
            for _ in 0..if step < 15_000 { rng.below(3) } else { 0 } {
                schedule(&mut queue, &mut twin, &mut rng);
            }
        }
        while let Some(Reverse((at_ms, number))) = twin.pop() {
            let Some(SimEvent::Restart { who }) = queue.next() else { panic!("the queue is empty") };
            assert_eq!((queue.now_ms(), who), (at_ms, number));
        }
        assert!(queue.next().is_none());
    }
}
