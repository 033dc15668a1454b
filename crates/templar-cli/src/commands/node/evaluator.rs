//! Evaluations on a schedule, beside a running node.
//!
//! A thread of its own measures the models that windows leave behind, and keeps each result signed in the home. It
//! reads the home as any other command does, through the node's socket, so the node never waits for it, and a result
//! that cannot be had is a warning. A result is the statement of whoever signs it, and nothing in the records follows
//! from one.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use serde_json::json;
use templar_home::Home;
use templar_home::evaluations::KeptEvaluations;
use templar_manifest::{CheckpointId, Genesis};

use crate::commands::eval::measure::{Subject, measure};
use crate::commands::eval::model::Measurable;
use crate::commands::eval::report;
use crate::commands::eval::result_files::Inputs;
use crate::commands::eval::schedule::{LaidOut, Schedule};
use crate::error::{Code, CommandError};
use crate::invocation::Invocation;

/// How often a model is looked for that the node has not brought here yet.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked for in all. The bytes of a window are not there for ever.
const LOOKS: u32 = 600;

/// What a node measures.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// The benchmarks of the run's genesis.
    Run(Arc<Genesis>),
    /// What a file of the node says.
    Own(Schedule),
}

impl Plan {
    /// Whether the model after this window is measured.
    fn has(&self, window: u64) -> bool {
        match self {
            Self::Run(genesis) => genesis.benchmarks.iter().any(|spec| spec.is_due(window)),
            Self::Own(schedule) => schedule.has(window),
        }
    }
}

/// The thread that measures.
pub(super) struct Evaluator {
    plan: Plan,
    due: Sender<(u64, CheckpointId)>,
}

impl Evaluator {
    /// Starts the thread. It ends with the process: what it has not finished is measured by nobody, or by hand.
    pub(super) fn start(invocation: &Invocation, plan: Plan) -> std::io::Result<Self> {
        let (due, models) = mpsc::channel();
        let (invocation, work) = (invocation.clone(), plan.clone());
        std::thread::Builder::new()
            .name("evaluations".to_owned())
            .spawn(move || follow(&invocation, &work, &models))?;
        Ok(Self { plan, due })
    }

    /// A window has closed and left this model.
    pub(super) fn closed(&self, window: u64, checkpoint: CheckpointId) {
        if self.plan.has(window) {
            // The thread listens as long as this sender is there.
            let _ = self.due.send((window, checkpoint));
        }
    }
}

fn follow(invocation: &Invocation, plan: &Plan, models: &Receiver<(u64, CheckpointId)>) {
    for (window, checkpoint) in models {
        if let Err(error) = evaluate(invocation, plan, window, checkpoint) {
            let lines = error.lines().join(": ");
            invocation.printer.warn(format_args!("the model after window {window} is not measured: {lines}"));
        }
    }
}

/// Measures one model, and keeps the results.
fn evaluate(invocation: &Invocation, plan: &Plan, window: u64, checkpoint: CheckpointId) -> Result<(), CommandError> {
    let mut model = brought(invocation, checkpoint)?;
    let mut keep = |subject: &Subject, inputs: &Inputs| keep(invocation, &mut model, window, subject, inputs);
    match plan {
        Plan::Own(schedule) => schedule.measurements.iter().try_for_each(|(subject, inputs)| keep(subject, inputs)),
        Plan::Run(genesis) => genesis.benchmarks.iter().filter(|spec| spec.is_due(window)).try_for_each(|spec| {
            let LaidOut { subject, inputs, .. } = &LaidOut::new(spec, invocation.read()?.blobs())?;
            keep(subject, inputs)
        }),
    }
}

/// Makes one measurement and keeps its result.
fn keep(
    invocation: &Invocation,
    model: &mut Measurable,
    window: u64,
    subject: &Subject,
    inputs: &Inputs,
) -> Result<(), CommandError> {
    let quiet = Invocation { printer: invocation.printer.quiet(), ..invocation.clone() };
    let done = measure(&quiet, model, subject, inputs, None)?;
    let (Some(evaluation), Some(run)) = (&done.evaluation, model.run) else { return Ok(()) };
    let home = Home::open(invocation.root()?)?;
    KeptEvaluations::of(&home, run).keep(evaluation, evaluation.sign(&home.key()?))?;
    let mut value = report::value(&done.measured, model.root.as_ref(), model.checkpoint.as_ref());
    (value["type"], value["window"], value["id"]) = (json!("evaluated"), json!(window), json!(evaluation.id()));
    invocation.printer.progress(&value, format_args!("w{window} {}", report::line(&done.measured)));
    Ok(())
}

/// The model, as soon as the node has it.
fn brought(invocation: &Invocation, checkpoint: CheckpointId) -> Result<Measurable, CommandError> {
    let mut looks = 0;
    loop {
        match Measurable::open(invocation, &checkpoint.to_string()) {
            Err(error) if looks < LOOKS && matches!(error.code(), Code::NotFound | Code::Partial | Code::Locked) => {
                looks += 1;
                std::thread::sleep(LOOK);
            }
            opened => return opened,
        }
    }
}
