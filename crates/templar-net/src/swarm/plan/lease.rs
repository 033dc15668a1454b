//! A lease: what one peer has been asked for, how far it has come, and what becomes of the rest.

use std::ops::Range;

use templar_manifest::Hash;

use super::super::ranges::{bytes_of, set};
use super::{Plan, Time};
use crate::error::ProviderAnswer;
use crate::peer::PeerId;

/// Names a lease for as long as the swarm lives.
pub(crate) type LeaseId = u64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// A small blob, into memory.
    Whole,
    /// The last chunks of a blob, which prove its length.
    Proof {
        /// The first chunk that is asked for.
        start: u64,
    },
    /// These chunks of a blob whose length is known.
    Range {
        /// The length in bytes.
        size: u64,
        /// Those that have not come yet.
        left: Range<u64>,
    },
}

/// Work for a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) lease: LeaseId,
    pub(crate) id: Hash,
    /// No more bytes than these are taken.
    pub(crate) max_bytes: u64,
    pub(crate) task: Task,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) want: u64,
    pub(super) peer: PeerId,
    pub(super) task: Task,
    pub(super) since: Time,
    /// When something last came.
    pub(super) progressed: Time,
    /// What came since.
    pub(super) bytes: u64,
    /// Somebody else has it now; the holder has not stopped yet.
    pub(super) void: bool,
}

/// The weight of the newest request in a peer's rate.
const NEWEST: f64 = 0.3;

impl Plan {
    pub(super) fn lease(&mut self, number: u64, peer: &PeerId, task: Task, now: Time) -> Option<Job> {
        let want = self.wants.get_mut(&number)?;
        want.leases += 1;
        let supply = self.peers.entry(*peer).or_default();
        supply.requests += 1;
        let max_bytes = want.size.unwrap_or(want.max_bytes);
        if let Task::Range { left, .. } = &task {
            supply.ranges += 1;
            want.missing -= set(left);
        }
        let lease = self.next_lease;
        self.next_lease += 1;
        let job = Job { lease, id: want.id, max_bytes, task: task.clone() };
        let held = Lease { want: number, peer: *peer, task, since: now, progressed: now, bytes: 0, void: false };
        self.leases.insert(lease, held);
        Some(job)
    }

    /// Chunks of a range have come, up to `next`. Returns where the range ends now; none if it is somebody else's.
    pub(crate) fn advance(&mut self, lease: LeaseId, next: u64, now: Time) -> Option<u64> {
        let lease = self.leases.get_mut(&lease).filter(|lease| !lease.void)?;
        let Task::Range { size, left } = &mut lease.task else { return None };
        let came = bytes_of(&(left.start..next.min(left.end)), *size);
        left.start = next.clamp(left.start, left.end);
        let end = left.end;
        lease.bytes += came;
        lease.progressed = now;
        let peer = lease.peer;
        let want = self.wants.get_mut(&lease.want)?;
        want.received += came;
        *want.came_from.entry(peer).or_default() += came;
        self.progress.bytes_here += came;
        self.progress.received += came;
        self.brought(&peer, now);
        Some(end)
    }

    /// So many bytes of a small blob have come, all together. Returns whether the rest is still wanted.
    pub(crate) fn advance_whole(&mut self, lease: LeaseId, bytes: u64, now: Time) -> bool {
        match self.leases.get_mut(&lease) {
            Some(lease) if !lease.void => {
                lease.bytes = bytes;
                lease.progressed = now;
                let peer = lease.peer;
                self.brought(&peer, now);
                true
            }
            _ => false,
        }
    }

    /// A small blob has come whole and is in the store.
    pub(crate) fn came_whole(&mut self, lease: LeaseId, size: u64) {
        let Some(lease) = self.leases.get(&lease) else { return };
        let (number, peer) = (lease.want, lease.peer);
        let Some(want) = self.wants.get_mut(&number).filter(|want| want.settled.is_none()) else { return };
        if want.size.is_none() {
            self.progress.bytes += size;
        }
        want.received += size;
        *want.came_from.entry(peer).or_default() += size;
        self.progress.bytes_here += size;
        self.progress.received += size;
        let id = want.id;
        self.done(&id, size);
    }

    fn brought(&mut self, peer: &PeerId, now: Time) {
        if let Some(supply) = self.peers.get_mut(peer) {
            supply.stalled = false;
            supply.brought = now;
        }
    }

    /// The holder has stopped. With an answer, the peer is not asked for this blob again; what had not come is missing.
    pub(crate) fn finish(&mut self, id: LeaseId, answer: Option<ProviderAnswer>, now: Time) {
        let Some(lease) = self.leases.remove(&id) else { return };
        if !lease.void {
            self.give_back(&lease);
        }
        if let Some(supply) = self.peers.get_mut(&lease.peer) {
            supply.requests -= 1;
            supply.ranges -= usize::from(matches!(lease.task, Task::Range { .. }));
            let seconds = now.saturating_sub(lease.since).as_secs_f64();
            if lease.bytes > 0 && seconds > 0.0 {
                let rate = lease.bytes as f64 / seconds;
                supply.rate = if supply.rate == 0.0 { rate } else { NEWEST * rate + (1.0 - NEWEST) * supply.rate };
            }
        }
        if let (Some(answer), Some(want)) = (answer, self.wants.get_mut(&lease.want)) {
            want.answer(&lease.peer, answer);
        }
    }

    /// Takes a lease from its holder, who is told and stops soon.
    pub(super) fn void(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| !lease.void) else { return };
        lease.void = true;
        let (want, task) = (lease.want, lease.task.clone());
        self.voided.push(id);
        self.return_to(want, &task);
    }

    fn give_back(&mut self, lease: &Lease) {
        self.return_to(lease.want, &lease.task);
    }

    fn return_to(&mut self, number: u64, task: &Task) {
        let Some(want) = self.wants.get_mut(&number) else { return };
        want.leases -= 1;
        if let Task::Range { left, .. } = task {
            want.missing |= set(left);
        }
    }
}
