//! The task of measuring one contribution, and its result.

use std::collections::BTreeMap;

use templar_manifest::proof::{EvaluationKey, measurement, witness};
use templar_manifest::{CheckpointId, Contribution, ContributionId, Evaluation, Hash, Losses, PublicKey, WindowIndex};

/// The pages on which the deltas of a window are tried, the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct EvaluatedPages {
    /// Pages that nobody trains on in the window, ascending.
    pub(super) unassigned: Vec<u64>,
    /// For each miner of the cut, pages that it trained on, ascending.
    pub(super) assigned: BTreeMap<PublicKey, Vec<u64>>,
}

/// The task of measuring one contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationTask {
    /// The window of the contribution.
    pub window: WindowIndex,
    /// The checkpoint that the window started from.
    pub checkpoint: CheckpointId,
    /// The contribution to measure.
    pub contribution: Contribution,
    /// The id of the contribution.
    pub id: ContributionId,
    /// The unassigned pages to measure on, ascending; the same for all contributions of the window.
    pub unassigned: Vec<u64>,
    /// The pages to measure on out of those that the miner trained on, ascending.
    pub assigned: Vec<u64>,
    /// The keys with which the drawn validators prove their measurements, in the order of the validators' keys.
    pub keys: Vec<EvaluationKey>,
}

impl EvaluationTask {
    /// The evaluation that a validator signs for the losses it measured and the hidden states that it passed
    /// through. `None` for the losses means that the trial step cannot be taken.
    pub fn evaluation(&self, validator: &PublicKey, measured: Option<(Losses, Hash)>) -> Evaluation {
        let Some((losses, states)) = measured else { return Evaluation::Untried };
        measurement(&self.keys, validator, losses, &states).map_or(Evaluation::NotDrawn, Evaluation::Measured)
    }

    /// The result of measuring, as a node takes it in; `None` as in [`EvaluationTask::evaluation`].
    pub fn tried(&self, measured: Option<(Losses, Hash)>) -> Tried {
        let Some((losses, states)) = measured else { return Tried::Untried };
        let witnesses = self.keys.iter().map(|key| witness(&key.claim(&states))).collect();
        Tried::Measured { losses, witnesses }
    }
}

/// A node's own result of trying a contribution's delta on the pages of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The delta could not be fetched.
    Unavailable,
    /// The delta does not decode, or the trial step cannot be taken.
    Untried,
    /// The losses that were measured.
    Measured {
        /// The losses before and after the trial step.
        losses: Losses,
        /// The short form of the claim that each drawn validator must make, in the order of their keys.
        witnesses: Vec<u64>,
    },
}

impl Tried {
    /// The losses, if they were measured.
    pub fn losses(&self) -> Option<Losses> {
        match self {
            Self::Measured { losses, .. } => Some(*losses),
            Self::Unavailable | Self::Untried => None,
        }
    }
}
