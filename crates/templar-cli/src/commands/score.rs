//! `templar score`: a validator scores the contributions of the open window and signs the score.

use serde_json::json;
use templar_manifest::{Contribution, Hash, PublicKey, Score, Signed, StateId, VoteOn, WindowIndex};
use templar_protocol::{Input, JudgePlan, Measured, Node, Output, Phase, Unsigned};
use templar_query::find::closed_window;
use templar_query::reference::parse_window;
use templar_query::score::{LossesView, MeasuredContribution, ScoreView};

use super::fetch::fetch_hint;
use crate::commands::status::awaited_line;
use crate::compute::Compute;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::table;
use crate::session::RunSession;

/// Score the contributions of a window and sign the score
///
/// Replays and measures the contributions that are drawn for this validator. Needs the deltas, traces and states
/// of the window.
#[derive(Debug, clap::Args)]
pub(crate) struct ScoreArgs {
    /// The window: its number, such as 3
    #[arg(long, value_name = "N", value_parser = parse_window)]
    window: WindowIndex,
    /// Do not wait: leave out validators that have not revealed, and treat deltas that are not here as withheld
    #[arg(long)]
    late: bool,
    #[command(flatten)]
    compute: Compute,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &ScoreArgs) -> CommandResult {
    args.compute.choose(invocation)?;
    let mut session = RunSession::open(invocation, args.run.as_deref())?;
    if !session.is_open(args.window)? {
        let (node, me) = (session.node(), session.me());
        let closed = closed_window(&node, args.window)?;
        if let Some(score) = closed.scores.iter().map(Signed::payload).find(|score| score.validator == me) {
            print(invocation, score, true);
            return Ok(Code::Ok);
        }
        let text = format!("window {} was closed without a score from this home", args.window);
        return Err(
            CommandError::says(Code::Failed, text).hint(format!("`templar show w{}` prints its record", args.window))
        );
    }
    expect_validator(&session)?;
    if let Some(score) = own_score(&session) {
        print(invocation, &score, true);
        return Ok(Code::Ok);
    }
    if args.late {
        session.replica.submit(Input::Deadline { window: args.window, phase: Phase::Reveal })?;
    }
    loop {
        match session.node().todo().into_iter().find(is_part_of_a_score) {
            Some(Output::Reveal { .. }) => drop(session.replica.reveal()?),
            Some(Output::Judge(plan)) => judge(&mut session, &plan, args)?,
            Some(Output::Sign(document)) => drop(session.replica.sign(document)?),
            _ => break,
        }
    }
    match own_score(&session) {
        Some(score) => {
            print(invocation, &score, false);
            Ok(Code::Ok)
        }
        None => waiting(invocation, &session, "the window cannot be scored yet"),
    }
}

/// Refuses when the key of this home is not a validator.
pub(crate) fn expect_validator(session: &RunSession) -> Result<(), CommandError> {
    let me = session.me();
    match session.replica.context.genesis.validator(&me) {
        Some(_) => Ok(()),
        None => Err(CommandError::says(Code::Failed, format_args!("{} is not a validator of this run", me.short()))
            .hint("`templar run show` lists the validators")),
    }
}

/// Prints the members that are awaited, and ends with exit code 5.
pub(crate) fn waiting(invocation: &Invocation, session: &RunSession, text: &str) -> CommandResult {
    let awaited = session.participation()?.awaited(&session.state());
    let value = json!({"type": "result", "closed": false, "what": text, "awaited": awaited});
    invocation.printer.data(&value, format_args!("{text}; awaited: {}", awaited_line(&awaited)));
    Ok(Code::Partial)
}

fn is_part_of_a_score(output: &Output) -> bool {
    matches!(output, Output::Judge(_) | Output::Sign(Unsigned::Score(_))) || is_part_of_a_seed(output)
}

/// Whether an output is a step from the certified cut to the seed.
pub(crate) fn is_part_of_a_seed(output: &Output) -> bool {
    match output {
        Output::Sign(Unsigned::Vote(vote)) => vote.on == VoteOn::Reveals,
        Output::Sign(Unsigned::Reveals(_)) | Output::Reveal { .. } => true,
        _ => false,
    }
}

