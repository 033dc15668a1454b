//! What closing a window comes to: the outer step, the record that follows, and what nodes that judge the same share.

use std::collections::BTreeSet;

use templar_manifest::{
    BlobId, CheckpointId, ContributionId, Outcome, PublicKey, RecordId, Score, ScoreId, WindowIndex, WindowRecord,
};

use crate::cache::Cache;
use crate::gauntlet::Standings;

/// What the outer step of a window came to: what a record says that only tensors can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stepped {
    /// The aggregated deltas, merged.
    pub aggregate: BlobId,
    /// The length of that.
    pub aggregate_bytes: u64,
    /// The model after the window.
    pub checkpoint: CheckpointId,
    /// Its mean loss on the held-out pages, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
}

impl Stepped {
    /// What a record says.
    pub const fn of(record: &WindowRecord) -> Self {
        Self {
            aggregate: record.aggregate,
            aggregate_bytes: record.aggregate_bytes,
            checkpoint: record.checkpoint,
            held_out_loss_nanonats: record.held_out_loss_nanonats,
        }
    }
}

/// A record that a node finds right.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) id: RecordId,
    pub(crate) record: WindowRecord,
    /// All standings after it.
    pub(super) standings: Standings,
}

/// The scores that a record counts, in the order of their validators, and what they make of the cut.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    pub(super) scores: &'a [&'a Score],
    /// What became of each contribution, sorted by miner.
    pub(super) outcomes: &'a [Outcome],
}

/// What nodes that judge the same need not each work out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Closings {
    pub(super) outcomes: Cache<Vec<ScoreId>, Vec<Outcome>>,
    pub(super) records: Cache<(Vec<ScoreId>, Stepped), Closing>,
    pub(super) contested: Cache<Vec<ScoreId>, BTreeSet<(WindowIndex, PublicKey, ContributionId)>>,
}

/// The ids of scores, ascending.
pub(super) fn ids_of(scores: &[(ScoreId, &Score)]) -> Vec<ScoreId> {
    let mut ids: Vec<ScoreId> = scores.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids
}
