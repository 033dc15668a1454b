//! The rule on which blobs of a run must stay and which may go: a pure function of the run's record.
//!
//! These blobs stay always:
//!
//! * genesis, the dataset's manifest, tokenizer, shards, and the tensors that the genesis names;
//! * contributions, inboxes, cuts, scores and records, and the deltas, traces and aggregates that these name.
//!
//! With `n` the genesis' `state_retention_windows`, these stay for a time:
//!
//! * checkpoints: the first, that of the open window, those before each of the last `n` windows, and those that a
//!   signed record of the open window names;
//! * states: those before and after the contributions of the open window and of the last `n` windows, and the
//!   newest of each miner.
//!
//! All other checkpoints and states may go. Deltas and traces of closed windows that no cut names may go too;
//! [`crate::inventory`] tells them by their own bytes.
//!
//! No information is lost with a blob that may go. Each checkpoint follows from the one before it and the
//! window's aggregate, and each state from a replay of the contribution that left it. So an audit of all
//! windows needs neither, and an audit of one old window first recomputes those before it. The rule says
//! nothing about blobs that no run names; the module `inventory` keeps them.

use std::collections::BTreeMap;

use templar_manifest::{
    BenchmarkSpec, CheckpointId, Contribution, Dataset, Genesis, Hash, Initial, RunId, Signed, StateId, WindowBody,
    WindowRecord,
};
use templar_protocol::{ClosedWindow, Node};

use crate::context::RunContext;

/// The sort of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// A dataset's manifest, tokenizer or shard.
    Dataset,
    /// A checkpoint's manifest or tensor, or a tensor that genesis starts from.
    Checkpoint,
    /// The compressed pseudo-gradient of a contribution.
    Delta,
    /// The trace of a contribution's inner steps.
    Trace,
    /// The merged deltas of a window.
    Aggregate,
    /// A state's manifest or tensor.
    State,
    /// A manifest of another kind.
    Manifest,
    /// Any other blob, as far as this home knows.
    Other,
}

impl Sort {
    /// All sorts, in the order in which they are listed.
    pub const ALL: [Self; 8] = [
        Self::Dataset,
        Self::Checkpoint,
        Self::Delta,
        Self::Trace,
        Self::Aggregate,
        Self::State,
        Self::Manifest,
        Self::Other,
    ];

    /// The name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Checkpoint => "checkpoint",
            Self::Delta => "delta",
            Self::Trace => "trace",
            Self::Aggregate => "aggregate",
            Self::State => "state",
            Self::Manifest => "manifest",
            Self::Other => "other",
        }
    }
}

/// The verdict of the rule on a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobVerdict {
    /// The sort of the blob.
    pub sort: Sort,
    /// Whether the blob must stay.
    pub stays: bool,
}

/// The parts of a run's record that the rule reads.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The id of the run.
    pub run: RunId,
    /// The genesis of the run.
    pub genesis: &'a Genesis,
    /// The dataset of the run.
    pub dataset: &'a Dataset,
    /// The checkpoint from which the run starts.
    pub first: CheckpointId,
    /// The checkpoint of the open window.
    pub current: CheckpointId,
    /// The closed windows that are known, in order: the record of each, and the contributions of its cut.
    pub closed: Vec<(&'a WindowRecord, Vec<&'a Contribution>)>,
    /// The contributions to the open window.
    pub open: Vec<&'a Contribution>,
    /// Records of the open window that validators have signed.
    pub proposed: Vec<&'a WindowRecord>,
    /// The state that the last recorded contribution of each miner left.
    pub newest: Vec<StateId>,
}

impl<'a> Record<'a> {
    /// The record of a run, as a node follows it.
    pub fn of(context: &'a RunContext, node: &'a Node) -> Self {
        let contributions = |closed: &'a ClosedWindow| closed.contributions.iter().map(Signed::payload).collect();
        let state = node.state();
        Self {
            run: context.run,
            genesis: &context.genesis,
            dataset: &context.dataset,
            first: context.first_checkpoint(),
            current: state.checkpoint(),
            closed: node.closed().iter().map(|closed| (&closed.window, contributions(closed))).collect(),
            open: node.contributions().map(Signed::payload).collect(),
            proposed: node.records().collect(),
            newest: state
                .members()
                .iter()
                .filter_map(|member| state.parent(&member.owner))
                .map(|parent| parent.state_out)
                .collect(),
        }
    }
}

/// The verdicts of the rule on every blob that a run names. A blob without a verdict is not named by the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    verdicts: BTreeMap<Hash, BlobVerdict>,
}

