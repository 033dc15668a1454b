//! Hands out leases, counts what comes for them, and takes them back.

use crate::error::ProviderAnswer;
use crate::peers::peer::PeerId;
use crate::ranges::{bytes_of, set};
use crate::swarm::plan::Plan;
use crate::swarm::plan::lease::{BlobPiece, Job, Lease, LeaseId, Time};

/// The weight of the newest request in the moving average of a peer's rate.
const NEWEST: f64 = 0.3;

impl Plan {
    /// Leases a piece of a want to a peer, and returns the request to make.
    pub(super) fn lease(&mut self, number: u64, peer: &PeerId, piece: BlobPiece, now: Time) -> Option<Job> {
        let want = self.wants.get_mut(&number)?;
        want.leases += 1;
        let supply = self.peers.entry(*peer).or_default();
        supply.requests += 1;
        let max_bytes = want.size.unwrap_or(want.max_bytes);
        if let BlobPiece::Range { left, .. } = &piece {
            supply.ranges += 1;
            want.missing -= set(left);
        }
        let lease = self.next_lease;
        self.next_lease += 1;
        let job = Job { lease, id: want.id, max_bytes, piece: piece.clone() };
        let held = Lease { want: number, peer: *peer, piece, since: now, progressed: now, bytes: 0, void: false };
        self.leases.insert(lease, held);
        Some(job)
    }

    /// Records that the chunks of a leased range have come up to the chunk `next`.
    ///
    /// Returns the end of the range, which another peer may have taken over meanwhile, or `None` if the lease
    /// is void.
    pub(crate) fn advance(&mut self, lease: LeaseId, next: u64, now: Time) -> Option<u64> {
        let lease = self.leases.get_mut(&lease).filter(|lease| !lease.void)?;
        let BlobPiece::Range { size, left } = &mut lease.piece else { return None };
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

    /// Records that `bytes` bytes of a small blob have come in all. Returns whether the rest is still wanted.
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

    /// Records that a small blob of `size` bytes has come whole and is in the store.
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

    /// Records that bytes came from a peer.
    fn brought(&mut self, peer: &PeerId, now: Time) {
        if let Some(supply) = self.peers.get_mut(peer) {
            supply.stalled = false;
            supply.brought = now;
        }
    }

    /// Ends a lease whose holder has stopped. Chunks that have not come are missing again.
    ///
    /// With an `answer`, the peer is not asked for this blob any more.
    pub(crate) fn finish(&mut self, id: LeaseId, answer: Option<ProviderAnswer>, now: Time) {
        let Some(lease) = self.leases.remove(&id) else { return };
        if !lease.void {
            self.give_back(lease.want, &lease.piece);
        }
        if let Some(supply) = self.peers.get_mut(&lease.peer) {
            supply.requests -= 1;
            supply.ranges -= usize::from(matches!(lease.piece, BlobPiece::Range { .. }));
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

    /// Takes a lease from its holder. The holder is told and stops soon. Its missing chunks are free at once.
    pub(super) fn void(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| !lease.void) else { return };
        lease.void = true;
        let (want, piece) = (lease.want, lease.piece.clone());
        self.voided.push(id);
        self.give_back(want, &piece);
    }

    /// Makes the chunks of a piece missing again in its want.
    fn give_back(&mut self, number: u64, piece: &BlobPiece) {
        let Some(want) = self.wants.get_mut(&number) else { return };
        want.leases -= 1;
        if let BlobPiece::Range { left, .. } = piece {
            want.missing |= set(left);
        }
    }
}
