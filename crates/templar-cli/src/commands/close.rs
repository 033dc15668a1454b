//! `templar close`: a validator's other two steps, from commitments to the cut and from scores to the record.
//!
//! The user is the clock: to close means that the deadline has passed. The command does everything that the
//! protocol asks of this home for the step. When other members are still awaited, it names them and ends with
//! exit code 5.

use serde_json::json;
use templar_manifest::{
    Cut, Hash, Mint, MintKind, Outcome, PublicKey, Verdict, VoteOn, WindowIndex, WindowRecord, payload,
};
use templar_node::event::NodeEvent;
use templar_protocol::{ClosedWindow, Dispute, Input, Measured, Output, Phase, Unsigned};
use templar_query::find::closed_window;
use templar_query::reference::parse_window;
use templar_train::nats;

use super::fetch::fetch_hint;
use super::score::{contributions_of_cut, expect_validator, is_part_of_a_seed, waiting};
use crate::compute::Compute;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{alpha, count, table};
use crate::session::RunSession;

/// Close a window's commitments, or the window
///
/// With --commits: signs the inbox, votes for the cut, reveals, and votes for the values that count. From then on
/// deltas may be shared. Without --commits: applies the deltas that the scores accept, and votes for the record. Each
/// validator runs the command, and runs it again when others vote later. The vote that makes it more than two thirds of
/// the stake closes the window.
#[derive(Debug, clap::Args)]
pub(crate) struct CloseArgs {
    /// Close the commitments: later contributions do not count
    #[arg(long)]
    commits: bool,
    /// The window: its number, such as 3
    #[arg(long, value_name = "N", value_parser = parse_window)]
    window: WindowIndex,
    /// Close the commitments even if no miner has contributed
    #[arg(long, requires = "commits")]
    empty: bool,
    /// Do not wait: treat deltas that are not here as withheld
    #[arg(long, conflicts_with = "commits")]
    late: bool,
    #[command(flatten)]
    compute: Compute,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &CloseArgs) -> CommandResult {
    args.compute.choose(invocation)?;
    let mut session = RunSession::open(invocation, args.run.as_deref())?;
    if !session.is_open(args.window)? {
        let node = session.node();
        let closed = closed_window(&node, args.window)?;
        if args.commits {
            print_cut(invocation, &closed.cut)
        } else {
            print_record(invocation, closed)
        }
        invocation.printer.talk(format_args!("window {} was closed already", args.window));
        return Ok(Code::Ok);
    }
    expect_validator(&session)?;
    if args.commits { commits(invocation, &mut session, args) } else { window(invocation, &mut session, args) }
}

fn commits(invocation: &Invocation, session: &mut RunSession, args: &CloseArgs) -> CommandResult {
    let node = session.node();
    if node.contributions().next().is_none() && !args.empty {
        let text = format!("no miner has contributed to window {}", args.window);
        let hint =
            format!("`templar train --window {}` contributes; --empty closes the commitments anyway", args.window);
        return Err(CommandError::says(Code::Failed, text).hint(hint));
    }
    session.replica.submit(Input::Deadline { window: args.window, phase: Phase::Commit })?;
    loop {
        match session.node().todo().into_iter().find(is_part_of_a_cut) {
            Some(Output::Sign(document)) => drop(session.replica.sign(document)?),
            Some(Output::Reveal { .. }) => drop(session.replica.reveal()?),
            _ => break,
        }
    }
    let node = session.node();
    match node.cut() {
        Some((_, cut)) => {
            print_cut(invocation, cut);
            Ok(Code::Ok)
        }
        None => waiting(invocation, session, &format!("the cut of window {} is not certified", args.window)),
    }
}

fn is_part_of_a_cut(output: &Output) -> bool {
    match output {
        Output::Sign(Unsigned::Vote(vote)) => vote.on == VoteOn::Cut,
        Output::Sign(Unsigned::Inbox(_) | Unsigned::Cut(_)) => true,
        output => is_part_of_a_seed(output),
    }
}

fn print_cut(invocation: &Invocation, cut: &Cut) {
    let id = payload::id_of(cut);
    let mut rows = vec![["miner", "contribution"].map(str::to_owned).to_vec()];
    rows.extend(cut.contributions.iter().map(|entry| vec![entry.miner.short(), entry.contribution.short()]));
    let value = json!({"type": "result", "window": cut.window, "cut": id, "contributions": cut.contributions});
    invocation.printer.data(&value, format_args!("{}cut {id}", table(&rows)));
    invocation.printer.talk(format_args!(
        "the commitments of window {} are closed; the next steps are to share and score {}",
        cut.window,
        count(cut.contributions.len() as u64, "contribution")
    ));
}

