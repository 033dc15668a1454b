//! The log of a training: one line for each inner step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use templar_manifest::WindowIndex;
use templar_node::event::NodeEvent;
use templar_node::executor::TrainWatch;
use templar_train::StepReport;

use crate::events;
use crate::printer::Printer;

/// Prints each inner step, and stops when the user wants to.
pub(super) struct StepLog {
    printer: Printer,
    window: WindowIndex,
    interrupted: Option<Arc<AtomicBool>>,
    last: Instant,
    /// The number of the last step that was taken.
    pub(super) taken: u32,
}

impl StepLog {
    /// A log of a window; `interrupted` stops it.
    pub(super) fn new(printer: Printer, window: WindowIndex, interrupted: Option<Arc<AtomicBool>>) -> Self {
        Self { printer, window, interrupted, last: now(), taken: 0 }
    }
}

/// The time, for the speed in the log line.
#[allow(clippy::disallowed_methods, reason = "the speed in a log line decides nothing")]
fn now() -> Instant {
    Instant::now()
}

impl TrainWatch for StepLog {
    fn step(&mut self, report: &StepReport) {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-9);
        self.last = now();
        self.taken = report.step;
        let event = NodeEvent::Step {
            window: self.window.0,
            step: report.step,
            steps: report.steps,
            loss: report.loss,
            norm: report.norm,
            learning_rate: report.learning_rate,
            tokens_per_second: report.tokens as f64 / seconds,
        };
        events::tell(&self.printer, &event);
    }

    fn stop(&self) -> bool {
        self.interrupted.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}