impl Retention {
    /// Applies the rule. `parts` gives the tensors that the manifest of a checkpoint or a state names, and an
    /// empty list if the manifest is not here.
    pub fn of(record: &Record<'_>, parts: &dyn Fn(&Hash) -> Vec<Hash>) -> Self {
        let mut all = Self::default();
        let genesis = record.genesis;
        all.stay(Sort::Manifest, [record.run.hash()]);
        all.stay(Sort::Dataset, [genesis.dataset.hash(), genesis.tokenizer.hash()]);
        all.stay(Sort::Dataset, genesis.benchmarks.iter().flat_map(BenchmarkSpec::files).map(|file| file.hash()));
        all.stay(Sort::Dataset, record.dataset.blobs().map(|blob| blob.hash()));
        if let Initial::Tensors(tensors) = &genesis.initial {
            all.stay(Sort::Checkpoint, tensors.iter().map(|tensor| tensor.hash()));
        }

        // A node may have forgotten the first ones, whose blobs went long ago.
        let windows = record.closed.last().map_or(0, |(last, _)| last.body.window.0 + 1);
        let recent = |window: &WindowBody| window.window.0.saturating_add(genesis.state_retention_windows) >= windows;
        let mut checkpoints = vec![(record.first, true), (record.current, true)];
        let mut states: Vec<(StateId, bool)> = record.newest.iter().map(|state| (*state, true)).collect();
        for (WindowRecord { header, body: window }, contributions) in &record.closed {
            all.stay(Sort::Aggregate, [window.aggregate.hash()]);
            all.stay(Sort::Manifest, [window.cut.hash()]);
            all.stay(Sort::Manifest, window.scores.iter().map(|score| score.hash()));
            all.stay(Sort::Manifest, window.refuted.iter().map(|refuted| refuted.score.hash()));
            all.stay(Sort::Manifest, [header.body_root.hash()]);
            all.stay(Sort::Manifest, header.previous.iter().map(|previous| previous.hash()));
            all.stay(Sort::Manifest, window.outcomes.iter().map(|outcome| outcome.contribution.hash()));
            checkpoints.push((window.checkpoint_before, recent(window)));
            checkpoints.push((header.checkpoint, false));
            for contribution in contributions {
                all.evidence(contribution);
                states.extend([contribution.state_in, contribution.state_out].map(|state| (state, recent(window))));
            }
        }
        for WindowRecord { header, body } in &record.proposed {
            all.stay(Sort::Aggregate, [body.aggregate.hash()]);
            checkpoints.push((header.checkpoint, true));
        }
        for contribution in &record.open {
            all.evidence(contribution);
            states.extend([contribution.state_in, contribution.state_out].map(|state| (state, true)));
        }
        let manifests = checkpoints.iter().map(|(id, stays)| (id.hash(), Sort::Checkpoint, *stays));
        let manifests: Vec<_> =
            manifests.chain(states.iter().map(|(id, stays)| (id.hash(), Sort::State, *stays))).collect();
        for (id, sort, stays) in manifests {
            for blob in std::iter::once(id).chain(parts(&id)) {
                if stays { all.stay(sort, [blob]) } else { all.may_go(sort, blob) }
            }
        }
        all
    }

    fn evidence(&mut self, contribution: &Contribution) {
        self.stay(Sort::Delta, [contribution.delta.hash()]);
        self.stay(Sort::Trace, [contribution.trace.hash()]);
    }

    /// Says that these blobs must stay. This overrides an earlier verdict.
    pub(crate) fn stay(&mut self, sort: Sort, blobs: impl IntoIterator<Item = Hash>) {
        for blob in blobs {
            let verdict = self.verdicts.entry(blob).or_insert(BlobVerdict { sort, stays: true });
            verdict.stays = true;
        }
    }

    /// Says that this blob may go, unless it must stay for another reason.
    pub(crate) fn may_go(&mut self, sort: Sort, blob: Hash) {
        self.verdicts.entry(blob).or_insert(BlobVerdict { sort, stays: false });
    }

    /// Adds the verdicts of another run of the same home. A blob may go only if no run needs it.
    pub fn and(&mut self, other: Self) {
        for (blob, verdict) in other.verdicts {
            if verdict.stays { self.stay(verdict.sort, [blob]) } else { self.may_go(verdict.sort, blob) }
        }
    }

    /// The verdict on a blob. `None` if no run names it.
    pub fn verdict(&self, blob: &Hash) -> Option<BlobVerdict> {
        self.verdicts.get(blob).copied()
    }

    /// The blobs that may go.
    pub fn released(&self) -> impl Iterator<Item = &Hash> {
        self.verdicts.iter().filter(|(_, verdict)| !verdict.stays).map(|(blob, _)| blob)
    }
}

#[cfg(test)]
mod tests;
