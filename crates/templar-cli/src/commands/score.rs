//! `templar score`: a validator's judgement of the open window, signed.

use serde_json::json;
use templar_manifest::{Contribution, Hash, PublicKey, Replay, Score, ScoreEntry, Signed, StateId, WindowIndex};
use templar_protocol::{Input, JudgePlan, Measured, Node, Output, Phase, Unsigned};
use templar_train::nats;

use super::train::fetch_hint;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::{Invocation, closed_window};
use crate::participant::Participant;
use crate::printer::table;
use crate::progress::{awaited_json, awaited_line};
use crate::reference::parse_window;

/// Judge the contributions of a window and sign the score
///
/// Replays and measures what falls to this validator. Needs the deltas, traces and states of the window.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The window
    #[arg(long, value_name = "N", value_parser = parse_window)]
    window: WindowIndex,
    /// Do not wait: leave out validators that have not revealed, and count deltas that are not here as withheld
    #[arg(long)]
    late: bool,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let mut participant = Participant::open(invocation, args.run.as_deref())?;
    if !participant.is_open(args.window)? {
        let (node, me) = (participant.node(), participant.me());
        let closed = closed_window(&node, args.window)?;
        if let Some(score) = closed.scores.iter().map(Signed::payload).find(|score| score.validator == me) {
            print(invocation, score, true);
            return Ok(Code::Ok);
        }
        let text = format!("window {} is closed without a score of this home", args.window);
        return Err(
            CommandError::says(Code::Failed, text).hint(format!("`templar show w{}` prints its record", args.window))
        );
    }
    expect_validator(&participant)?;
    if let Some(score) = own_score(&participant) {
        print(invocation, &score, true);
        return Ok(Code::Ok);
    }
    if args.late {
        participant.replica.submit(Input::Deadline { window: args.window, phase: Phase::Reveal })?;
    }
    loop {
        match participant.node().todo().into_iter().find(is_part_of_a_score) {
            Some(Output::Reveal { .. }) => drop(participant.replica.reveal()?),
            Some(Output::Judge(plan)) => judge(&mut participant, &plan, args)?,
            Some(Output::Sign(document)) => drop(participant.replica.sign(document)?),
            _ => break,
        }
    }
    match own_score(&participant) {
        Some(score) => {
            print(invocation, &score, false);
            Ok(Code::Ok)
        }
        None => waiting(invocation, &participant, "the window cannot be judged yet"),
    }
}

/// Refuses to act for a key that is no validator.
pub(crate) fn expect_validator(participant: &Participant) -> Result<(), CommandError> {
    let me = participant.me();
    match participant.replica.context.genesis.validator(&me) {
        Some(_) => Ok(()),
        None => Err(CommandError::says(Code::Failed, format_args!("{} is not a validator of this run", me.short()))
            .hint("`templar run show` lists the validators")),
    }
}

/// Says who is awaited; exit code 5.
pub(crate) fn waiting(invocation: &Invocation, participant: &Participant, text: &str) -> CommandResult {
    let awaited = participant.progress()?.awaited(&participant.state());
    let value = json!({"type": "result", "closed": false, "what": text, "awaited": awaited_json(&awaited)});
    invocation.printer.data(&value, format_args!("{text}; awaited: {}", awaited_line(&awaited)));
    Ok(Code::Partial)
}

fn is_part_of_a_score(output: &Output) -> bool {
    matches!(output, Output::Reveal { .. } | Output::Judge(_) | Output::Sign(Unsigned::Score(_)))
}

fn own_score(participant: &Participant) -> Option<Score> {
    let (node, me) = (participant.node(), participant.me());
    let seed = node.judging()?.seed();
    node.scores().map(Signed::payload).find(|score| score.validator == me && score.seed == seed).cloned()
}

fn judge(participant: &mut Participant, plan: &JudgePlan, args: &Args) -> Result<(), CommandError> {
    let node = participant.node();
    let contributions = contributions_of_cut(&node);
    let missing = missing(participant, &node, plan, &contributions);
    if !missing.is_empty() && !args.late {
        let error = CommandError::says(
            Code::Partial,
            format_args!("window {} cannot be judged: missing are\n{}", args.window, missing.join("\n")),
        );
        return Err(error.hint(fetch_hint(args.window)));
    }
    // Whoever vouches for deltas has them, whatever happens next.
    let named = contributions.iter().map(Signed::payload).flat_map(|claim| [claim.delta.hash(), claim.trace.hash()]);
    participant.sync(&named.filter(|id| participant.access.blobs().contains(id)).collect::<Vec<_>>())?;
    let entries = participant.executor.judge(node.state(), plan, &contributions, args.late)?;
    let verdicts = participant.executor.judge_late(plan, args.late)?;
    let measured = Measured::Judged { window: plan.window, seed: plan.seed, entries, verdicts };
    participant.replica.submit(Input::Measured(measured))?;
    Ok(())
}

