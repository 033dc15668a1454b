//! The lines that `templar show` prints about the outcome of a registration or a record.

use templar_protocol::Cause;
use templar_query::object::explanation::Explanation;
use templar_query::object::registration::{PaymentView, RegistrationExplanation, RegistrationOutcome};
use templar_query::object::standing::{MinerStanding, StandingView};

use crate::printer::{alpha, amount};

pub(super) fn lines(explanation: &Explanation) -> Vec<String> {
    match explanation {
        Explanation::None => Vec::new(),
        Explanation::Registration(found) => registration(found),
        Explanation::Standings(found) => {
            std::iter::once("standings after the record:".to_owned()).chain(found.iter().flat_map(miner)).collect()
        }
    }
}

fn registration(found: &RegistrationExplanation) -> Vec<String> {
    let paid = match found.payment {
        PaymentView::Work { worth_hashes, asked_hashes, .. } => {
            let (worth, asked) = (amount(worth_hashes as f64), amount(asked_hashes as f64));
            format!("work worth {worth} hashes; the price was {asked}")
        }
        PaymentView::Burn { burn_micros, price_micros } => {
            format!("{} ALPHA, burnt on acceptance; the price was {}", alpha(burn_micros), alpha(price_micros))
        }
        PaymentView::Rotation => "nothing: the owner has a slot and names another node key".to_owned(),
    };
    let outcome = match found.outcome {
        RegistrationOutcome::Decided { record, verdict } => format!("record {}: {verdict}", record.short()),
        RegistrationOutcome::NotInCut { record } => {
            format!("record {} does not name it: it is not in the cut", record.short())
        }
        RegistrationOutcome::Open => format!("window {} is open", found.window),
    };
    let now = match found.slot_now {
        Some((slot, node)) => format!("the owner has slot {slot}, and {} trains for it", node.short()),
        None => "the owner has no slot now".to_owned(),
    };
    vec![format!("paid: {paid}"), outcome, now]
}

fn miner(found: &MinerStanding) -> Vec<String> {
    let score = found.score_picos.map_or_else(|| "none".to_owned(), |score| format!("{:.6}", score as f64 / 1e12));
    let mut lines = vec![format!(
        "  miner {}: {} -> {}; score {score}, weight {:.2} %",
        found.miner.short(),
        words(&found.before),
        words(&found.after),
        f64::from(found.weight_ppm) / 1e4,
    )];
    for change in &found.changes {
        let (before, after) = (words(&change.before), words(&change.after));
        let moved = if before == after { String::new() } else { format!(": {before} -> {after}") };
        lines.push(format!("    {}{moved}", reason(&change.cause)));
    }
    lines
}

/// The rule that changes a standing, for a person.
fn reason(cause: &Cause) -> String {
    let loss = |gain_nanonats: i128| {
        let nats = gain_nanonats.unsigned_abs() as f64 / 1e9;
        if gain_nanonats < 0 { format!("rose by {nats:.6}") } else { format!("fell by {nats:.6}") }
    };
    match cause {
        Cause::Measured { gain_nanonats, own_gain_nanonats } => {
            format!("loss {} on pages it never saw, {} on its own", loss(*gain_nanonats), loss(*own_gain_nanonats))
        }
        cause => cause.to_string(),
    }
}

/// A standing in a few words: the rating with its uncertainty, the proof of computation, and the factor of pay.
fn words(standing: &StandingView) -> String {
    format!(
        "{:.3} \u{b1} {:.3}, proof {:+.4}, factor {:.4}",
        standing.mu_picos as f64 / 1e12,
        standing.sigma_picos as f64 / 1e12,
        standing.proof_nanos as f64 / 1e9,
        standing.factor_nanos as f64 / 1e9
    )
}
