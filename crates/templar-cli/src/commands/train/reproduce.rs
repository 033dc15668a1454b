//! Trains a closed window again, with the same function on the same inputs, and compares with the recorded
//! contribution.

use std::ops::ControlFlow;

use serde_json::json;
use templar_audit::{InputError, States};
use templar_manifest::trace::{Leaf, Trace, TraceHeader};
use templar_manifest::{Contribution, PublicKey, Signed, WindowIndex};
use templar_node::executor::TrainWatch as _;
use templar_query::find::closed_window;
use templar_train::{StepReport, Watch, WindowRun, run_window};

use super::step_log::StepLog;
use crate::commands::fetch::fetch_hint;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::Tone;
use crate::session::RunSession;

/// Compares each leaf with the recorded trace, where that is here.
struct Compared<'a> {
    log: StepLog,
    names: Vec<&'a str>,
    recorded: Option<Trace>,
    difference: Option<String>,
}

impl Compared<'_> {
    fn compare(&mut self, index: u32, leaf: &Leaf) {
        let Some(recorded) = self.recorded.as_ref().and_then(|trace| trace.leaves.get(index as usize)) else { return };
        if self.difference.is_some() || recorded == leaf {
            return;
        }
        let tensor = recorded.tensors.iter().zip(&leaf.tensors).position(|(recorded, found)| recorded != found);
        let tensor = tensor.and_then(|tensor| self.names.get(tensor)).copied().unwrap_or("loss");
        self.difference = Some(format!("step {index}, {tensor}"));
    }
}

impl Watch for Compared<'_> {
    fn leaf(&mut self, _run: &WindowRun<'_>, index: u32, leaf: &Leaf) -> ControlFlow<()> {
        self.compare(index, leaf);
        // Everything after the first difference differs too, so stop there.
        if self.difference.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn step(&mut self, report: &StepReport) {
        self.log.step(report);
    }
}

/// Trains the recorded contribution of `miner` again.
pub(super) fn run(
    invocation: &Invocation,
    session: &RunSession,
    window: WindowIndex,
    miner: PublicKey,
) -> CommandResult {
    let node = session.node();
    let closed = closed_window(&node, window)?;
    let recorded = closed.contributions.iter().map(Signed::payload).find(|contribution| contribution.miner == miner);
    let Some(recorded) = recorded else {
        let text = format!("the record of window {window} has no contribution from {}", miner.short());
        let hint = format!("`templar show w{window}` lists its miners; name one with --miner");
        return Err(CommandError::says(Code::NotFound, text).hint(hint));
    };
    let missing = |error: InputError| match error.missing() {
        Some(_) => CommandError::from(error).hint(fetch_hint(window)),
        None => error.into(),
    };
    let before = node.state_at(window).ok_or_else(|| {
        CommandError::says(Code::Verification, "the journal cannot be folded again up to this window")
    })?;
    let inputs = session.executor.inputs().map_err(missing)?;
    let parameters = inputs.parameters(&before.checkpoint()).map_err(missing)?;
    let state = States::default().get(&inputs, &recorded.state_in).map_err(missing)?;
    let recipe = inputs.recipe;
    let task = session.executor.task(&before, miner, recorded.steps)?;
    let mut watch = Compared {
        log: StepLog::new(invocation.printer, window, None),
        names: recipe.tensors.iter().map(|tensor| tensor.name.as_str()).collect(),
        recorded: trace(&inputs, recorded).map_err(missing)?,
        difference: None,
    };
    let failed = |error: templar_train::TrainError| match InputError::from(&error) {
        InputError::Broken(_) => CommandError::new(Code::Failed, error),
        error => missing(error),
    };
    let run = WindowRun::new(recipe, &task, parameters, state).map_err(failed)?;
    let result = run_window(run, &|page| inputs.page(window, page), &mut watch).map_err(failed)?;
    let last = recorded.steps + 1;
    if let Some(leaf) = result.as_ref().and_then(|result| result.trace.leaves.last()) {
        watch.compare(last, leaf);
    }
    let found = result.map(|result| result.contribution(recipe, recorded.parent, recorded.state_in));
    let difference = watch.difference.or_else(|| found.as_ref().and_then(|found| field(recorded, found)));
    tell(invocation, recorded, found.as_ref(), difference)
}

/// The recorded trace, if it is here.
fn trace(inputs: &templar_audit::AuditInputs<'_>, recorded: &Contribution) -> Result<Option<Trace>, InputError> {
    if !inputs.blobs.contains(&recorded.trace.hash()) {
        return Ok(None);
    }
    let header = TraceHeader::of(recorded, inputs.recipe.tensors.len() as u32);
    let bytes = inputs.blob("trace", &recorded.trace.hash(), header.trace_bytes())?;
    // A trace that does not decode cannot be compared leaf by leaf. The comparison of hashes decides then.
    Ok(Trace::decode(&bytes, &header).ok())
}

/// The first field of the contribution that was not found again.
fn field(recorded: &Contribution, found: &Contribution) -> Option<String> {
    let fields = [
        ("trace", recorded.trace.hash(), found.trace.hash()),
        ("delta", recorded.delta.hash(), found.delta.hash()),
        ("state_out", recorded.state_out.hash(), found.state_out.hash()),
    ];
    let different = fields.into_iter().find(|(_, recorded, found)| recorded != found);
    let named = different.map(|(name, recorded, found)| format!("{name} is recorded as {recorded}, found {found}"));
    named.or_else(|| (recorded != found).then(|| "the contribution claims other numbers".to_owned()))
}

fn tell(
    invocation: &Invocation,
    recorded: &Contribution,
    found: Option<&Contribution>,
    difference: Option<String>,
) -> CommandResult {
    let printer = &invocation.printer;
    let (code, verdict, tone) = match difference {
        None => (Code::Ok, "match", Tone::Good),
        Some(_) => (Code::Verification, "mismatch", Tone::Bad),
    };
    let value = json!({
        "type": "result", "window": recorded.window, "miner": recorded.miner, "verdict": verdict, "what": difference,
        "recorded": recorded, "found": found,
    });
    let word = printer.tone(tone, verdict);
    let text = match &difference {
        None => format!(
            "{word}: window {} of {} gives delta {} again",
            recorded.window,
            recorded.miner.short(),
            recorded.delta
        ),
        Some(what) => {
            format!("{word}: window {} of {} first differs in {what}", recorded.window, recorded.miner.short())
        }
    };
    printer.data(&value, text);
    Ok(code)
}
