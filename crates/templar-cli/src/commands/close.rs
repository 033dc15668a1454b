//! `templar close`: a validator's other two steps, from commitments to the cut and from scores to the record.
//!
//! The user is the clock here: to close is to say that the time is up. What the protocol asks for is done until it asks
//! for nothing more of this step; who is still awaited is said with exit code 5.

use serde_json::json;
use templar_manifest::{Cut, Hash, Mint, MintKind, Outcome, PublicKey, Verdict, VoteOn, WindowIndex, payload};
use templar_node::event::NodeEvent;
use templar_protocol::{ClosedWindow, Dispute, Input, Measured, Output, Phase, Unsigned};
use templar_train::nats;

use super::score::{contributions_of_cut, expect_validator, waiting};
use super::train::fetch_hint;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::{Invocation, closed_window};
use crate::participant::Participant;
use crate::printer::{alpha, count, table};
use crate::reference::parse_window;

/// Close a window's commitments, or the window
///
/// With --commits signs the inbox, votes for the cut, and reveals: from then on deltas may be shared. Without it applies the
/// deltas that the scores accept and votes for the record. With several validators each does its part, twice where others
/// vote after it, and the vote that makes it more than two thirds closes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Close the commitments: no contribution counts that comes later
    #[arg(long)]
    commits: bool,
    /// The window
    #[arg(long, value_name = "N", value_parser = parse_window)]
    window: WindowIndex,
    /// Close commitments also when nobody has contributed
    #[arg(long, requires = "commits")]
    empty: bool,
    /// Do not wait: count deltas that are not here as withheld
    #[arg(long, conflicts_with = "commits")]
    late: bool,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let mut participant = Participant::open(invocation, args.run.as_deref())?;
    if !participant.is_open(args.window)? {
        let node = participant.node();
        let closed = closed_window(&node, args.window)?;
        if args.commits {
            print_cut(invocation, &closed.cut)
        } else {
            print_record(invocation, closed)
        }
        invocation.printer.talk(format_args!("window {} was closed already", args.window));
        return Ok(Code::Ok);
    }
    expect_validator(&participant)?;
    if args.commits { commits(invocation, &mut participant, args) } else { window(invocation, &mut participant, args) }
}

fn commits(invocation: &Invocation, participant: &mut Participant, args: &Args) -> CommandResult {
    let node = participant.node();
    if node.contributions().next().is_none() && !args.empty {
        let text = format!("nobody has contributed to window {}", args.window);
        let hint = format!("`templar train --window {}` contributes; --empty closes it all the same", args.window);
        return Err(CommandError::says(Code::Failed, text).hint(hint));
    }
    participant.replica.submit(Input::Deadline { window: args.window, phase: Phase::Commit })?;
    loop {
        match participant.node().todo().into_iter().find(is_part_of_a_cut) {
            Some(Output::Sign(document)) => drop(participant.replica.sign(document)?),
            Some(Output::Reveal { .. }) => drop(participant.replica.reveal()?),
            _ => break,
        }
    }
    let node = participant.node();
    match node.cut() {
        Some((_, cut)) => {
            print_cut(invocation, cut);
            Ok(Code::Ok)
        }
        None => waiting(invocation, participant, &format!("the cut of window {} is not certified", args.window)),
    }
}

fn is_part_of_a_cut(output: &Output) -> bool {
    match output {
        Output::Sign(Unsigned::Vote(vote)) => vote.on == VoteOn::Cut,
        Output::Sign(Unsigned::Inbox(_) | Unsigned::Cut(_)) | Output::Reveal { .. } => true,
        _ => false,
    }
}

fn print_cut(invocation: &Invocation, cut: &Cut) {
    let id = payload::id_of(cut);
    let mut rows = vec![["miner", "contribution"].map(str::to_owned).to_vec()];
    rows.extend(cut.contributions.iter().map(|entry| vec![entry.miner.short(), entry.contribution.short()]));
    let value = json!({"type": "result", "window": cut.window, "cut": id, "contributions": cut.contributions});
    invocation.printer.data(&value, format_args!("{}cut {id}", table(&rows)));
    invocation.printer.talk(format_args!(
        "the commitments of window {} are closed; to be shared and judged now: {}",
        cut.window,
        count(cut.contributions.len() as u64, "contribution")
    ));
}

fn window(invocation: &Invocation, participant: &mut Participant, args: &Args) -> CommandResult {
    let me = participant.me();
    if participant.progress()?.scores.contains(&me) {
        // To have scored is to have settled on the reveals that there were.
        participant.replica.submit(Input::Deadline { window: args.window, phase: Phase::Reveal })?;
    }
    participant.replica.submit(Input::Deadline { window: args.window, phase: Phase::Judge })?;
    loop {
        let todo = participant.node().todo();
        // What others say may be found wrong and yet leave enough that is right.
        let dispute = todo.iter().find(|output| matches!(output, Output::Dispute(_))).cloned();
        match todo.into_iter().find(is_part_of_a_record).or(dispute) {
            Some(Output::Confirm { subject, task, .. }) => {
                let confirmed = participant.executor.confirm(&task, args.late);
                let (replay, witnesses) = confirmed.map_err(|error| with_fetch(error.into(), args.window))?;
                let measured = Measured::Confirmed { window: args.window, subject, replay, witnesses };
                participant.replica.submit(Input::Measured(measured))?;
            }
            Some(Output::Apply { outcomes, .. }) => apply(participant, args.window, outcomes)?,
            Some(Output::Sign(document)) => drop(participant.replica.sign(document)?),
            Some(Output::Dispute(dispute)) => return Err(disputed(&dispute)),
            _ => break,
        }
    }
    let node = participant.node();
    if node.state().window() > args.window {
        print_record(invocation, closed_window(&node, args.window)?);
        return Ok(Code::Ok);
    }
    if node.cut().is_none() {
        let error = CommandError::says(Code::Partial, format_args!("window {} is not cut yet", args.window));
        return Err(error.hint(format!("`templar close --commits --window {}` is the step before", args.window)));
    }
    let result = waiting(invocation, participant, &format!("window {} is not closed", args.window));
    if !participant.progress()?.scores.contains(&me) {
        invocation
            .printer
            .talk(format_args!("hint: `templar score --window {}` is this home's next step", args.window));
    }
    result
}