fn own_score(session: &RunSession) -> Option<Score> {
    let (node, me) = (session.node(), session.me());
    let seed = node.judging()?.seed();
    node.scores().map(Signed::payload).find(|score| score.validator == me && score.seed == seed).cloned()
}

fn judge(session: &mut RunSession, plan: &JudgePlan, args: &ScoreArgs) -> Result<(), CommandError> {
    let node = session.node();
    let contributions = contributions_of_cut(&node);
    let missing = missing(session, &node, plan, &contributions);
    if !missing.is_empty() && !args.late {
        let error = CommandError::says(
            Code::Partial,
            format_args!("window {} cannot be scored; these are missing:\n{}", args.window, missing.join("\n")),
        );
        return Err(error.hint(fetch_hint(args.window)));
    }
    // A score vouches for the deltas, so they must survive a power cut.
    let named = contributions.iter().map(Signed::payload).flat_map(|claim| [claim.delta.hash(), claim.trace.hash()]);
    session.sync(&named.filter(|id| session.access.blobs().contains(id)).collect::<Vec<_>>())?;
    let entries = session.executor.judge(node.state(), plan, &contributions, args.late)?;
    let verdicts = session.executor.judge_late(plan, args.late)?;
    let contests = session.executor.spot_check(&plan.spot_checks)?;
    let measured = Measured::Judged { window: plan.window, seed: plan.seed, entries, verdicts, contests };
    session.replica.submit(Input::Measured(measured))?;
    Ok(())
}

/// The contributions that the certified cut names, in its order.
pub(crate) fn contributions_of_cut(node: &Node) -> Vec<Signed<Contribution>> {
    let Some(judging) = node.judging() else { return Vec::new() };
    let entries = judging.cut().contributions.iter();
    entries.filter_map(|entry| node.contribution(&entry.contribution).cloned()).collect()
}

/// The objects that `plan` needs and that are not here.
fn missing(session: &RunSession, node: &Node, plan: &JudgePlan, contributions: &[Signed<Contribution>]) -> Vec<String> {
    let blobs = session.access.blobs();
    let mut missing = Vec::new();
    let mut need = |what: String, id: Hash| {
        if !blobs.contains(&id) {
            missing.push(format!("{what} {id}"));
        }
    };
    need("checkpoint".to_owned(), node.state().checkpoint().hash());
    let known = |id: &StateId| session.executor.knows_state(id);
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
    let view = ScoreView::of(score);
    let mut rows = vec![["miner", "replay", "assigned", "unassigned", "nearest"].map(str::to_owned).to_vec()];
    rows.extend(view.entries.iter().map(|entry| {
        vec![
            entry.miner.short(),
            entry.replay.clone(),
            change(entry, |losses| (losses.assigned_before, losses.assigned_after)),
            change(entry, |losses| (losses.unassigned_before, losses.unassigned_after)),
            nearest(entry),
        ]
    }));
    let mut value = serde_json::to_value(&view).unwrap_or_default();
    value["type"] = json!("result");
    value["already"] = json!(before);
    invocation.printer.data(&value, format_args!("{}score {}", table(&rows), view.score));
    if before {
        invocation.printer.talk("this home has already scored the window");
    }
}

/// The miner with the most similar delta, and the similarity.
fn nearest(entry: &MeasuredContribution) -> String {
    let alike = |other: PublicKey| format!("{:.1} % {}", f64::from(entry.overlap_ppm) / 1e4, other.short());
    entry.nearest.map_or_else(|| "nobody".to_owned(), alike)
}

/// The loss before and after the trial step, or why there is none.
fn change(entry: &MeasuredContribution, part: impl Fn(&LossesView) -> (f64, f64)) -> String {
    match entry.losses.as_ref().map(part) {
        Some((before, after)) => format!("{before:.4} -> {after:.4}"),
        None => entry.evaluation.to_owned(),
    }
}
