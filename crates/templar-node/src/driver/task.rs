//! The tasks of a node: each has an identity, runs at most once at a time, and belongs to the driver.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use templar_manifest::{Contest, Contribution, Hash, LateVerdict, Outcome, Replay, ScoreEntry, WindowIndex};
use templar_protocol::{Phase, Subject, Tried};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Span, info_span};

use super::warnings::Warnings;
use crate::event::NodeEvent;
use crate::executor::{Executor, WorkError};
use crate::gather::Gatherer;

/// Which work a task does. At most one task of each identity is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TaskId {
    /// A miner trains the open window.
    Train(WindowIndex),
    /// A validator measures and replays the contributions of a cut, as `seed` draws them.
    Judge { window: WindowIndex, seed: Hash },
    /// A validator replays a contribution about which others contradict each other.
    Confirm { window: WindowIndex, subject: Subject },
    /// A validator measures a contribution about which others contradict each other.
    Remeasure { window: WindowIndex, subject: Subject },
    /// A validator takes the outer step of a window.
    Apply(WindowIndex),
    /// The time of a phase runs.
    Deadline { window: WindowIndex, phase: Phase },
    /// A miner brings back the state before its contribution to this window, which validators look for in vain.
    Answer(WindowIndex),
    /// The model of the last closed window is brought here.
    Follow,
    /// A pause after a failure.
    Retry,
    /// Blobs that no run needs are removed.
    Prune,
    /// The time in which a peer may give its entries before this node signs anything.
    Listen,
}

impl TaskId {
    /// Whether the task only waits, so that it reads and fetches nothing.
    pub(super) fn is_wait(self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Listen)
    }

    /// Whether the task is of a validator and of this window or an earlier one. When that window is closed, nobody
    /// wants its result any more.
    pub(super) fn judges_until(self, closed: WindowIndex) -> bool {
        match self {
            Self::Judge { window, .. } | Self::Confirm { window, .. } | Self::Apply(window) => window <= closed,
            Self::Deadline { window, .. } => window <= closed,
            _ => false,
        }
    }

    /// Whether the task saves what it has done when it is told to stop.
    pub(super) fn saves_when_stopped(self) -> bool {
        matches!(self, Self::Train(_))
    }

    /// The span in which the task runs, below that of the window for which it was started.
    pub(super) fn span(self, window: &Span) -> Span {
        match self {
            Self::Train(_) => info_span!(parent: window, "train"),
            Self::Judge { seed, .. } => info_span!(parent: window, "judge", seed = %seed.short()),
            Self::Confirm { subject, .. } => {
                info_span!(parent: window, "confirm", of = %subject.window, miner = %subject.miner.short())
            }
            Self::Remeasure { subject, .. } => {
                info_span!(parent: window, "remeasure", miner = %subject.miner.short())
            }
            Self::Apply(_) => info_span!(parent: window, "apply"),
            Self::Deadline { phase, .. } => info_span!(parent: window, "deadline", ?phase),
            Self::Answer(of) => info_span!(parent: window, "answer", %of),
            Self::Follow => info_span!(parent: window, "follow"),
            Self::Retry => info_span!(parent: window, "retry"),
            Self::Prune => info_span!(parent: window, "prune"),
            Self::Listen => info_span!(parent: window, "listen"),
        }
    }
}

/// The work as a phrase for people, such as `training window 3`.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train(window) => write!(f, "training window {window}"),
            Self::Judge { window, seed } => write!(f, "judging window {window} for seed {}", seed.short()),
            Self::Confirm { window, subject: Subject { seed, window: of, miner } } => {
                let (miner, seed) = (miner.short(), seed.short());
                write!(f, "confirming {miner} of window {of} in window {window} for seed {seed}")
            }
            Self::Remeasure { window, subject: Subject { seed, miner, .. } } => {
                write!(f, "measuring {} again in window {window} for seed {}", miner.short(), seed.short())
            }
            Self::Apply(window) => write!(f, "applying window {window}"),
            Self::Deadline { window, phase } => write!(f, "{phase:?} deadline of window {window}"),
            Self::Answer(window) => write!(f, "answering a challenge of window {window}"),
            Self::Follow => f.write_str("following"),
            Self::Retry => f.write_str("retry"),
            Self::Prune => f.write_str("pruning"),
            Self::Listen => f.write_str("listening"),
        }
    }
}

/// The result of a task.
pub(super) enum Done {
    Trained(Contribution),
    Judged {
        seed: Hash,
        window: WindowIndex,
        entries: Vec<ScoreEntry>,
        verdicts: Vec<LateVerdict>,
        contests: Vec<Contest>,
    },
    Confirmed {
        window: WindowIndex,
        subject: Subject,
        upto: Option<u32>,
        replay: Replay,
        witnesses: Vec<u64>,
    },
    Remeasured {
        window: WindowIndex,
        subject: Subject,
        found: Tried,
    },
    Applied {
        window: WindowIndex,
        outcomes: Vec<Outcome>,
        applied: Box<templar_audit::Applied>,
    },
    /// The model with which this window begins is here.
    Followed(WindowIndex),
    /// A challenged state is here, which took so many replays; `None` where it is lost.
    Answered {
        window: WindowIndex,
        replayed: Option<usize>,
    },
    Deadline {
        window: WindowIndex,
        phase: Phase,
    },
    Retry,
    Pruned,
    /// No peer has given its entries in time.
    Listened,
}

