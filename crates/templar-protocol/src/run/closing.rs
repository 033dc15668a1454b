//! The results of closing a window: the outer step, the record, and what nodes that judge the same share.

use std::collections::BTreeSet;
use std::sync::Arc;

use templar_manifest::{
    BlobId, CheckpointId, ContributionId, Outcome, PublicKey, RecordId, Refuted, Score, ScoreId, Verdict, WindowIndex,
    WindowRecord,
};

use crate::cache::Cache;
use crate::gauntlet::Assessment;

/// The decisions of the counted scores.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settlement {
    /// The verdict on each contribution of the cut, sorted by miner.
    pub(crate) outcomes: Vec<Outcome>,
    /// The changes of the standings.
    pub(crate) assessment: Assessment,
}

/// The result of a window's outer step: the fields of a record that follow from tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stepped {
    /// The blob with the aggregated deltas, merged.
    pub aggregate: BlobId,
    /// The length of the aggregate in bytes.
    pub aggregate_bytes: u64,
    /// The checkpoint after the window.
    pub checkpoint: CheckpointId,
    /// Mean loss of that checkpoint on the held-out pages, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
}

impl Stepped {
    /// The outer step that a record states.
    pub const fn of(record: &WindowRecord) -> Self {
        Self {
            aggregate: record.body.aggregate,
            aggregate_bytes: record.body.aggregate_bytes,
            checkpoint: record.header.checkpoint,
            held_out_loss_nanonats: record.body.held_out_loss_nanonats,
        }
    }
}

/// A record that a node computed itself, with the state `S` that follows.
#[derive(Debug)]
pub(crate) struct OwnRecord<S> {
    pub(crate) id: RecordId,
    pub(crate) record: WindowRecord,
    /// The state that it leads to.
    pub(crate) next: Arc<S>,
}

/// The scores that a record counts, in the order of their validators, and the outcomes that follow.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    pub(super) scores: &'a [&'a Score],
    /// The statements of other scores that it refutes.
    pub(super) refuted: &'a [Refuted],
    /// The verdict on each contribution of the cut, sorted by miner.
    pub(super) outcomes: &'a [Outcome],
}

/// Results that nodes with the same judging compute once for all of them, by the ids of the scores, ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Closings {
    pub(super) settlements: Cache<Vec<ScoreId>, Settlement>,
    pub(super) contested: Cache<Vec<ScoreId>, BTreeSet<(WindowIndex, PublicKey, ContributionId)>>,
    pub(super) measurements: Cache<Vec<ScoreId>, BTreeSet<PublicKey>>,
}

/// The ids of scores, ascending.
pub(super) fn ids_of(scores: &[(ScoreId, &Score)]) -> Vec<ScoreId> {
    let mut ids: Vec<ScoreId> = scores.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids
}

/// The outcomes that are not refusals.
pub(super) fn accepted(outcomes: &[Outcome]) -> impl Iterator<Item = &Outcome> {
    outcomes.iter().filter(|outcome| !matches!(outcome.verdict, Verdict::Refused(_)))
}
