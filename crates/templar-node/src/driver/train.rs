//! A miner's training of the open window, as a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use templar_manifest::{ContributionId, Hash, Signed};
use templar_train::StepReport;
use tokio::sync::mpsc;

use super::Driver;
use super::task::{Done, TaskContext, TaskId};
use crate::compute::compute;
use crate::event::NodeEvent;
use crate::executor::{StartingState, TrainRequest, TrainWatch};
use crate::gather::within;

/// How long a miner looks among peers for a state of its own that its disk does not have.
const STATE_PATIENCE: Duration = Duration::from_secs(5);

/// Reports inner steps and stops with the node.
struct Reporting {
    window: u64,
    events: mpsc::Sender<NodeEvent>,
    stopping: Arc<AtomicBool>,
    last: std::time::Instant,
}

impl Reporting {
    #[expect(clippy::disallowed_methods, reason = "speed in the log line; decides nothing")]
    fn new(window: u64, shared: &TaskContext) -> Self {
        let (events, stopping) = (shared.events.clone(), shared.stopping.clone());
        Self { window, events, stopping, last: std::time::Instant::now() }
    }
}

impl TrainWatch for Reporting {
    #[expect(clippy::disallowed_methods, reason = "speed in the log line; decides nothing")]
    fn step(&mut self, report: &StepReport) {
        let now = std::time::Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        let event = NodeEvent::Step {
            window: self.window,
            step: report.step,
            steps: report.steps,
            loss: report.loss,
            norm: report.norm,
            learning_rate: report.learning_rate,
            tokens_per_second: report.tokens as f64 / seconds.max(1e-9),
        };
        // A reader that is behind misses a line; training does not wait for it.
        let _ = self.events.try_send(event);
    }

    fn stop(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Driver {
    pub(super) fn start_training(&mut self) {
        // The model of the open window is on its way.
        if self.tasks.has(TaskId::Follow) || !self.is_current() {
            return;
        }
        let id = TaskId::Train(self.replica.node().state().window());
        // The protocol asks for it after every entry, and it is under way nearly always.
        if self.tasks.has(id) {
            return;
        }
        let node = self.replica.node().clone();
        let state = node.shared_state();
        let Some(me) = node.contributor() else { return };
        let trainer = self.config.trainer.clone();
        let steps = self.replica.context.genesis.inner.steps;
        let policy = self.replica.policy();
        self.spawn(id, |shared| async move {
            shared.gatherer.common(shared.executor.context(), None).await?;
            shared.gatherer.checkpoint(state.checkpoint(), None).await?;
            let gate = move |blobs: Vec<Hash>| policy.gate(blobs);
            let mut watch = Reporting::new(state.window().0, &shared);
            let signer_of = |id: ContributionId| {
                let mut closed = node.closed().iter().rev().flat_map(|closed| &closed.contributions);
                closed.find(|signed| signed.id() == id.hash()).map(Signed::signer)
            };
            let last = state.parent(&me).map(|parent| (*parent, signer_of(parent.contribution)));
            let executor = shared.executor.clone();
            let recovered = compute(move || executor.recover_state(&node, &me)).await;
            let mut begins_anew = false;
            let message = match (recovered, last) {
                (Ok(0), _) => None,
                (Ok(replayed), _) => {
                    let found = "this miner's saved training state was missing; replayed contributions gave it back";
                    Some(format!("{found}: {replayed}"))
                }
                // The node key that trained before may still be there and serve it: an owner has moved here.
                (Err(error), Some((parent, signer))) if error.missing().is_some() => {
                    let signer = signer.unwrap_or(me);
                    begins_anew = !shared
                        .gatherer
                        .state(&shared.executor, parent.state_out, &signer, within(STATE_PATIENCE))
                        .await?;
                    begins_anew.then(|| {
                        "this miner's saved training state is missing; it restarts with empty error feedback, and its \
                         pay may drop"
                            .to_owned()
                    })
                }
                (Err(error), _) => return Err(error),
            };
            if let Some(message) = message {
                shared.warn(message).await;
            }
            let from = if begins_anew { StartingState::Zero } else { StartingState::Recorded };
            let executor = shared.executor.clone();
            let train = move || {
                let request = TrainRequest { state: &state, miner: me, steps, from, trainer: &*trainer };
                executor.train(request, &mut watch, &gate)
            };
            let contribution = compute(train).await?;
            shared.gatherer.sync_contribution(&contribution).await?;
            Ok(Done::Trained(contribution))
        });
    }
}