/// The things that every task needs. Cheap to clone.
#[derive(Clone)]
pub(super) struct TaskContext {
    pub(super) executor: Arc<Executor>,
    pub(super) gatherer: Gatherer,
    pub(super) events: mpsc::Sender<NodeEvent>,
    pub(super) warnings: Arc<Warnings>,
    pub(super) stopping: Arc<AtomicBool>,
}

impl TaskContext {
    /// Reports an event. It is lost if nobody listens, and the node continues. A warning that was reported already is
    /// counted, and reported again later.
    pub(super) async fn emit(&self, event: NodeEvent) {
        if let NodeEvent::Warning { message, .. } = &event
            && !self.warnings.admits(message)
        {
            return;
        }
        let _ = self.events.send(event).await;
    }

    /// Repairs the blobs that reads have found damaged since the last time, and reports each.
    pub(super) async fn heal(&self) -> Result<(), WorkError> {
        for healed in self.gatherer.heal().await? {
            self.warn(healed.to_string()).await;
        }
        Ok(())
    }

    /// Reports the warnings that have come again.
    pub(super) async fn warn_again(&self) {
        for (message, times) in self.warnings.due() {
            let _ = self.events.send(NodeEvent::Warning { message, times }).await;
        }
    }

    /// Reports a problem from which the node continues.
    pub(super) async fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::debug!(%message, "warning");
        self.emit(NodeEvent::warning(message)).await;
    }
}

/// The tasks that are under way.
#[derive(Default)]
pub(super) struct Tasks {
    set: JoinSet<(TaskId, Result<Done, WorkError>)>,
    under_way: BTreeMap<TaskId, AbortHandle>,
}

impl Tasks {
    /// Whether this task is under way.
    pub(super) fn has(&self, id: TaskId) -> bool {
        self.under_way.contains_key(&id)
    }

    /// Whether all tasks that are under way only wait.
    pub(super) fn only_wait(&self) -> bool {
        self.under_way.keys().all(|id| id.is_wait())
    }

    /// Starts `work` after `pause`, unless a task of this identity is under way.
    pub(super) fn start(
        &mut self,
        id: TaskId,
        pause: Option<Duration>,
        work: impl Future<Output = Result<Done, WorkError>> + Send + 'static,
    ) {
        if self.has(id) {
            return;
        }
        let paced = async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            (id, work.await)
        };
        self.under_way.insert(id, self.set.spawn(paced));
    }

    /// Ends the tasks whose result nobody wants any more.
    pub(super) fn cancel(&mut self, is_unwanted: impl Fn(TaskId) -> bool) {
        for (_, task) in self.under_way.extract_if(.., |id, _| is_unwanted(*id)) {
            task.abort();
        }
    }

    /// The next task that ends, and what it came to. `None` where no task is under way.
    pub(super) async fn next(&mut self) -> Option<(TaskId, Result<Done, WorkError>)> {
        loop {
            match self.set.join_next().await? {
                Ok((id, result)) => {
                    self.under_way.remove(&id);
                    return Some((id, result));
                }
                // If this went on, the task would stay among those under way for ever. A panic is a bug: it is
                // passed on.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => tracing::debug!(%error, "a task was cancelled"),
            }
        }
    }

    /// Waits for the tasks that save what they have done, then ends all others.
    pub(super) async fn shutdown(&mut self) {
        while self.under_way.keys().any(|id| id.saves_when_stopped()) {
            match self.set.join_next().await {
                Some(Ok((id, _))) => drop(self.under_way.remove(&id)),
                Some(Err(_)) => {}
                None => break,
            }
        }
        self.set.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_for_a_closed_window_ends_and_other_work_does_not() {
        let mut tasks = Tasks::default();
        let judge = |window| TaskId::Judge { window: WindowIndex(window), seed: Hash::default() };
        let ids = [judge(2), judge(3), judge(4), TaskId::Apply(WindowIndex(3)), TaskId::Train(WindowIndex(3))];
        for id in ids {
            tasks.start(id, None, std::future::pending());
        }
        tasks.cancel(|id| id.judges_until(WindowIndex(3)));
        assert_eq!(ids.map(|id| tasks.has(id)), [false, false, true, false, true]);
        // What was ended may be started again, and its end is no result.
        tasks.start(judge(3), None, async { Ok(Done::Retry) });
        assert!(matches!(tasks.next().await, Some((id, Ok(Done::Retry))) if id == judge(3)));
    }
}
