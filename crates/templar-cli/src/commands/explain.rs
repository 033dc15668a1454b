//! `templar explain`: why a miner was paid what it was paid, one sentence a step.

use templar_manifest::{Losses, PublicKey, WindowIndex};
use templar_query::explain::{
    ContributionPart, FactorPart, LossesPart, MintPart, PayExplanation, VerdictPart, VestingPart, WeightPart, miner,
};
use templar_query::find::run_context;
use templar_query::reference::parse_window;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{alpha, count};

/// Explain the pay of a miner in a window, step by step
///
/// Walks from the contribution through verdict, losses, factor and weight to the pay and its vesting. Every number
/// is computed again from the journal, and anybody with the records gets the same.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The miner: its owner key, or four or more digits of it
    miner: String,
    /// The window: its number, such as 3 [default: the newest that is closed]
    #[arg(long, value_name = "N", value_parser = parse_window)]
    window: Option<WindowIndex>,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &ExplainArgs) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let node = access.fold(&context)?;
    let miner = miner(&node, &args.miner)?;
    let found = PayExplanation::of(&node, &miner, args.window)?;
    let printer = invocation.printer;
    let lines: Vec<String> = sentences(&found).iter().map(|line| printer.prose(line, "  ")).collect();
    printer.document(&found, lines.join("\n"));
    Ok(Code::Ok)
}

fn sentences(found: &PayExplanation) -> Vec<String> {
    let mut lines =
        vec![format!("Miner {} in window {}, by record {}:", found.miner.short(), found.window, found.record.short())];
    let Some(contribution) = &found.contribution else {
        lines.push("The cut names no contribution of this miner, so nothing is paid.".to_owned());
        return lines;
    };
    lines.push(contributed(contribution));
    lines.extend(found.verdict.as_ref().map(verdict));
    lines.push(found.losses.as_ref().map_or_else(
        || "No drawn validator measured it, which changes neither its standing nor its factor.".to_owned(),
        measured,
    ));
    lines.extend(found.factor.as_ref().map(factor));
    match (&found.weight, &found.mint) {
        (Some(weight), Some(mint)) => lines.extend([weighed(weight), minted(weight, mint)]),
        _ => lines.push("So it has no part in the pay of this window.".to_owned()),
    }
    lines.extend(found.vesting.as_ref().map(vesting));
    lines
}

fn names(keys: &[PublicKey]) -> String {
    match keys {
        [] => "no validator".to_owned(),
        keys => keys.iter().map(PublicKey::short).collect::<Vec<_>>().join(", "),
    }
}

/// Millionths, or billionths, as a number between 0 and a few.
fn part(value: u64, places: usize) -> String {
    let unit = 10u64.pow(places as u32);
    format!("{}.{:0places$}", value / unit, value % unit)
}

/// The change of a loss, in nats as `show` prints it.
fn moved(before_nanonats: u64, after_nanonats: u64, gain_nanonats: i64) -> String {
    let verb = if gain_nanonats < 0 { "rose" } else { "fell" };
    let [gain, before, after] =
        [gain_nanonats.unsigned_abs(), before_nanonats, after_nanonats].map(|nanonats| nanonats as f64 / 1e9);
    format!("{verb} by {gain:.6} nats, from {before:.6} to {after:.6}")
}

fn contributed(found: &ContributionPart) -> String {
    let ContributionPart { id, steps, most_steps, tokens } = found;
    format!(
        "It contributed {}: {} of at most {most_steps}, on {}.",
        id.short(),
        count(*steps, "inner step"),
        count(*tokens, "token")
    )
}

fn verdict(found: &VerdictPart) -> String {
    let VerdictPart { verdict, is_accepted, matched } = found;
    let replayed = match (matched.is_empty(), is_accepted) {
        (false, _) => format!("{} replayed it to the same hashes", names(matched)),
        (true, true) => "nobody had to replay it before the record".to_owned(),
        (true, false) => "no replay gives its hashes".to_owned(),
    };
    let accepted = if *is_accepted { "accepted" } else { "refused" };
    format!("The record {accepted} it ({verdict}); {replayed}.")
}

fn measured(found: &LossesPart) -> String {
    let LossesPart { measured_by, losses, gain_nanonats, own_gain_nanonats } = found;
    let Losses {
        assigned_before_nanonats: own_before,
        assigned_after_nanonats: own_after,
        unassigned_before_nanonats: before,
        unassigned_after_nanonats: after,
    } = losses;
    format!(
        "{} tried it: on pages that nobody trains on, the loss {}; on its own pages, it {}.",
        names(measured_by),
        moved(*before, *after, *gain_nanonats),
        moved(*own_before, *own_after, *own_gain_nanonats)
    )
}

fn factor(found: &FactorPart) -> String {
    let FactorPart { gain_piconats, median_piconats, ratio_ppm, newest_ppm, before_nanos, after_nanos } = found;
    let [gain, median] = [gain_piconats, median_piconats].map(|piconats| *piconats as f64 / 1e12);
    format!(
        "One of its steps gained {gain:.9} nats, where the median of all steps is {median:.9}; the \
         window counts {} and enters the average with weight {}, so its factor went from {} to {}.",
        part((*ratio_ppm).into(), 6),
        part((*newest_ppm).into(), 6),
        part(*before_nanos, 9),
        part(*after_nanos, 9)
    )
}

fn weighed(found: &WeightPart) -> String {
    let WeightPart { rule, merit, merits, weight_ppm } = found;
    let weight = percent(*weight_ppm);
    format!("Its merit is {merit} ({rule}), of {merits} of all miners together; the weight is {weight}.")
}

/// Millionths as a percentage. Its four decimals are exact.
fn percent(ppm: u32) -> String {
    format!("{:.4} %", f64::from(ppm) / 1e4)
}

fn minted(weight: &WeightPart, found: &MintPart) -> String {
    let MintPart { proven_steps, target_steps, full_micros, emission_micros, miners_ppm, amount_micros } = found;
    format!(
        "All miners together proved {proven_steps} of {target_steps} steps, so the window mints {} of {} ALPHA; the miners \
         have {} of that, and {} of their part are {} ALPHA.",
        alpha(*emission_micros),
        alpha(*full_micros),
        part((*miners_ppm).into(), 6),
        percent(weight.weight_ppm),
        alpha(*amount_micros)
    )
}

fn vesting(found: &VestingPart) -> String {
    let VestingPart { free_from, is_free, vesting_micros, slashed_micros } = found;
    let slashed = match slashed_micros {
        0 => "nothing of the account's unvested pay has been slashed since".to_owned(),
        micros => format!("{} ALPHA of the account's unvested pay have been slashed since", alpha(*micros)),
    };
    if *is_free {
        format!("It became free when window {free_from} closed; {slashed}.")
    } else {
        format!(
            "It becomes free when window {free_from} closes, and {} ALPHA of it are left; {slashed}.",
            alpha(*vesting_micros)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_out() {
        assert_eq!(moved(7_609_141_645, 7_606_150_000, 2_991_645), "fell by 0.002992 nats, from 7.609142 to 7.606150");
        assert_eq!(moved(1, 1_000_001, -1_000_000), "rose by 0.001000 nats, from 0.000000 to 0.001000");
        assert_eq!(percent(507_692), "50.7692 %");
        assert_eq!((part(1_031_250_000, 9), part(62_500, 6)), ("1.031250000".to_owned(), "0.062500".to_owned()));
    }
}
