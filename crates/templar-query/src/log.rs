//! The log of a run: one row for each closed window.

use serde::Serialize;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_manifest::{CheckpointId, RecordId, RunId, Verdict, WindowIndex};
use templar_protocol::ClosedWindow;
use templar_train::nats;

use crate::error::QueryError;
use crate::measured::{SignedEvaluation, signed_evaluations};

/// The closed windows of a run, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunLog {
    /// The run whose windows these are.
    pub run: RunId,
    /// The closed windows, one row each.
    pub windows: Vec<LoggedWindow>,
}

/// A closed window in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedWindow {
    /// The number of the window.
    pub window: WindowIndex,
    /// The record that closed it.
    pub record: RecordId,
    /// The checkpoint after it.
    pub checkpoint: CheckpointId,
    /// The loss of that checkpoint on held-out text, in nats a token.
    pub held_out_loss: f64,
    /// The number of contributions in the cut.
    pub contributions: usize,
    /// The number of them that were refused.
    pub refused: usize,
    /// The amount that was minted, in micro-ALPHA.
    pub minted_micros: u64,
    /// The signed evaluations of the checkpoint after it that this home keeps. Nothing of them is in the record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evaluations: Vec<SignedEvaluation>,
}

impl RunLog {
    /// Reads the log of a run from its journal.
    ///
    /// # Errors
    /// The journal does not fold, or a kept evaluation is damaged.
    pub fn read(access: &Access, context: &RunContext) -> Result<Self, QueryError> {
        let node = access.fold(context)?;
        let mut evaluations = signed_evaluations(access, context.run)?;
        let mut windows: Vec<LoggedWindow> = node.closed().iter().map(LoggedWindow::from).collect();
        for window in &mut windows {
            window.evaluations = evaluations.remove(&window.checkpoint).unwrap_or_default();
        }
        Ok(Self { run: context.run, windows })
    }
}

impl From<&ClosedWindow> for LoggedWindow {
    fn from(closed: &ClosedWindow) -> Self {
        let record = &closed.window.body;
        Self {
            window: record.window,
            record: closed.record,
            checkpoint: closed.window.header.checkpoint,
            held_out_loss: nats(record.held_out_loss_nanonats),
            contributions: record.outcomes.len(),
            refused: record.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Refused(_))).count(),
            minted_micros: record.mints.iter().map(|mint| mint.amount_micros).sum(),
            evaluations: Vec::new(),
        }
    }
}
