//! The plan decides which peer is asked for which piece of which blob. It has no clock, network or disk of its
//! own.
//!
//! A [`Want`] is a blob that somebody waits for. The task that talks to a peer asks [`Plan::next`] for a job
//! and gets a lease: a small blob whole, the proof of a large blob's length, or a range of it. Fast peers
//! finish sooner and so fetch more. Pieces that few peers have are fetched first. When every piece is leased,
//! an idle peer takes over the piece that a slower peer would finish last. Invariant: a range is leased to one
//! peer at a time, so no byte of a large blob is requested twice, except for bytes on their way when a range
//! changes hands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;

use crate::error::ProviderAnswer;
use crate::peers::peer::PeerId;
use crate::ranges::{GROUP, GROUP_BYTES, set_bytes};
use crate::serve::have::Have;

mod lease;
mod lend;
mod pick;
#[cfg(test)]
mod tests;
mod want;

pub(crate) use lease::{BlobPiece, Job, LeaseId, Time};
pub(crate) use want::{FetchFailure, SMALL_BYTES, Settled};

use lease::Lease;
use want::Want;

/// The bounds that the plan keeps to.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The longest range of one request, in bytes.
    pub(crate) max_range_bytes: u64,
    /// The number of ranges that one peer may hold at a time.
    pub(crate) ranges_per_peer: usize,
    /// The number of requests of any kind that one peer may have at a time.
    pub(crate) requests_per_peer: usize,
    /// A number of this node's own: the place in a blob at which it begins. Nodes that fetch the same blob at
    /// the same time then begin at different places.
    pub(crate) offset: u64,
}

/// The state of a peer while it serves us.
#[derive(Debug, Default)]
struct Supply {
    /// The number of ranges that it holds.
    ranges: usize,
    /// The number of its requests, of any kind.
    requests: usize,
    /// The bytes per second of one request, as a moving average. It is 0 until the first request has ended.
    rate: f64,
    /// Whether it lost a lease because it brought nothing, and has brought nothing since. It takes nothing over
    /// then.
    stalled: bool,
    /// The time at which it last brought something.
    brought: Time,
}

/// The progress of all fetches of a node together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchProgress {
    /// The number of blobs that callers have waited for.
    pub blobs: u64,
    /// The number of these blobs that are in the store.
    pub blobs_here: u64,
    /// The bytes of all these blobs, as far as their lengths are known.
    pub bytes: u64,
    /// The bytes of these blobs that are in the store.
    pub bytes_here: u64,
    /// The bytes that came over the network.
    pub received: u64,
}

/// The state of all fetches of a node.
#[derive(Debug)]
pub(crate) struct Plan {
    rules: Rules,
    /// The wants by their numbers.
    wants: BTreeMap<u64, Want>,
    /// The number of each blob's newest want.
    by_id: BTreeMap<Hash, u64>,
    /// The numbers of the wants that are not settled.
    open: BTreeSet<u64>,
    next_want: u64,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
    peers: BTreeMap<PeerId, Supply>,
    progress: FetchProgress,
    /// The leases that were taken from their holders, until the holders have been told.
    voided: Vec<LeaseId>,
}

/// The part of a blob that the store holds before anything is fetched.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// The blob's length in bytes, if it is proven.
    pub(crate) size: Option<u64>,
    /// The chunks in the store.
    pub(crate) here: ChunkRanges,
}

