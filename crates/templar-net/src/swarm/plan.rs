//! Who fetches what from whom: the swarm's decisions, with no clock, network or disk of their own.
//!
//! A [`Want`] is a blob that somebody waits for. A lane (the task that talks to one peer) asks [`Plan::next`] for work,
//! and gets a lease: a small blob whole, the proof of a large one's length, or a range of it. Fast peers come back
//! sooner and so fetch more; what few peers have goes first; and when nothing is left to begin, whoever is idle takes
//! over what a slower peer would finish later. Invariant: a range is leased to one peer at a time, so no byte of a
//! large blob is asked for twice, except what was on the way when a range changed hands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;

use crate::error::ProviderAnswer;
use crate::have::Have;
use crate::peer::PeerId;

mod lease;
mod pick;
mod want;

pub(crate) use lease::{Job, Lease, LeaseId, Task};
pub(crate) use want::{Failure, Settled, Want};

use super::ranges::{GROUP_BYTES, chunks, set, set_bytes};

/// Time since the swarm began, given by the caller.
pub(crate) type Time = Duration;

/// What is at most so long is fetched whole, into memory, and costs the store one write.
pub(crate) const SMALL_BYTES: u64 = 1 << 20;

/// The bounds of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The longest range of one request, in bytes.
    pub(crate) max_range_bytes: u64,
    /// Ranges asked of one peer at a time.
    pub(crate) ranges_per_peer: usize,
    /// Requests of any kind that one peer has at a time.
    pub(crate) requests_per_peer: usize,
    /// Where this node begins in a blob that several nodes fetch at once, so that they begin at different places.
    pub(crate) offset: u64,
}

/// What is known of a peer while it serves us.
#[derive(Debug, Default)]
struct Supply {
    ranges: usize,
    requests: usize,
    /// Bytes a second of one request, a moving average; zero until the first has ended.
    rate: f64,
    /// It lost a lease because it brought nothing, and has brought nothing since: it takes nothing over from others.
    stalled: bool,
    /// When it last brought something.
    brought: Time,
}

/// Bytes over all wants, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Blobs that somebody has waited for.
    pub blobs: u64,
    /// Those of them that are here.
    pub blobs_here: u64,
    /// The bytes of all blobs whose length is known by now.
    pub bytes: u64,
    /// Those of them that are here.
    pub bytes_here: u64,
    /// Bytes that came over the network.
    pub received: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    rules: Rules,
    wants: BTreeMap<u64, Want>,
    by_id: BTreeMap<Hash, u64>,
    /// Wants that are not settled.
    open: BTreeSet<u64>,
    next_want: u64,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
    peers: BTreeMap<PeerId, Supply>,
    progress: Progress,
    /// Leases that ended without their holder's doing, until the holder has been told.
    voided: Vec<LeaseId>,
}

/// What is here of a blob before anything is fetched.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// The length that the store knows, if it is proven.
    pub(crate) size: Option<u64>,
    /// Chunks.
    pub(crate) here: ChunkRanges,
}

impl Plan {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            wants: BTreeMap::new(),
            by_id: BTreeMap::new(),
            open: BTreeSet::new(),
            next_want: 0,
            leases: BTreeMap::new(),
            next_lease: 0,
            peers: BTreeMap::new(),
            progress: Progress::default(),
            voided: Vec::new(),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// One more caller waits for the blob. What is asked of peers is bounded by the most that any caller allows. Returns
    /// the number of the want; a failure that others have heard of already is not this caller's.
    pub(crate) fn register(&mut self, id: Hash, max_bytes: u64, providers: &[PeerId], local: &Local) -> u64 {
        let known = self.by_id.get(&id).copied();
        if let Some(number) = known
            && let Some(want) = self.wants.get_mut(&number)
            && !matches!(want.settled, Some(Settled::Failed(_)))
        {
            want.interest += 1;
            want.max_bytes = want.max_bytes.max(max_bytes);
            want.providers.extend(providers);
            return number;
        }
        let number = self.next_want;
        self.next_want += 1;
        let mut want = Want::new(id, max_bytes, providers);
        self.progress.blobs += 1;
        if let Some(size) = local.size {
            self.progress.bytes += size;
            self.progress.bytes_here += set_bytes(&local.here, size);
            want.set_size(size, &local.here);
        }
        self.wants.insert(number, want);
        self.by_id.insert(id, number);
        self.open.insert(number);
        number
    }

