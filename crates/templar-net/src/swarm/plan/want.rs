//! A want: a blob that somebody waits for, its missing chunks, the peers that have it, and those that failed to
//! deliver it.

use std::collections::{BTreeMap, BTreeSet};

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;

use crate::error::ProviderAnswer;
use crate::peers::peer::PeerId;
use crate::ranges::{chunks, set, set_bytes, whole_groups};
use crate::serve::have::Have;

/// The longest blob, in bytes, that is fetched whole and into memory. It then costs the store one write.
pub(crate) const SMALL_BYTES: u64 = 1 << 20;

/// The set of all chunks of a blob of `size` bytes.
pub(super) fn all_chunks(size: u64) -> ChunkRanges {
    set(&(0..chunks(size)))
}

/// The end of the wait for a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The blob is in the store.
    Here {
        /// Its length in bytes.
        size: u64,
    },
    /// The blob did not come.
    Failed(FetchFailure),
}

/// The reason why a blob did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetchFailure {
    /// No peer delivered it. The answer of each peer, in the order in which they were asked.
    NoProvider(Vec<(PeerId, ProviderAnswer)>),
    /// Its length in bytes is proven, and is above the limit.
    TooLarge { size: u64 },
    /// The local disk is full.
    DiskFull,
    /// The local store failed, with the reason.
    Store(String),
    /// The network was shut down.
    Closed,
}

/// A blob that at least one caller waits for.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) id: Hash,
    /// The largest length, in bytes, that any caller allows.
    pub(super) max_bytes: u64,
    /// The number of callers that wait for it.
    pub(super) interest: usize,
    /// The peers that callers named as its providers.
    pub(super) providers: BTreeSet<PeerId>,
    /// The blob's length in bytes, once it is proven.
    pub(super) size: Option<u64>,
    /// Once the length is known: the chunks that are neither in the store nor leased.
    pub(super) missing: ChunkRanges,
    /// The number of its pieces that are leased.
    pub(super) leases: usize,
    /// The bytes that came over the network and that no caller has counted yet.
    pub(super) received: u64,
    /// The shares of the blob that peers said they have.
    pub(super) haves: BTreeMap<PeerId, Have>,
    /// The number of peers that said they have all or a part of it.
    pub(super) havers: usize,
    /// The peers that cannot deliver it any more, each with its answer.
    pub(super) answers: BTreeMap<PeerId, ProviderAnswer>,
    /// The bytes that came from each peer.
    pub(super) came_from: BTreeMap<PeerId, u64>,
    /// The end of the wait, once it has ended.
    pub(super) settled: Option<Settled>,
}

/// 1 for a peer that has something of the blob, 0 for another.
fn counts(have: &Have) -> usize {
    usize::from(!matches!(have, Have::Nothing))
}

impl Want {
    /// A blob that one caller waits for, of at most `max_bytes` bytes, with nothing here yet.
    pub(super) fn new(id: Hash, max_bytes: u64, providers: &[PeerId]) -> Self {
        Self {
            id,
            max_bytes,
            interest: 1,
            providers: providers.iter().copied().collect(),
            size: None,
            missing: ChunkRanges::empty(),
            leases: 0,
            received: 0,
            haves: BTreeMap::new(),
            havers: 0,
            answers: BTreeMap::new(),
            came_from: BTreeMap::new(),
            settled: None,
        }
    }

    /// Sets the proven length, and counts the chunks besides `here` as missing. Only whole groups count as
    /// here.
    pub(super) fn set_size(&mut self, size: u64, here: &ChunkRanges) {
        self.size = Some(size);
        self.missing = &all_chunks(size) - &whole_groups(here, chunks(size));
    }

    /// The bytes of the missing chunks, or 0 while the length is unknown.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.size.map_or(0, |size| set_bytes(&self.missing, size))
    }

    /// Whether the blob is fetched whole and into memory. A blob that is partly in the store is continued
    /// instead.
    pub(super) fn is_small(&self) -> bool {
        match self.size {
            Some(size) => size <= SMALL_BYTES && self.missing == all_chunks(size),
            None => self.max_bytes <= SMALL_BYTES,
        }
    }

    /// Whether some piece of it can be leased.
    pub(super) fn has_work(&self) -> bool {
        match self.size {
            Some(_) if !self.is_small() => !self.missing.is_empty(),
            // A small blob, or the proof of a length, is leased to one peer at a time.
            _ => self.leases == 0,
        }
    }

    /// Records a peer's share of the blob. Returns whether it is more than the peer said before.
    pub(super) fn set_have(&mut self, peer: &PeerId, have: Have) -> bool {
        let before = self.haves.get(peer);
        let more = match (before, &have) {
            (_, Have::Nothing) | (Some(Have::All), _) => false,
            (Some(Have::Part(before)), Have::Part(now)) => !now.is_subset(before),
            _ => true,
        };
        self.havers = self.havers + counts(&have) - before.map_or(0, counts);
        self.haves.insert(*peer, have);
        more
    }

    /// The peer's answer over all of its requests, if it has answered.
    ///
    /// Some of its requests may have brought bytes before another one failed, so "not here" can mean "gave up".
    pub(super) fn final_answer(&self, peer: &PeerId) -> Option<ProviderAnswer> {
        let received = self.came_from.get(peer).copied().unwrap_or(0);
        Some(match self.answers.get(peer)? {
            ProviderAnswer::Aborted { .. } | ProviderAnswer::NotHere if received > 0 => {
                ProviderAnswer::Aborted { received }
            }
            answer => answer.clone(),
        })
    }

    /// Records that the peer cannot deliver the blob any more. Its first answer counts.
    pub(super) fn answer(&mut self, peer: &PeerId, answer: ProviderAnswer) {
        if let Some(have) = self.haves.remove(peer) {
            self.havers -= counts(&have);
        }
        self.answers.entry(*peer).or_insert(answer);
    }
}