fn is_part_of_a_record(output: &Output) -> bool {
    match output {
        Output::Sign(Unsigned::Vote(vote)) => vote.on == VoteOn::Window,
        Output::Sign(Unsigned::Window(_)) | Output::Confirm { .. } | Output::Apply { .. } => true,
        _ => false,
    }
}

fn with_fetch(error: CommandError, window: WindowIndex) -> CommandError {
    if error.code() == Code::Partial { error.hint(fetch_hint(window)) } else { error }
}

/// Takes the outer step and keeps the checkpoint durably, before a record names it.
fn apply(participant: &mut Participant, window: WindowIndex, outcomes: Vec<Outcome>) -> Result<(), CommandError> {
    let node = participant.node();
    let contributions = contributions_of_cut(&node);
    let from = node.state().checkpoint();
    let applied = participant.executor.apply(from, window, &outcomes, &contributions);
    let applied = applied.map_err(|error| with_fetch(error.into(), window))?;
    let mut kept: Vec<Hash> = applied.checkpoint.tensors.iter().map(|tensor| tensor.blob.hash()).collect();
    kept.extend([applied.stepped.checkpoint.hash(), applied.stepped.aggregate.hash()]);
    participant.sync(&kept)?;
    participant.replica.submit(Input::Measured(Measured::Applied { window, outcomes, stepped: applied.stepped }))?;
    Ok(())
}

fn disputed(dispute: &Dispute) -> CommandError {
    let text = match dispute {
        Dispute::Refusal { validator, miner, claimed, found } => format!(
            "validator {} refuses the contribution of {} ({claimed}); this home finds {found:?} and does not sign",
            validator.short(),
            miner.short()
        ),
        Dispute::Proof { validator, window, miner } => format!(
            "validator {} says that it replayed {} in window {window}, and its proof is not what this home's replay gives",
            validator.short(),
            miner.short()
        ),
        Dispute::Record { record, found } => format!(
            "record {} is not what this home finds (checkpoint {}, aggregate {}, held-out loss {}); it does not sign",
            record.short(),
            found.checkpoint,
            found.aggregate,
            nats(found.held_out_loss_nanonats)
        ),
    };
    CommandError::says(Code::Verification, text).hint("`templar audit` in a third home tells who is wrong")
}

/// Whose a mint is, for people.
fn account(mint: &Mint) -> String {
    match mint.kind {
        MintKind::Miner => format!("miner {}", PublicKey::short(&mint.account)),
        MintKind::Validator => format!("validator {}", PublicKey::short(&mint.account)),
        MintKind::Replays => format!("validator {} for replays", PublicKey::short(&mint.account)),
        MintKind::Treasury => "treasury".to_owned(),
    }
}

fn print_record(invocation: &Invocation, closed: &ClosedWindow) {
    let record = &closed.window;
    let printer = &invocation.printer;
    if printer.is_json() {
        let mut value = serde_json::to_value(NodeEvent::closed(closed)).unwrap_or_default();
        value["type"] = json!("result");
        value["closed"] = json!(true);
        value["manifest"] = serde_json::to_value(record).unwrap_or_default();
        printer.json(&value);
        return;
    }
    let mut text = format!(
        "record     {}\ncheckpoint {}\nheld-out   {:.4} nats\nsigned by  {} of {} validators\n",
        closed.record,
        record.checkpoint,
        nats(record.held_out_loss_nanonats),
        closed.record_certificate.witnesses.len(),
        record.reveals.len().max(closed.record_certificate.witnesses.len())
    );
    for outcome in &record.outcomes {
        let verdict = match &outcome.verdict {
            Verdict::Aggregated => "aggregated".to_owned(),
            Verdict::Reserve => "valid, in reserve".to_owned(),
            Verdict::Excluded => "valid, excluded by its standing".to_owned(),
            Verdict::Refused(refusal) => format!("refused: {refusal}"),
        };
        text.push_str(&format!("miner      {} {verdict}\n", outcome.miner.short()));
    }
    for mint in &record.mints {
        text.push_str(&format!("minted     {} ALPHA to {}\n", alpha(mint.amount_micros), account(mint)));
    }
    for slash in &record.slashes {
        text.push_str(&format!(
            "burnt      {} ALPHA of {}: {} in window {}\n",
            alpha(slash.amount_micros),
            slash.account.short(),
            slash.cause.name(),
            slash.window
        ));
    }
    for challenge in &record.challenges {
        text.push_str(&format!(
            "challenged {} to serve the state before its contribution to window {}, since window {}\n",
            challenge.miner.short(),
            challenge.window,
            challenge.since
        ));
    }
    printer.data(&json!(null), text);
}
