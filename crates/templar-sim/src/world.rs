//! Training, losses and replays: from the statistical model, or from a tiny model that is really trained.

use templar_audit::InputError;
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, LateVerdict, Outcome, PublicKey, Replay, ScoreEntry, Signed, StateId,
    WindowIndex,
};
use templar_protocol::{EvaluationTask, JudgePlan, Node, ReplayTask, Stepped, Tried};

use crate::blobs::Reachable;
use crate::loss_model::LossModel;
use crate::strategy::{MinerView, SentContribution, Strategy, contributions};
use crate::training::{Training, TrainingFailure};

/// The world behind the manifests: the truth about every contribution, and the results of training and replay.
#[derive(Debug, Default)]
pub(crate) struct World {
    model: LossModel,
    /// Real training; without it the statistical model answers.
    training: Option<Box<Training>>,
}

/// The signed contributions of the cut that a node judges, in the order of the cut.
fn contributions_of(node: &Node) -> Vec<Signed<Contribution>> {
    let cut = node.judging().map(|judging| judging.cut().contributions.clone()).unwrap_or_default();
    cut.iter().filter_map(|entry| node.contribution(&entry.contribution)).cloned().collect()
}

impl World {
    pub(crate) fn new(training: Option<Box<Training>>) -> Self {
        Self { model: LossModel::default(), training }
    }

    /// The contributions that a miner with this strategy sends for the open window. They exist from now on.
    ///
    /// # Errors
    /// Real training failed.
    pub(crate) fn train(
        &mut self,
        strategy: Option<Strategy>,
        view: MinerView<'_>,
    ) -> Result<Vec<SentContribution>, TrainingFailure> {
        let made = match &mut self.training {
            None => contributions(strategy, view),
            Some(training) => training.contributions(strategy, view)?,
        };
        for sent in &made {
            self.model.add(&sent.contribution, sent.truth.clone());
        }
        Ok(made)
    }

    /// Whether the miner serves the blobs of a contribution; `None` where nobody made such a contribution.
    pub(crate) fn is_served(&self, window: WindowIndex, id: &ContributionId) -> Option<bool> {
        self.model.truth(window, id).map(|truth| truth.served)
    }

    /// The entries of a validator's score of the window that is open at `node`, which has a cut and a seed.
    ///
    /// # Errors
    /// Real training failed.
    pub(crate) fn measure(
        &mut self,
        node: &Node,
        plan: &JudgePlan,
        reachable: Reachable<'_>,
    ) -> Result<Vec<ScoreEntry>, InputError> {
        match &mut self.training {
            None => {
                let judging = node.judging().expect("a plan is made for a cut and a seed");
                Ok(self.model.measure(judging, plan, reachable))
            }
            Some(training) => training.measure(node.state(), plan, &contributions_of(node), reachable),
        }
    }

    /// The verdict of a replay about which others disagree, with one witness for each draw where it is a match. `here`
    /// says whether the validator has the blobs; without them the verdict is `withheld`.
    ///
    /// # Errors
    /// Real training failed.
    pub(crate) fn confirm(&mut self, task: &ReplayTask, here: bool) -> Result<(Replay, Vec<u64>), InputError> {
        match &mut self.training {
            None => Ok(self.model.confirm(task, here)),
            Some(training) => training.confirm(task, here),
        }
    }

    /// The result of measuring a contribution about which others disagree. `here` says whether the validator has the
    /// delta.
    ///
    /// # Errors
    /// Real training failed.
    pub(crate) fn remeasure(&mut self, task: &EvaluationTask, here: bool) -> Result<Tried, InputError> {
        match &mut self.training {
            None => Ok(self.model.remeasure(task, here)),
            Some(training) => training.remeasure(task, here),
        }
    }

    /// The verdict of a validator that replays a contribution to a closed window.
    ///
    /// # Errors
    /// Real training failed.
    pub(crate) fn verdict(&mut self, task: &ReplayTask, validator: &PublicKey) -> Result<LateVerdict, InputError> {
        match &mut self.training {
            None => Ok(self.model.verdict(task, validator)),
            Some(training) => training.verdict(task, validator),
        }
    }

    /// The outer step of the window that is open at `node`, for these outcomes.
    ///
    /// # Errors
    /// Real training failed.
    pub(crate) fn apply(&mut self, node: &Node, outcomes: &[Outcome]) -> Result<Stepped, InputError> {
        let state = node.state();
        match &mut self.training {
            None => Ok(self.model.apply(state.checkpoint(), state.window(), outcomes)),
            Some(training) => training.apply(state, outcomes, &contributions_of(node)),
        }
    }

    /// Drops contributions of windows before `judged`, checkpoints that `is_current` does not name, and states that no node's
    /// next contribution continues.
    pub(crate) fn forget(
        &mut self,
        judged: WindowIndex,
        is_current: impl Fn(&CheckpointId) -> bool,
        is_parent: impl Fn(&StateId) -> bool,
    ) {
        self.model.forget(judged, is_current);
        if let Some(training) = &mut self.training {
            training.forget(judged, is_parent);
        }
    }
}