impl Plan {
    /// A plan without wants.
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
            progress: FetchProgress::default(),
            voided: Vec::new(),
        }
    }

    /// The progress of all fetches together.
    pub(crate) fn progress(&self) -> FetchProgress {
        self.progress
    }

    /// Registers one more caller that waits for a blob of at most `max_bytes` bytes. Returns the number of the
    /// want.
    ///
    /// Callers that wait for the same blob share a want, and the largest of their bounds counts. A want that
    /// has failed is not shared: a new caller gets a new attempt.
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

    /// Records that a caller no longer waits. When the last one leaves, the want ends and its leases are taken
    /// away.
    pub(crate) fn release(&mut self, number: u64) {
        let Some(want) = self.wants.get_mut(&number) else { return };
        want.interest -= 1;
        if want.interest > 0 {
            return;
        }
        if want.settled.is_none() {
            // Nobody waits for the missing rest any more, so it no longer counts.
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

    /// The end of the wait, if it has ended, with the bytes that came over the network.
    ///
    /// The first caller gets the bytes and the others get 0, so that no byte is counted twice.
    pub(crate) fn outcome(&mut self, number: u64) -> Option<(Settled, u64)> {
        let want = self.wants.get_mut(&number)?;
        let settled = want.settled.clone()?;
        Some((settled, std::mem::take(&mut want.received)))
    }

    /// The leases whose holders must be told to stop. Each is returned once.
    pub(crate) fn take_voided(&mut self) -> Vec<LeaseId> {
        std::mem::take(&mut self.voided)
    }

    /// The peers that callers named as providers of blobs that have not come yet.
    pub(crate) fn named_providers(&self) -> BTreeSet<PeerId> {
        self.open_wants().flat_map(|(_, want)| want.providers.iter().copied()).collect()
    }

    /// The wants that are not settled, oldest first.
    fn open_wants(&self) -> impl Iterator<Item = (u64, &Want)> {
        self.open.iter().filter_map(|number| Some((*number, self.wants.get(number)?)))
    }

    /// Whether some blob may still come from this peer.
    pub(crate) fn is_useful(&self, peer: &PeerId) -> bool {
        self.open_wants().any(|(_, want)| !want.answers.contains_key(peer))
    }

    /// Whether some blob may come from this peer, but from none of `others` any more.
    pub(crate) fn is_last_hope(&self, peer: &PeerId, others: &[PeerId]) -> bool {
        self.open_wants().any(|(_, want)| {
            want.leases == 0
                && !want.answers.contains_key(peer)
                && others.iter().all(|other| want.answers.contains_key(other))
        })
    }

    /// At most `max` blobs for which the peer has not said whether it has them.
    ///
    /// With `again`, these include the blobs of which it had nothing or only a part when it was last asked.
    pub(crate) fn to_ask(&self, peer: &PeerId, again: bool, max: usize) -> Vec<Hash> {
        let open = self.open_wants().filter(|(_, want)| !want.answers.contains_key(peer));
        let unknown = open.filter(|(_, want)| match want.haves.get(peer) {
            None => true,
            Some(Have::All) => false,
            Some(Have::Nothing | Have::Part(_)) => again,
        });
        unknown.map(|(_, want)| want.id).take(max).collect()
    }

    /// Records a peer's share of a blob. Returns whether it is more than the peer said before.
    pub(crate) fn set_have(&mut self, peer: &PeerId, id: &Hash, have: Have) -> bool {
        let Some(want) = self.by_id.get(id).and_then(|number| self.wants.get_mut(number)) else { return false };
        want.set_have(peer, have)
    }

    /// Records that the peer can deliver none of the blobs that are wanted now, and takes its leases away.
    pub(crate) fn dismiss(&mut self, peer: &PeerId, answer: &ProviderAnswer) {
        for number in self.open.clone() {
            if let Some(want) = self.wants.get_mut(&number) {
                want.answer(peer, answer.clone());
            }
        }
        self.take_back(peer);
    }

    /// Takes the leases of a peer away. The peer may be asked again.
    pub(crate) fn take_back(&mut self, peer: &PeerId) {
        let held: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.peer == *peer).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|lease| self.void(lease));
    }

    /// Gives up on a peer that has only a part of some blobs, for those of them that nobody is fetching now.
    pub(crate) fn give_up_on(&mut self, peer: &PeerId) {
        for number in self.open.clone() {
            let Some(want) = self.wants.get_mut(&number) else { continue };
            if want.leases == 0 && matches!(want.haves.get(peer), Some(Have::Part(_))) {
                let received = want.came_from.get(peer).copied().unwrap_or(0);
                want.answer(peer, ProviderAnswer::OnlyPart { received });
            }
        }
    }

    /// Fails the blobs that no peer can deliver any more. `peers` are all known peers. Returns whether there
    /// were any.
    pub(crate) fn fail_exhausted(&mut self, peers: &[PeerId]) -> bool {
        let exhausted: Vec<u64> = self
            .open_wants()
            .filter(|(_, want)| want.leases == 0 && peers.iter().all(|peer| want.answers.contains_key(peer)))
            .map(|(number, _)| number)
            .collect();
        for number in &exhausted {
            if let Some(want) = self.wants.get_mut(number) {
                let answers = peers.iter().filter_map(|peer| Some((*peer, want.final_answer(peer)?)));
                let failure = FetchFailure::NoProvider(answers.collect());
                self.settle(*number, Settled::Failed(failure));
            }
        }
        !exhausted.is_empty()
    }

    /// Ends the wait for a blob with a failure that no peer can repair.
    pub(crate) fn fail(&mut self, id: &Hash, failure: FetchFailure) {
        if let Some(number) = self.by_id.get(id).copied() {
            self.settle(number, Settled::Failed(failure));
        }
    }

    /// Ends the wait for a blob that is whole in the store and protected from deletion.
    pub(crate) fn done(&mut self, id: &Hash, size: u64) {
        if let Some(number) = self.by_id.get(id).copied() {
            self.settle(number, Settled::Here { size });
        }
    }

    /// Ends every wait with this failure.
    pub(crate) fn fail_all(&mut self, failure: &FetchFailure) {
        for number in self.open.clone() {
            self.settle(number, Settled::Failed(failure.clone()));
        }
    }

    /// Ends the wait for a want, and takes its leases away.
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

    /// Records the proven length of a large blob. The chunks `stored` came with the proof and are in the store.
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
            .filter(|(other, held)| {
                **other != lease && held.want == number && matches!(held.piece, BlobPiece::Proof { .. })
            })
            .map(|(id, _)| *id)
            .collect();
        others.into_iter().for_each(|other| self.void(other));
    }

    /// The length of a blob of which no chunk is missing and to which no lease still writes. `None` for another
    /// blob.
    pub(crate) fn is_whole(&self, id: &Hash) -> Option<u64> {
        let number = self.by_id.get(id)?;
        let want = self.wants.get(number)?;
        let idle = !self.leases.values().any(|lease| lease.want == *number);
        want.size.filter(|_| idle && want.settled.is_none() && want.missing.is_empty())
    }

    /// Begins the service of a peer, with its earlier rate in bytes per second of one request.
    pub(crate) fn welcome(&mut self, peer: &PeerId, rate: Option<u64>) {
        self.peers.entry(*peer).or_default().rate = rate.unwrap_or(0) as f64;
    }

    /// Whether the peer has brought nothing at all for the duration `time`.
    pub(crate) fn is_silent(&self, peer: &PeerId, time: Duration, now: Time) -> bool {
        self.peers.get(peer).is_none_or(|supply| now.saturating_sub(supply.brought) >= time)
    }

    /// Whether the peer has brought anything after the time `since`.
    pub(crate) fn has_brought(&self, peer: &PeerId, since: Time) -> bool {
        self.peers.get(peer).is_some_and(|supply| supply.brought > since)
    }

    /// Ends the service of a peer and its remaining leases. Returns its rate, if it is known.
    pub(crate) fn farewell(&mut self, peer: &PeerId, now: Time) -> Option<u64> {
        let held: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.peer == *peer).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|lease| self.finish(lease, None, now));
        let supply = self.peers.remove(peer)?;
        (supply.rate > 0.0).then_some(supply.rate as u64)
    }

    /// Counts the missing chunks of a blob anew from the store. Returns whether there are any.
    pub(crate) fn recount(&mut self, id: &Hash, local: &Local) -> bool {
        let Some(want) = self.by_id.get(id).and_then(|number| self.wants.get_mut(number)) else { return false };
        let Some(size) = want.size else { return false };
        let before = want.missing_bytes();
        want.set_size(size, &local.here);
        let lost = want.missing_bytes().saturating_sub(before);
        self.progress.bytes_here = self.progress.bytes_here.saturating_sub(lost);
        !want.missing.is_empty()
    }

    /// The sum of the lengths of these blobs, as far as they are known.
    pub(crate) fn known_bytes(&self, ids: &[Hash]) -> u64 {
        let sizes = ids.iter().filter_map(|id| self.wants.get(self.by_id.get(id)?)?.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The first chunk to ask for as a proof of length: the last group of a blob of `max_bytes`, which is
    /// usually its length.
    ///
    /// If the blob is shorter, the provider sends its last chunk instead. If it is longer, the chunks prove
    /// that.
    fn proof_start(max_bytes: u64) -> u64 {
        (max_bytes.max(1) - 1) / GROUP_BYTES * GROUP
    }
}