fn window(invocation: &Invocation, session: &mut RunSession, args: &CloseArgs) -> CommandResult {
    let me = session.me();
    session.replica.submit(Input::Deadline { window: args.window, phase: Phase::Judge })?;
    loop {
        let todo = session.node().todo();
        // A dispute comes last: the window can close without the disputed score when enough others agree.
        let dispute = todo.iter().find(|output| matches!(output, Output::Dispute(_))).cloned();
        match todo.into_iter().find(is_part_of_a_record).or(dispute) {
            Some(Output::Confirm { subject, task, .. }) => {
                let confirmed = session.executor.confirm(&task, args.late);
                let (replay, witnesses) = confirmed.map_err(|error| with_fetch(error.into(), args.window))?;
                let measured = Measured::Confirmed { window: args.window, subject, upto: task.upto, replay, witnesses };
                session.replica.submit(Input::Measured(measured))?;
            }
            Some(Output::Remeasure { subject, task, .. }) => {
                let measured = session.executor.remeasure(&task, args.late);
                let found = measured.map_err(|error| with_fetch(error.into(), args.window))?;
                let measured = Measured::Remeasured { window: args.window, subject, found };
                session.replica.submit(Input::Measured(measured))?;
            }
            Some(Output::Apply { outcomes, .. }) => apply(session, args.window, outcomes)?,
            Some(Output::Sign(document)) => drop(session.replica.sign(document)?),
            Some(Output::Dispute(dispute)) => return Err(disputed(&dispute)),
            _ => break,
        }
    }
    let node = session.node();
    if node.state().window() > args.window {
        print_record(invocation, closed_window(&node, args.window)?);
        return Ok(Code::Ok);
    }
    if node.cut().is_none() {
        let error = CommandError::says(Code::Partial, format_args!("window {} is not cut yet", args.window));
        return Err(error.hint(format!("run `templar close --commits --window {}` first", args.window)));
    }
    let result = waiting(invocation, session, &format!("window {} is not closed", args.window));
    if !session.participation()?.scores.contains(&me) {
        invocation
            .printer
            .talk(format_args!("hint: `templar score --window {}` is the next step of this home", args.window));
    }
    result
}

fn is_part_of_a_record(output: &Output) -> bool {
    match output {
        Output::Sign(Unsigned::Vote(vote)) => vote.on == VoteOn::Window,
        Output::Sign(Unsigned::Window(_))
        | Output::Confirm { .. }
        | Output::Remeasure { .. }
        | Output::Apply { .. } => true,
        _ => false,
    }
}

fn with_fetch(error: CommandError, window: WindowIndex) -> CommandError {
    if error.code() == Code::Partial { error.hint(fetch_hint(window)) } else { error }
}

/// Takes the outer step, and syncs the checkpoint to disk before a record names it.
fn apply(session: &mut RunSession, window: WindowIndex, outcomes: Vec<Outcome>) -> Result<(), CommandError> {
    let node = session.node();
    let contributions = contributions_of_cut(&node);
    let from = node.state().checkpoint();
    let applied = session.executor.apply(from, window, &outcomes, &contributions);
    let applied = applied.map_err(|error| with_fetch(error.into(), window))?;
    let mut kept: Vec<Hash> = applied.checkpoint.tensors.iter().map(|tensor| tensor.blob.hash()).collect();
    kept.extend([applied.stepped.checkpoint.hash(), applied.stepped.aggregate.hash()]);
    session.sync(&kept)?;
    session.replica.submit(Input::Measured(Measured::Applied { window, outcomes, stepped: applied.stepped }))?;
    Ok(())
}

fn disputed(dispute: &Dispute) -> CommandError {
    let text = match dispute {
        Dispute::Refusal { validator, miner, claimed, found } => format!(
            "validator {} refused the contribution of {} ({claimed}), but this home's replay gives {found:?}; not signed",
            validator.short(),
            miner.short()
        ),
        Dispute::Proof { validator, window, miner } => format!(
            "validator {} claims to have replayed {} in window {window}, but its proof differs from this home's replay",
            validator.short(),
            miner.short()
        ),
        Dispute::Measurement { validator, miner } => format!(
            "validator {} measured other losses of the contribution of {} than this home, or did not measure; not signed",
            validator.short(),
            miner.short()
        ),
        Dispute::Record { record, found } => format!(
            "record {} differs from this home's result (checkpoint {}, aggregate {}, held-out loss {}); not signed",
            record.short(),
            found.checkpoint,
            found.aggregate,
            nats(found.held_out_loss_nanonats)
        ),
    };
    CommandError::says(Code::Verification, text)
        .hint("run `templar audit` in a third home to see which of the two is wrong")
}

/// The account of a mint, for people.
fn account(mint: &Mint) -> String {
    match mint.kind {
        MintKind::Miner => format!("miner {}", PublicKey::short(&mint.account)),
        MintKind::Evaluations => format!("validator {} for measurements", PublicKey::short(&mint.account)),
        MintKind::Replays => format!("validator {} for replays", PublicKey::short(&mint.account)),
        MintKind::Treasury => "treasury".to_owned(),
    }
}

fn print_record(invocation: &Invocation, closed: &ClosedWindow) {
    let WindowRecord { header, body: record } = &closed.window;
    let printer = &invocation.printer;
    if printer.is_json() {
        let mut value = serde_json::to_value(NodeEvent::closed(closed)).unwrap_or_default();
        value["type"] = json!("result");
        value["closed"] = json!(true);
        value["manifest"] = serde_json::to_value(header).unwrap_or_default();
        value["body"] = serde_json::to_value(record).unwrap_or_default();
        printer.json(&value);
        return;
    }
    let mut text = format!(
        "record     {}\ncheckpoint {}\nheld-out   {:.4} nats\nsigned by  {} of {} validators\n",
        closed.record,
        header.checkpoint,
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
            "slashed    {} ALPHA of {}: {} in window {}\n",
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
