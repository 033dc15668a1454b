//! A run in ten lines, for a person who thinks of joining or starting it.

use std::time::Duration;

use templar_home::context::RunContext;
use templar_home::load::{ValidatorLoad, expected_miners};
use templar_manifest::{Genesis, Initial, PublicKey, WeightRule};

use crate::printer::{Printer, alpha, amount, count, span};

/// The run in ten facts, wrapped for `printer`. `me` is this home's key.
pub(super) fn lines(printer: Printer, context: &RunContext, me: &PublicKey) -> String {
    let genesis = &*context.genesis;
    let rows = [
        ("run", context.run.to_string()),
        ("name", genesis.name.clone()),
        ("model", model(context)),
        ("data", data(context)),
        ("window", window(genesis)),
        ("deadlines", deadlines(genesis)),
        ("members", members(genesis, me)),
        ("replays", replays(genesis)),
        ("pay", pay(genesis)),
        ("checkpoint", context.first_checkpoint().to_string()),
    ];
    printer.facts(&rows)
}

fn model(context: &RunContext) -> String {
    let model = &context.genesis.model;
    let from = match &context.genesis.initial {
        Initial::Seed(_) => "drawn from a seed",
        Initial::Tensors(_) => "trained before",
    };
    format!(
        "{} parameters, {}, width {}, {from}",
        amount(context.recipe.parameter_count() as f64),
        count(model.layers, "layer"),
        model.hidden_size
    )
}

fn data(context: &RunContext) -> String {
    let dataset = &context.dataset;
    let tokens = amount(dataset.training_tokens() as f64);
    format!("{}, {tokens} tokens to train on, vocabulary of {}", dataset.name, dataset.vocab_size)
}

fn window(genesis: &Genesis) -> String {
    let context = genesis.context_at(0);
    let windows = match genesis.windows {
        0 => "windows without end".to_owned(),
        windows => count(windows, "window"),
    };
    format!(
        "each miner takes {} of {} x {} tokens; {windows}",
        count(genesis.inner.steps, "step"),
        context.batch_sequences,
        context.sequence_length
    )
}

fn deadlines(genesis: &Genesis) -> String {
    let span = |ms| span(Duration::from_millis(ms));
    let deadlines = &genesis.deadlines;
    format!(
        "at most {} to train, {} to draw the seed, {} to check",
        span(deadlines.commit_ms),
        span(deadlines.reveal_ms),
        span(deadlines.judge_ms)
    )
}

fn members(genesis: &Genesis, me: &PublicKey) -> String {
    let mine = |yes: bool| if yes { " (this home too)" } else { "" };
    format!(
        "{}{}, {}{}, {}",
        count(genesis.validators.len() as u64, "validator"),
        mine(genesis.validator(me).is_some()),
        count(genesis.miners().len() as u64, "miner"),
        mine(genesis.miners().contains(me)),
        count(genesis.registration.slots, "slot"),
    )
}

fn replays(genesis: &Genesis) -> String {
    let replay = &genesis.replay;
    let share = match (replay.fraction_ppm, replay.least_replays) {
        (0, least) => format!("{} of each update", count(least, "replay")),
        (fraction, 0 | 1) => format!("{} % of the updates by each validator", percent(fraction)),
        (fraction, least) => format!("{} % of the updates by each validator, each {least} times", percent(fraction)),
    };
    let when = match replay.before_close {
        true => "before they count".to_owned(),
        false => format!("within {}; cheats lose their pay", count(replay.verdict_windows, "window")),
    };
    let miners = expected_miners(genesis);
    let load = ValidatorLoad::of(genesis, miners).total();
    format!("{share} {when}; with {}, a validator computes {load:.1} times what one trains", count(miners, "miner"))
}

fn pay(genesis: &Genesis) -> String {
    let emission = &genesis.emission;
    let rule = match &genesis.gauntlet.weights {
        WeightRule::MeasuredSteps { .. } => "by proven steps and their worth",
        WeightRule::RankRamp { .. } => "by rank",
        WeightRule::ScorePower { .. } => "by score",
        WeightRule::ProvenSteps => "by proven steps",
    };
    format!(
        "{} ALPHA a window: {} % miners ({rule}), {} % validators, {} % treasury",
        alpha(emission.per_window_micros),
        percent(emission.miners_ppm),
        percent(emission.validators_ppm),
        percent(emission.treasury_ppm)
    )
}

/// Parts per million as per cent, without zeros at the end.
fn percent(ppm: u32) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_no_needless_digits() {
        assert_eq!([0, 410_000, 1_000_000, 125_000, 1].map(percent), ["0", "41", "100", "12.5", "0.0001"]);
    }
}
