//! Starts the work that the protocol wants, each piece once, as a task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use templar_manifest::{Contribution, ContributionId, Outcome, PublicKey, Signed, WindowIndex};
use templar_protocol::{ClosedWindow, EvaluationTask, JudgePlan, Output, Phase, ReplayTask, RunState, Subject};
use tracing::Instrument as _;

use super::Driver;
use super::config::NodeRole;
use super::task::{Done, TaskContext, TaskId};
use crate::compute::compute;
use crate::executor::WorkError;
use crate::gather::within;

/// The pause before the second attempt at work that failed. Each further failure doubles it, up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);

const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long a seeder looks for the evidence of one window. Nobody may have the blobs that a miner withheld.
const SEEDING_PATIENCE: Duration = Duration::from_secs(60);

impl Driver {
    /// Pauses before an act, if the configuration has a pacing.
    pub(super) async fn pause(&self) {
        if let Some(pause) = self.next_pause() {
            tokio::time::sleep(pause).await;
        }
    }

    fn next_pause(&self) -> Option<Duration> {
        self.config.pacing.as_ref().map(|pacing| pacing.next_pause())
    }

    /// Starts `work` as the task `id`, unless that task is under way.
    pub(super) fn spawn<F>(&mut self, id: TaskId, work: impl FnOnce(TaskContext) -> F)
    where
        F: Future<Output = Result<Done, WorkError>> + Send + 'static,
    {
        if !self.tasks.has(id) {
            let pause = self.next_pause();
            let span = id.span(&self.window_span());
            let work = work(self.shared.clone());
            let told = async move {
                tracing::debug!("started");
                let result = work.await;
                match &result {
                    Ok(_) => tracing::debug!("done"),
                    Err(error) => tracing::debug!(%error, "failed"),
                }
                result
            };
            self.tasks.start(id, pause, told.instrument(span));
        }
    }

