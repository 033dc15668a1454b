//! The sentence that says what an object is: the first line that `templar show` prints about it.

use templar_manifest::{VoteOn, VoteStep};
use templar_query::manifest_view::ObjectKind;
use templar_query::object::ObjectView;
use templar_query::object::contents::Contents;
use templar_query::object::delta::DeltaView;
use templar_query::object::summary::ObjectSummary;
use templar_query::object::trace::TraceView;

use crate::printer::{alpha, amount, bytes, count, nats};

/// The object as a sentence. `role` says more about the object that was asked for by `@` or `wN`.
pub(super) fn sentence(view: &ObjectView, role: &str) -> String {
    match (&view.summary, &view.contents) {
        (ObjectSummary::None, Contents::Delta(delta)) => of_a_delta(delta),
        (ObjectSummary::None, Contents::Trace(trace)) => of_a_trace(trace),
        (ObjectSummary::None, _) => of_bytes(view),
        (summary, _) => of_a_manifest(summary, role),
    }
}

fn of_a_manifest(summary: &ObjectSummary, role: &str) -> String {
    match summary {
        ObjectSummary::None => "An object of unknown kind.".to_owned(),
        ObjectSummary::Genesis { name, parameters, validators, windows } => {
            let windows = if *windows == 0 { "no end".to_owned() } else { count(*windows, "window") };
            format!(
                "The configuration (genesis) of run {name:?}: a model of {} parameters, {}, {windows}.",
                amount(*parameters as f64),
                count(*validators as u64, "validator")
            )
        }
        ObjectSummary::Dataset { name, licence, training_tokens, held_out_tokens } => format!(
            "Dataset {name:?}, licence {licence}: {} tokens to train on, {} held out.",
            amount(*training_tokens as f64),
            amount(*held_out_tokens as f64)
        ),
        ObjectSummary::Contribution { miner, window, steps, delta_bytes, loss_nanonats } => format!(
            "Miner {} says that it trained window {window} with {} to a training loss of {}, and commits to a delta \
             of {}.",
            miner.short(),
            count(*steps, "inner step"),
            nats(*loss_nanonats),
            bytes(*delta_bytes)
        ),
        ObjectSummary::Registration { owner, window } => {
            format!("{} asks for a slot in window {window}.", owner.short())
        }
        ObjectSummary::Inbox { validator, window, contributions } => format!(
            "What validator {} received for window {window}: {}.",
            validator.short(),
            count(*contributions as u64, "contribution")
        ),
        ObjectSummary::Cut { window, contributions } => format!(
            "The agreed list of the contributions that arrived in time for window {window} (the cut): {contributions}."
        ),
        ObjectSummary::Reveals { window, reveals } => format!(
            "The agreed list of the validators' random values from which the seed of window {window} follows: {}.",
            count(*reveals as u64, "value")
        ),
        ObjectSummary::Score { validator, window, contributions, matching, refused } => format!(
            "Validator {} measured window {window}: {}, of which {matching} replayed to the same hashes and {refused} \
             were refused.",
            validator.short(),
            count(*contributions as u64, "contribution")
        ),
        ObjectSummary::Header { window, checkpoint, body } => format!(
            "The header of the record of window {window}, which names its body {}. The new model is checkpoint {}.",
            body.short(),
            checkpoint.short()
        ),
        ObjectSummary::Record { window, contributions, aggregated, refused, minted_micros, held_out_loss_nanonats } => {
            format!(
                "The record of window {window}: {aggregated} of {} in the new model, {refused} refused, {} ALPHA minted. \
             The model's loss on held-out text is {} nats a token.",
                count(*contributions as u64, "contribution"),
                alpha(*minted_micros),
                nats(*held_out_loss_nanonats)
            )
        }
        ObjectSummary::Vote { window, on, step, value } => {
            let on = match on {
                VoteOn::Cut => "cut",
                VoteOn::Reveals => "reveal set",
                VoteOn::Window => "record",
            };
            let step = match step {
                VoteStep::Prevote => "first",
                VoteStep::Precommit => "final",
            };
            let value = value.map_or_else(|| "none".to_owned(), |value| format!("{on} {}", value.short()));
            format!("A validator's {step} vote on the {on} of window {window}: for {value}.")
        }
        ObjectSummary::Checkpoint { window, tensors, parameters } => format!(
            "{} {} parameters in {}, {} as fp32, {}.",
            if role.is_empty() { "A model:" } else { role },
            amount(*parameters as f64),
            count(*tensors as u64, "tensor"),
            bytes(parameters.saturating_mul(4)),
            match window.0.checked_sub(1) {
                Some(last) => format!("after window {last}"),
                None => "before any training in the run".to_owned(),
            }
        ),
        ObjectSummary::State { optimizer_steps, parameters } => format!(
            "A miner's training state after {}: optimiser moments and error feedback for {} parameters.",
            count(*optimizer_steps, "inner step"),
            amount(*parameters as f64)
        ),
        ObjectSummary::Audit { auditor, window, matching, mismatching, unavailable } => format!(
            "Auditor {} recomputed window {window}: {matching} verdicts match, {mismatching} differ, {unavailable} lack \
             an input.",
            auditor.short()
        ),
    }
}

fn of_a_delta(delta: &DeltaView) -> String {
    let size = bytes(delta.header_bytes + delta.directory_bytes + delta.bytes.total());
    let values = delta.decoded.as_ref().map_or_else(String::new, |found| {
        let of = amount(found.parameters as f64);
        format!(
            ": {} of {of} parameters change, {:.0}x smaller than fp32",
            count(found.values, "value"),
            found.ratio_fp32
        )
    });
    format!("The compressed update of miner {} for window {}, {size}{values}.", delta.miner.short(), delta.window)
}

fn of_a_trace(trace: &TraceView) -> String {
    let losses = match (trace.losses.first(), trace.losses.last()) {
        (Some(first), Some(last)) => format!(", whose loss went from {first:.4} to {last:.4}"),
        _ => String::new(),
    };
    let steps = count(trace.losses.len() as u64, "inner step");
    format!(
        "The trace of miner {} for window {}: a hash of every tensor after each of {steps}{losses}.",
        trace.miner.short(),
        trace.window
    )
}

fn of_bytes(view: &ObjectView) -> String {
    let what = match view.kind {
        ObjectKind::Tokenizer => "A tokenizer.json.",
        ObjectKind::ChatTemplate => "A chat template: the text that joins the turns of a conversation.",
        ObjectKind::Shard => "A shard of a dataset: tokens.",
        ObjectKind::Tensor => "A tensor: its values as little-endian 32-bit floats.",
        ObjectKind::Delta => "The compressed update of a miner (a delta).",
        ObjectKind::Trace => "The trace of a miner: a hash of every tensor after each inner step.",
        ObjectKind::Manifest(_) => "A manifest.",
        ObjectKind::Blob => "Bytes that no manifest here names.",
    };
    if view.here { what.to_owned() } else { format!("{what} Its bytes are not here; `templar fetch {}`.", view.id) }
}
