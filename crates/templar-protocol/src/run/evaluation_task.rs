//! The task of measuring one contribution, and its result.

use std::collections::BTreeMap;

use templar_manifest::proof::{EvaluationKey, measurement, witness};
use templar_manifest::{
    CheckpointId, Contest, Contribution, ContributionId, Evaluation, Hash, Losses, PublicKey, Refusal, Replay,
    ScoreEntry, WindowIndex,
};

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

/// A contribution of the window before that a validator measures again, and what the record says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotCheck {
    /// The task of measuring it.
    pub task: EvaluationTask,
    /// The losses on which the counted scores agree; `None` where they say that the trial step cannot be taken.
    pub stated: Option<Losses>,
}

impl SpotCheck {
    /// The contest to sign for what was found; `None` where that is what the record says.
    pub fn contest(&self, found: Option<Losses>) -> Option<Contest> {
        let (miner, contribution) = (self.task.contribution.miner, self.task.id);
        (found != self.stated).then_some(Contest { miner, contribution, found })
    }
}

/// What an entry states about trying the delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatedTrial<'a> {
    /// The trial step cannot be taken.
    Untried,
    /// The losses, and the short form of the claim that each drawn validator must make.
    Measured(Losses, &'a [u64]),
}

impl<'a> StatedTrial<'a> {
    /// The statement of an entry; `None` where it makes none.
    pub(crate) fn of(entry: &'a ScoreEntry) -> Option<Self> {
        match &entry.evaluation {
            Evaluation::Measured(measured) => Some(Self::Measured(measured.losses, &measured.witnesses)),
            Evaluation::Untried if !is_unread(entry) => Some(Self::Untried),
            Evaluation::Untried | Evaluation::NotDrawn => None,
        }
    }
}

impl From<StatedTrial<'_>> for Tried {
    fn from(stated: StatedTrial<'_>) -> Self {
        match stated {
            StatedTrial::Untried => Self::Untried,
            StatedTrial::Measured(losses, witnesses) => Self::Measured { losses, witnesses: witnesses.to_vec() },
        }
    }
}

/// Whether an entry refuses a contribution because its delta, its trace or its state could not be read. Such an entry
/// says nothing about what the delta gains.
pub(super) fn is_unread(entry: &ScoreEntry) -> bool {
    matches!(entry.replay, Replay::Refused(Refusal::Withheld | Refusal::Malformed { .. }))
}