    /// One caller less waits for a blob; the last one takes what is known of it along.
    pub(crate) fn release(&mut self, number: u64) {
        let Some(want) = self.wants.get_mut(&number) else { return };
        want.interest -= 1;
        if want.interest > 0 {
            return;
        }
        if want.settled.is_none() {
            // Nobody waits for the rest any more.
            self.progress.bytes = self.progress.bytes.saturating_sub(want.missing_bytes());
            self.progress.blobs -= 1;
        }
        if self.by_id.get(&want.id) == Some(&number) {
            self.by_id.remove(&want.id);
        }
        self.open.remove(&number);
        self.wants.remove(&number);
        let orphaned: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.want == number).map(|(id, _)| *id).collect();
        orphaned.into_iter().for_each(|lease| self.void(lease));
    }

    /// How the blob's story ended, with the bytes that came for it: the first to ask gets these, since nobody else
    /// may count them again.
    pub(crate) fn outcome(&mut self, number: u64) -> Option<(Settled, u64)> {
        let want = self.wants.get_mut(&number)?;
        let settled = want.settled.clone()?;
        Some((settled, std::mem::take(&mut want.received)))
    }

    /// Leases whose holders are to stop.
    pub(crate) fn take_voided(&mut self) -> Vec<LeaseId> {
        std::mem::take(&mut self.voided)
    }

    /// The peers that callers named for what is not here yet.
    pub(crate) fn named_providers(&self) -> BTreeSet<PeerId> {
        self.open_wants().flat_map(|(_, want)| want.providers.iter().copied()).collect()
    }

    fn open_wants(&self) -> impl Iterator<Item = (u64, &Want)> {
        self.open.iter().filter_map(|number| Some((*number, self.wants.get(number)?)))
    }

    /// Whether some blob may still come from this peer.
    pub(crate) fn is_useful(&self, peer: &PeerId) -> bool {
        self.open_wants().any(|(_, want)| !want.answers.contains_key(peer))
    }

    /// Whether some blob can come from no other peer of these any more.
    pub(crate) fn is_last_hope(&self, peer: &PeerId, others: &[PeerId]) -> bool {
        self.open_wants().any(|(_, want)| {
            want.leases == 0
                && !want.answers.contains_key(peer)
                && others.iter().all(|other| want.answers.contains_key(other))
        })
    }

    /// At most `max` blobs of which it is not known whether this peer has them. With `again`, also those of which it had
    /// nothing or a part.
    pub(crate) fn to_ask(&self, peer: &PeerId, again: bool, max: usize) -> Vec<Hash> {
        let open = self.open_wants().filter(|(_, want)| !want.answers.contains_key(peer));
        let unknown = open.filter(|(_, want)| match want.haves.get(peer) {
            None => true,
            Some(Have::All) => false,
            Some(Have::Nothing | Have::Part(_)) => again,
        });
        unknown.map(|(_, want)| want.id).take(max).collect()
    }

    /// What a peer says that it has. Returns whether that is more than before.
    pub(crate) fn set_have(&mut self, peer: &PeerId, id: &Hash, have: Have) -> bool {
        let Some(want) = self.by_id.get(id).and_then(|number| self.wants.get_mut(number)) else { return false };
        want.set_have(peer, have)
    }

    /// The peer is of no use for anything that is wanted now. Its ranges go back.
    pub(crate) fn dismiss(&mut self, peer: &PeerId, answer: &ProviderAnswer) {
        for number in self.open.clone() {
            if let Some(want) = self.wants.get_mut(&number) {
                want.answer(peer, answer.clone());
            }
        }
        self.take_back(peer);
    }

    /// What the peer holds goes back; it may be asked again.
    pub(crate) fn take_back(&mut self, peer: &PeerId) {
        let held: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.peer == *peer).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|lease| self.void(lease));
    }

    /// A peer that has a part, or nothing yet, has had its time: what nobody else is fetching does not come from it.
    pub(crate) fn give_up_on(&mut self, peer: &PeerId) {
        for number in self.open.clone() {
            let Some(want) = self.wants.get_mut(&number) else { continue };
            if want.leases == 0 && matches!(want.haves.get(peer), Some(Have::Part(_))) {
                let received = want.came_from.get(peer).copied().unwrap_or(0);
                want.answer(peer, ProviderAnswer::OnlyPart { received });
            }
        }
    }

    /// Fails the blobs that none of `peers`, which is everybody, can give any more. Returns whether there were any.
    pub(crate) fn fail_exhausted(&mut self, peers: &[PeerId]) -> bool {
        let exhausted: Vec<u64> = self
            .open_wants()
            .filter(|(_, want)| want.leases == 0 && peers.iter().all(|peer| want.answers.contains_key(peer)))
            .map(|(number, _)| number)
            .collect();
        for number in &exhausted {
            if let Some(want) = self.wants.get_mut(number) {
                let answers = peers.iter().filter_map(|peer| Some((*peer, want.final_answer(peer)?)));
                let failure = Failure::NoProvider(answers.collect());
                self.settle(*number, Settled::Failed(failure));
            }
        }
        !exhausted.is_empty()
    }

    /// The blob cannot come, whoever has it.
    pub(crate) fn fail(&mut self, id: &Hash, failure: Failure) {
        if let Some(number) = self.by_id.get(id).copied() {
            self.settle(number, Settled::Failed(failure));
        }
    }

    /// The blob is in the store, whole and kept.
    pub(crate) fn done(&mut self, id: &Hash, size: u64) {
        if let Some(number) = self.by_id.get(id).copied() {
            self.settle(number, Settled::Here { size });
        }
    }

    /// Nothing comes any more.
    pub(crate) fn fail_all(&mut self, failure: &Failure) {
        for number in self.open.clone() {
            self.settle(number, Settled::Failed(failure.clone()));
        }
    }

    fn settle(&mut self, number: u64, settled: Settled) {
        if !self.open.remove(&number) {
            return;
        }
        let Some(want) = self.wants.get_mut(&number) else { return };
        if let Settled::Here { .. } = settled {
            self.progress.blobs_here += 1;
        }
        want.settled = Some(settled);
        let held: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.want == number).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|lease| self.void(lease));
    }

    /// The length of a large blob is proven. `stored` are the chunks that came with the proof and are in the store.
    pub(crate) fn proved(&mut self, lease: LeaseId, size: u64, stored: &ChunkRanges) {
        let Some((number, peer)) = self.leases.get(&lease).map(|lease| (lease.want, lease.peer)) else { return };
        let Some(want) = self.wants.get_mut(&number) else { return };
        if want.size.is_none() {
            want.set_size(size, stored);
            let here = set_bytes(stored, size);
            want.received += here;
            *want.came_from.entry(peer).or_default() += here;
            self.progress.bytes += size;
            self.progress.bytes_here += here;
            self.progress.received += here;
        }
        let others: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(other, held)| **other != lease && held.want == number && matches!(held.task, Task::Proof { .. }))
            .map(|(id, _)| *id)
            .collect();
        others.into_iter().for_each(|other| self.void(other));
    }

    /// Whether all of a blob has come and nobody is still writing to it; then with its length.
    pub(crate) fn is_whole(&self, id: &Hash) -> Option<u64> {
        let number = self.by_id.get(id)?;
        let want = self.wants.get(number)?;
        let idle = !self.leases.values().any(|lease| lease.want == *number);
        want.size.filter(|_| idle && want.settled.is_none() && want.missing.is_empty())
    }

    /// A peer that served well before begins with that rate, in bytes a second of one request.
    pub(crate) fn welcome(&mut self, peer: &PeerId, rate: Option<u64>) {
        self.peers.entry(*peer).or_default().rate = rate.unwrap_or(0) as f64;
    }

    /// Whether the peer has brought nothing at all for so long.
    pub(crate) fn is_silent(&self, peer: &PeerId, time: Duration, now: Time) -> bool {
        self.peers.get(peer).is_none_or(|supply| now.saturating_sub(supply.brought) >= time)
    }

    /// Whether the peer has brought anything since then.
    pub(crate) fn has_brought(&self, peer: &PeerId, since: Time) -> bool {
        self.peers.get(peer).is_some_and(|supply| supply.brought > since)
    }

    /// Forgets a peer whose lane has ended, and what it still held. Returns how fast it was, if that is known.
    pub(crate) fn farewell(&mut self, peer: &PeerId, now: Time) -> Option<u64> {
        let held: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.peer == *peer).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|lease| self.finish(lease, None, now));
        let supply = self.peers.remove(peer)?;
        (supply.rate > 0.0).then_some(supply.rate as u64)
    }

    /// The store has less of a blob than came: whatever is not here is missing again. Returns whether that is anything.
    pub(crate) fn recount(&mut self, id: &Hash, local: &Local) -> bool {
        let Some(want) = self.by_id.get(id).and_then(|number| self.wants.get_mut(number)) else { return false };
        let Some(size) = want.size else { return false };
        let before = want.missing_bytes();
        want.set_size(size, &local.here);
        let lost = want.missing_bytes().saturating_sub(before);
        self.progress.bytes_here = self.progress.bytes_here.saturating_sub(lost);
        !want.missing.is_empty()
    }

    /// The lengths of these blobs together, as far as they are known by now.
    pub(crate) fn known_bytes(&self, ids: &[Hash]) -> u64 {
        let sizes = ids.iter().filter_map(|id| self.wants.get(self.by_id.get(id)?)?.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The chunks with which a proof of length begins: the last group of a blob of `max_bytes`, which is usually the
    /// length; of a shorter blob this gives the last chunk, and of a longer one it proves that it is longer.
    fn proof_start(max_bytes: u64) -> u64 {
        (max_bytes.max(1) - 1) / GROUP_BYTES * super::ranges::GROUP
    }

    /// The chunks of a whole blob.
    fn all_chunks(size: u64) -> ChunkRanges {
        set(&(0..chunks(size)))
    }
}

#[cfg(test)]
mod tests;
