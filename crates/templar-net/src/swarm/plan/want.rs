//! A blob that somebody waits for: what of it is missing, who may have it, and who could not give it.

use std::collections::{BTreeMap, BTreeSet};

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;

use super::super::ranges::{chunks, set_bytes, whole_groups};
use super::{Plan, SMALL_BYTES};
use crate::error::ProviderAnswer;
use crate::have::Have;
use crate::peer::PeerId;

/// How the wait for a blob ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is in the store.
    Here {
        /// Its length in bytes.
        size: u64,
    },
    /// It is not.
    Failed(Failure),
}

/// Why a blob did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What everybody answered.
    NoProvider(Vec<(PeerId, ProviderAnswer)>),
    /// It has this length, proven, above the limit.
    TooLarge { size: u64 },
    /// The local disk is full.
    DiskFull,
    /// The local store failed.
    Store(String),
    /// The network was shut down.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) id: Hash,
    pub(super) max_bytes: u64,
    /// How many callers wait.
    pub(super) interest: usize,
    /// Peers that callers named.
    pub(super) providers: BTreeSet<PeerId>,
    /// The blob's length, proven.
    pub(super) size: Option<u64>,
    /// Chunks that are neither here nor leased, once the length is known.
    pub(super) missing: ChunkRanges,
    /// Leases that name it.
    pub(super) leases: usize,
    /// Bytes that came over the network.
    pub(super) received: u64,
    pub(super) haves: BTreeMap<PeerId, Have>,
    /// How many peers said that they have all or a part of it.
    pub(super) havers: usize,
    /// Peers that are of no use for it, and why.
    pub(super) answers: BTreeMap<PeerId, ProviderAnswer>,
    /// Bytes that came from each peer.
    pub(super) came_from: BTreeMap<PeerId, u64>,
    pub(super) settled: Option<Settled>,
}

fn counts(have: &Have) -> usize {
    usize::from(!matches!(have, Have::Nothing))
}

impl Want {
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

    /// Sets the proven length, and what is missing when these chunks are here. Only whole groups count.
    pub(super) fn set_size(&mut self, size: u64, here: &ChunkRanges) {
        self.size = Some(size);
        self.missing = &Plan::all_chunks(size) - &whole_groups(here, chunks(size));
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        self.size.map_or(0, |size| set_bytes(&self.missing, size))
    }

    /// Whether it is fetched whole and into memory. What is partly here is continued instead.
    pub(super) fn is_small(&self) -> bool {
        match self.size {
            Some(size) => size <= SMALL_BYTES && self.missing == Plan::all_chunks(size),
            None => self.max_bytes <= SMALL_BYTES,
        }
    }

    /// Whether there is something to be leased that is not leased.
    pub(super) fn has_work(&self) -> bool {
        match self.size {
            Some(_) if !self.is_small() => !self.missing.is_empty(),
            // One at a time fetches it whole, or proves the length.
            _ => self.leases == 0,
        }
    }

    /// Returns whether the peer has more than it said before.
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

    /// What the peer answered in the end: one request may have failed when others had brought something, or were to.
    pub(super) fn final_answer(&self, peer: &PeerId) -> Option<ProviderAnswer> {
        let received = self.came_from.get(peer).copied().unwrap_or(0);
        Some(match self.answers.get(peer)? {
            ProviderAnswer::Aborted { .. } | ProviderAnswer::NotHere if received > 0 => {
                ProviderAnswer::Aborted { received }
            }
            answer => answer.clone(),
        })
    }

    pub(super) fn answer(&mut self, peer: &PeerId, answer: ProviderAnswer) {
        if let Some(have) = self.haves.remove(peer) {
            self.havers -= counts(&have);
        }
        self.answers.entry(*peer).or_insert(answer);
    }
}