    /// Asks the protocol again after a pause, and meanwhile repairs corrupt blobs.
    pub(super) fn start_retry(&mut self) {
        let pause = FIRST_RETRY.saturating_mul(2u32.saturating_pow(self.failures)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.spawn(TaskId::Retry, |shared| async move {
            // A corrupt blob may be the reason of the failure.
            shared.heal().await?;
            shared.gatherer.sleep(pause).await;
            Ok(Done::Retry)
        });
    }

    /// Starts the work of an output, if it belongs to this node's role.
    pub(super) fn start(&mut self, output: Output) {
        let validates = self.config.role == NodeRole::Validator;
        match output {
            Output::Train { .. } if self.config.role == NodeRole::Miner && self.may_sign() => self.start_training(),
            Output::Judge(plan) if validates => self.start_judging(plan),
            Output::Confirm { window, subject, task, .. } if validates => self.start_confirming(window, subject, *task),
            Output::Remeasure { window, subject, task } if validates => self.start_remeasuring(window, subject, *task),
            Output::Apply { window, outcomes, .. } if validates => self.start_applying(window, outcomes),
            Output::Timer { window, phase, after_ms } if validates => self.start_timer(window, phase, after_ms),
            _ => {}
        }
    }

    /// Measures and replays the contributions of the cut that were drawn, and replays contributions of closed
    /// windows that still have no verdict.
    fn start_judging(&mut self, plan: Arc<JudgePlan>) {
        let (window, seed) = (plan.window, plan.seed);
        let id = TaskId::Judge { window, seed };
        // The protocol repeats what is to do after every entry, and most of the time it is under way.
        if self.tasks.has(id) {
            return;
        }
        let (state, contributions) = self.judged();
        let judge_ms = self.replica.context.genesis.deadlines.judge_ms;
        let late = self.signed_of(plan.late.iter().chain(&plan.wanted).map(|task| (task.window, task.id)));
        let checked = self.signed_of(plan.spot_checks.iter().map(|check| (check.task.window, check.task.id)));
        self.spawn(id, |shared| async move {
            // Work that goes on without a damaged blob does not fail, so this is where such a blob is repaired.
            shared.heal().await?;
            let TaskContext { executor, gatherer, .. } = shared;
            let patience = Duration::from_millis(judge_ms / 2);
            gatherer.common(executor.context(), None).await?;
            // The window before may have closed without an outer step of this node, so its checkpoint may be
            // missing here.
            gatherer.checkpoint(state.checkpoint(), None).await?;
            let gathered = gatherer.evidence(&executor, &contributions, &plan.replay, within(patience)).await?;
            gatherer.sync_evidence(&contributions).await?;
            // A contribution whose blobs do not come in time is challenged, and replayed in a later window.
            let until = within(Duration::from_millis(judge_ms / 4));
            let past = plan.late.iter().map(|task| task.checkpoint);
            let past = past.chain(plan.spot_checks.iter().map(|check| check.task.checkpoint));
            for checkpoint in past.collect::<BTreeSet<_>>() {
                gatherer.checkpoint(checkpoint, until).await?;
            }
            let replayed: Vec<PublicKey> = late.iter().map(|signed| signed.payload().miner).collect();
            gatherer.evidence(&executor, &late, &replayed, until).await?;
            gatherer.evidence(&executor, &checked, &[], until).await?;
            compute(move || {
                let entries = executor.judge(&state, &plan, &contributions, !gathered)?;
                let (verdicts, contests) = (executor.judge_late(&plan, true)?, executor.spot_check(&plan.spot_checks)?);
                Ok(Done::Judged { seed, window, entries, verdicts, contests })
            })
            .await
        });
    }

    /// Replays a contribution about which other validators contradict each other.
    fn start_confirming(&mut self, window: WindowIndex, subject: Subject, task: ReplayTask) {
        if self.tasks.has(TaskId::Confirm { window, subject }) {
            return;
        }
        let Some(signed) = self.signed_of([(task.window, task.id)]).pop() else { return };
        let judge_ms = self.replica.context.genesis.deadlines.judge_ms;
        self.spawn(TaskId::Confirm { window, subject }, |shared| async move {
            let TaskContext { executor, gatherer, .. } = shared;
            let until = within(Duration::from_millis(judge_ms / 4));
            let one = std::slice::from_ref(&signed);
            gatherer.checkpoint(task.checkpoint, until).await?;
            let gathered = gatherer.evidence(&executor, one, &[subject.miner], until).await?;
            let upto = task.upto;
            let (replay, witnesses) = compute(move || executor.confirm(&task, !gathered)).await?;
            Ok(Done::Confirmed { window, subject, upto, replay, witnesses })
        });
    }

    /// Measures a contribution about which the measurements of other validators contradict each other.
    fn start_remeasuring(&mut self, window: WindowIndex, subject: Subject, task: EvaluationTask) {
        let Some(signed) = self.signed_of([(task.window, task.id)]).pop() else { return };
        let judge_ms = self.replica.context.genesis.deadlines.judge_ms;
        self.spawn(TaskId::Remeasure { window, subject }, |shared| async move {
            let TaskContext { executor, gatherer, .. } = shared;
            let until = within(Duration::from_millis(judge_ms / 4));
            gatherer.checkpoint(task.checkpoint, until).await?;
            let gathered = gatherer.evidence(&executor, std::slice::from_ref(&signed), &[], until).await?;
            let found = compute(move || executor.remeasure(&task, !gathered)).await?;
            Ok(Done::Remeasured { window, subject, found })
        });
    }

    /// Takes the outer step of the open window.
    fn start_applying(&mut self, window: WindowIndex, outcomes: Vec<Outcome>) {
        if self.tasks.has(TaskId::Apply(window)) {
            return;
        }
        let (state, contributions) = self.judged();
        self.spawn(TaskId::Apply(window), |shared| async move {
            let TaskContext { executor, gatherer, .. } = shared;
            gatherer.deltas(&outcomes, &contributions).await?;
            gatherer.sync_evidence(&contributions).await?;
            let from = state.checkpoint();
            let (applied, outcomes) = compute(move || {
                let applied = executor.apply(from, window, &outcomes, &contributions);
                applied.map(|applied| (applied, outcomes))
            })
            .await?;
            gatherer.sync_checkpoint(&applied).await?;
            Ok(Done::Applied { window, outcomes, applied: Box::new(applied) })
        });
    }

    /// Waits for the deadline of a phase.
    fn start_timer(&mut self, window: WindowIndex, phase: Phase, after_ms: u64) {
        self.spawn(TaskId::Deadline { window, phase }, |shared| async move {
            let time = Duration::from_millis(after_ms);
            while let Some(late) = shared.gatherer.stood_still(time).await {
                let message = format!(
                    "this process was suspended for {} s and nobody could reach it; the time of the phase starts again",
                    late.as_secs()
                );
                shared.warn(message).await;
            }
            Ok(Done::Deadline { window, phase })
        });
    }

    /// The protocol's state before the open window, and the contributions of its cut in order.
    fn judged(&self) -> (Arc<RunState>, Vec<Signed<Contribution>>) {
        let node = self.replica.node();
        let cut = node.judging().map(|judging| judging.cut().contributions.clone()).unwrap_or_default();
        let contributions = cut.iter().filter_map(|entry| node.contribution(&entry.contribution)).cloned().collect();
        (node.shared_state(), contributions)
    }

    /// These signed contributions, each by its window and id, of the open window or of closed ones.
    fn signed_of(
        &self,
        contributions: impl IntoIterator<Item = (WindowIndex, ContributionId)>,
    ) -> Vec<Signed<Contribution>> {
        let node = self.replica.node();
        let find = |(window, id): (WindowIndex, ContributionId)| {
            if let Some(open) = node.contribution(&id) {
                return Some(open.clone());
            }
            let closed = node.closed_window(window)?;
            closed.contributions.iter().find(|signed| signed.id() == id.hash()).cloned()
        };
        contributions.into_iter().filter_map(find).collect()
    }

    /// Whether this node has the model of the open window, as far as following brings it.
    pub(super) fn is_current(&self) -> bool {
        self.followed.until == self.replica.node().state().window()
    }

    /// Brings the model of the last closed window here, on nodes that do not judge. Seeders fetch all evidence too.
    pub(super) fn follow(&mut self) {
        let open = self.replica.node().state().window();
        let behind = self.followed.until < open;
        let follows = matches!(self.config.role, NodeRole::Miner | NodeRole::Seeder);
        // After a failure it is tried again together with all other work.
        if !behind || self.tasks.has(TaskId::Follow) || self.tasks.has(TaskId::Retry) {
            return;
        }
        if !follows {
            self.followed.until = open;
            return;
        }
        let is_new = |closed: &&ClosedWindow| closed.window.header.window >= self.followed.until;
        let closed: Vec<ClosedWindow> = self.replica.node().closed().iter().filter(is_new).cloned().collect();
        let seeds = self.config.role == NodeRole::Seeder;
        self.spawn(TaskId::Follow, |shared| async move {
            shared.gatherer.common(shared.executor.context(), None).await?;
            if seeds {
                for window in &closed {
                    let until = within(SEEDING_PATIENCE);
                    shared.gatherer.evidence(&shared.executor, &window.contributions, &[], until).await?;
                }
            }
            shared.gatherer.model(&shared.executor, &closed).await?;
            Ok(Done::Followed(open))
        });
    }
}