/// The contributions that the certified cut names, in its order.
pub(crate) fn contributions_of_cut(node: &Node) -> Vec<Signed<Contribution>> {
    let Some(judging) = node.judging() else { return Vec::new() };
    let entries = judging.cut().contributions.iter();
    entries.filter_map(|entry| node.contribution(&entry.contribution).cloned()).collect()
}

/// Everything that judging as `plan` says needs and that is not here.
fn missing(
    participant: &Participant,
    node: &Node,
    plan: &JudgePlan,
    contributions: &[Signed<Contribution>],
) -> Vec<String> {
    let blobs = participant.access.blobs();
    let mut missing = Vec::new();
    let mut need = |what: String, id: Hash| {
        if !blobs.contains(&id) {
            missing.push(format!("{what} {id}"));
        }
    };
    need("checkpoint".to_owned(), node.state().checkpoint().hash());
    let known = |id: &StateId| participant.executor.knows_state(id);
    for contribution in contributions.iter().map(Signed::payload) {
        let miner = contribution.miner.short();
        need(format!("delta of {miner}"), contribution.delta.hash());
        if plan.replay.contains(&contribution.miner) {
            need(format!("trace of {miner}"), contribution.trace.hash());
            if !known(&contribution.state_in) {
                need(format!("state of {miner}"), contribution.state_in.hash());
            }
        }
    }
    missing
}

fn print(invocation: &Invocation, score: &Score, before: bool) {
    let id = templar_manifest::payload::id_of(score);
    let mut rows = vec![["miner", "replay", "assigned", "unassigned", "nearest", "weight"].map(str::to_owned).to_vec()];
    for entry in &score.entries {
        let weight = score.row.iter().find(|weight| weight.miner == entry.miner).map_or(0, |weight| weight.weight_ppm);
        rows.push(vec![
            entry.miner.short(),
            replay(&entry.replay),
            change(entry.assigned_before_nanonats, entry.assigned_after_nanonats),
            change(entry.unassigned_before_nanonats, entry.unassigned_after_nanonats),
            nearest(entry),
            format!("{:.2} %", f64::from(weight) / 1e4),
        ]);
    }
    let entries: Vec<_> = score.entries.iter().map(entry_json).collect();
    let value = json!({
        "type": "result", "window": score.window, "validator": score.validator, "score": id, "seed": score.seed,
        "entries": entries, "row": score.row, "already": before,
    });
    invocation.printer.data(&value, format_args!("{}score {id}", table(&rows)));
    if before {
        invocation.printer.talk("this home had scored the window already");
    }
}

fn entry_json(entry: &ScoreEntry) -> serde_json::Value {
    json!({
        "miner": entry.miner, "contribution": entry.contribution, "replay": replay(&entry.replay),
        "assigned_before": nats(entry.assigned_before_nanonats), "assigned_after": nats(entry.assigned_after_nanonats),
        "unassigned_before": nats(entry.unassigned_before_nanonats),
        "unassigned_after": nats(entry.unassigned_after_nanonats),
        "nearest": entry.nearest, "overlap_ppm": entry.overlap_ppm,
    })
}

/// A replay's result in words.
fn replay(replay: &Replay) -> String {
    match replay {
        Replay::NotDrawn => "not drawn".to_owned(),
        Replay::Match => "match".to_owned(),
        Replay::Refused(refusal) => refusal.to_string(),
    }
}

/// Whose delta is most alike, and how much.
fn nearest(entry: &ScoreEntry) -> String {
    let alike = |other: PublicKey| format!("{:.1} % {}", f64::from(entry.overlap_ppm) / 1e4, other.short());
    entry.nearest.map_or_else(|| "nobody".to_owned(), alike)
}

fn change(before: u64, after: u64) -> String {
    if (before, after) == (0, 0) {
        return "not measured".to_owned();
    }
    format!("{:.4} -> {:.4}", nats(before), nats(after))
}
