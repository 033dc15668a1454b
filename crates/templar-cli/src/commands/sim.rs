//! `templar sim`: whole runs in this process, from a seed, with everything that can go wrong.

use std::time::Instant;

use serde_json::json;
use templar_sim::{Config, Faults, MemberRole, PayRule, ReplayMode, Report, Simulation, Strategy, Violation, table};

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Tone, alpha, bytes, count};

/// Simulate runs of the protocol: hundreds of nodes, faults and cheats, from a seed
///
/// Every miner and validator is the state machine that a real node drives; clock, network and the worth of deltas are
/// simulated. The invariants are checked whenever a node closes a window. The same seed and program give the same run, to
/// the last event. Where an invariant does not hold, the exit code is 4 and the hint is the command that shows it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Miners
    #[arg(long, default_value_t = 12, value_name = "M")]
    miners: u32,
    /// So many of the miners, all honest, work through another miner's node: a node more costs far more time than a miner more
    #[arg(long, default_value_t = 0, value_name = "N")]
    hosted: u32,
    /// Miners that genesis does not know, and that ask for slots; there are slots for half of them
    #[arg(long, default_value_t = 0, value_name = "N")]
    newcomers: u32,
    /// Validators, all with the same stake
    #[arg(long, default_value_t = 7, value_name = "V")]
    validators: u32,
    /// Windows
    #[arg(long, default_value_t = 20, value_name = "W")]
    windows: u64,
    /// From which everything is drawn
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// As many runs, with this seed and those that follow it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// What breaks: none, light or heavy
    #[arg(long, default_value = "light", value_parser = faults, value_name = "HOW")]
    faults: Faults,
    /// Which contributions are replayed: each by one or three before its window closes, or late, a fifth by each validator and each by two at least (late) or by nobody
    /// sometimes (sparse)
    #[arg(long, default_value = "three", value_parser = replays, value_name = "WHICH")]
    replays: ReplayMode,
    /// What miners are paid by: ranks, the square of scores, or steps that replays bear out
    #[arg(long, default_value = "ranks", value_parser = pay, value_name = "RULE")]
    pay: PayRule,
    /// So many members play this strategy; --strategies lists them
    #[arg(long, value_name = "NAME:COUNT", value_parser = adversary)]
    adversary: Vec<(Strategy, u32)>,
    /// Let nodes keep all windows, and fold whole journals at every restart: for short runs
    #[arg(long)]
    history: bool,
    /// Train a tiny model, really, where otherwise a statistical model says what deltas are worth: for short runs
    #[arg(long)]
    real: bool,
    /// List the strategies
    #[arg(long, exclusive = true)]
    strategies: bool,
    /// Play every strategy against an honest twin and print the attack table, in runs of its own; --replays and --pay may be given,
    /// and --adversary for the rows of some
    #[arg(long, conflicts_with_all = ["miners", "hosted", "validators", "windows", "seed", "seeds", "faults", "history"])]
    attacks: bool,
    /// With --attacks: one row, in which all that --adversary names play together; the first is the attacker, the others help it.
    /// They may be a third of the validators and more
    #[arg(long, requires_all = ["attacks", "adversary"])]
    together: bool,
}

fn faults(text: &str) -> Result<Faults, String> {
    Faults::ALL.into_iter().find(|faults| faults.name() == text).ok_or_else(|| "one of none, light, heavy".to_owned())
}

fn replays(text: &str) -> Result<ReplayMode, String> {
    ReplayMode::ALL
        .into_iter()
        .find(|replays| replays.name() == text)
        .ok_or_else(|| "one of one, three, late, sparse".to_owned())
}

fn pay(text: &str) -> Result<PayRule, String> {
    PayRule::ALL.into_iter().find(|pay| pay.name() == text).ok_or_else(|| "one of ranks, scores, steps".to_owned())
}

fn adversary(text: &str) -> Result<(Strategy, u32), String> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let strategy = Strategy::from_name(name).ok_or_else(|| "no strategy has this name".to_owned())?;
    let count = count.parse().map_err(|_| "the count is not a number".to_owned())?;
    Ok((strategy, count))
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    if args.strategies {
        return Ok(list(invocation));
    }
    if args.attacks {
        return attacks(invocation, args);
    }
    for seed in args.seed..=args.seed.saturating_add(args.seeds - 1) {
        let config = Config {
            miners: args.miners,
            hosted: args.hosted,
            newcomers: args.newcomers,
            validators: args.validators,
            windows: args.windows,
            seed,
            faults: args.faults,
            replays: args.replays,
            pay: args.pay,
            adversaries: args.adversary.clone(),
            keep_history: args.history,
            real: args.real,
        };
        one(invocation, config, args.seeds == 1)?;
    }
    if args.seeds > 1 {
        let printer = invocation.printer;
        let value = json!({"type": "seeds", "seeds": args.seeds, "peak_bytes": peak_bytes()});
        printer.data(&value, format!("{}: every invariant held", count(args.seeds, "seed")));
    }
    Ok(Code::Ok)
}

/// One run. With `loud` it says how far it is, and prints its result to a person also.
#[expect(clippy::disallowed_methods, reason = "speed, for people; decides nothing")]
fn one(invocation: &Invocation, config: Config, loud: bool) -> Result<(), CommandError> {
    let printer = invocation.printer;
    let simulation = Simulation::new(config.clone()).map_err(|error| CommandError::new(Code::Usage, error))?;
    let every = (config.windows / 20).max(1);
    let started = Instant::now();
    let mut tell = |progress: &templar_sim::SimProgress| {
        if loud && progress.windows.is_multiple_of(every) && progress.windows < config.windows {
            let mut value = serde_json::to_value(progress).unwrap_or_default();
            value["type"] = json!("progress");
            let seconds = progress.simulated_ms / 1000;
            let text = format!(
                "window {}/{} | {seconds} s of the simulated clock | {} checks",
                progress.windows, config.windows, progress.checked
            );
            printer.progress(&value, text);
        }
    };
    let result = simulation.run(&mut tell);
    let seconds = started.elapsed().as_secs_f64();
    let report = result.map_err(|violation| violated(*violation))?;
    let rate = report.progress.inputs as f64 / seconds.max(1e-9);
    let mut value = serde_json::to_value(&report).unwrap_or_default();
    value["type"] = json!("result");
    value["seed"] = json!(config.seed);
    value["seconds"] = json!(seconds);
    value["inputs_per_second"] = json!(rate);
    value["peak_bytes"] = json!(peak_bytes());
    if loud {
        printer.data(&value, text(invocation, &config, &report, seconds));
    } else {
        printer.json(&value);
    }
    Ok(())
}

fn text(invocation: &Invocation, config: &Config, report: &Report, seconds: f64) -> String {
    let progress = &report.progress;
    let rate = |number: u64| number as f64 / seconds.max(1e-9);
    let mut lines = vec![
        format!(
            "{}: {} and {}, seed {}, faults {}",
            count(progress.windows, "window"),
            count(config.validators, "validator"),
            count(config.miners, "miner"),
            config.seed,
            config.faults.name()
        ),
        format!(
            "checked   {} times that an invariant holds: {}",
            progress.checked,
            invocation.printer.tone(Tone::Good, "all do")
        ),
        format!(
            "events    {} ({:.0} a second); {} inputs to nodes ({:.0} a second)",
            progress.events,
            rate(progress.events),
            progress.inputs,
            rate(progress.inputs)
        ),
        format!("time      {seconds:.1} s for {} s of the simulated clock", progress.simulated_ms / 1000),
    ];
    if let Some(peak) = peak_bytes() {
        lines.push(format!("memory    {} at most", bytes(peak)));
    }
    if report.joined > 0 {
        let (joined, replaced, strangers) = (report.joined, report.replaced, report.strangers);
        lines.push(format!("slots     {joined} taken, {replaced} of them from others, {strangers} by keys of a flood"));
    }
    if report.unreplayed > 0 {
        lines.push(format!("unpaid    {} honest contributions whose replayer was away", report.unreplayed));
    }
    let mut own = |role: MemberRole, strategy: Option<Strategy>, name: &str| {
        let (micros, members) = report.earned(role, strategy);
        if members > 0 {
            lines.push(format!("own       {} ALPHA each: {members} {name}", alpha(micros / members as u64)));
        }
    };
    own(MemberRole::Miner, None, "honest miners");
    own(MemberRole::Validator, None, "honest validators");
    for (strategy, _) in &config.adversaries {
        own(strategy.role(), Some(*strategy), strategy.name());
    }
    lines.push(format!("state     {}", report.state));
    lines.join("\n")
}

fn list(invocation: &Invocation) -> Code {
    for strategy in Strategy::ALL {
        let role = if strategy.role() == MemberRole::Miner { "miner" } else { "validator" };
        let value = json!({"type": "strategy", "name": strategy.name(), "role": role, "does": strategy.describe()});
        invocation.printer.data(&value, format!("{:<22} {role:<10} {}", strategy.name(), strategy.describe()));
    }
    Code::Ok
}

/// An invariant that does not hold: what, and how to see it again.
fn violated(violation: Violation) -> CommandError {
    let hint = violation.command.clone();
    CommandError::new(Code::Verification, violation).hint(hint)
}

fn attacks(invocation: &Invocation, args: &Args) -> CommandResult {
    let is_wanted = |strategy: &&Strategy| {
        args.adversary.is_empty() || args.adversary.iter().any(|(wanted, _)| wanted == *strategy)
    };
    let baseline = table::Baseline::new(args.replays, args.pay).map_err(|violation| violated(*violation))?;
    let casts: Vec<Vec<(Strategy, u32)>> = if args.together {
        vec![args.adversary.clone()]
    } else {
        Strategy::ALL.iter().filter(is_wanted).map(|strategy| vec![(*strategy, 1)]).collect()
    };
    let mut rows = Vec::new();
    for cast in casts {
        let row = table::row_of(&cast, &baseline);
        let strategy = cast[0].0.name();
        let helpers: Vec<_> = cast[1..].iter().map(|(helper, count)| json!([helper.name(), count])).collect();
        let value = json!({
            "type": "attack",
            "strategy": strategy,
            "helpers": helpers,
            "noticed": row.noticed,
            "slots_lost": row.slots_lost,
            "earned_per_mille": row.earned_per_mille,
            "net_per_mille": row.net_per_mille,
            "helpers_earned_per_mille": row.helpers_per_mille,
            "validators_earned_per_mille": row.validators_per_mille,
            "honest_miners_lost_per_mille": row.lost_per_mille,
            "stopped": row.stopped,
        });
        invocation.printer.progress(&value, strategy);
        rows.push(row);
    }
    if !invocation.printer.is_json() {
        let text = if args.together { table::markdown_together(&rows) } else { table::markdown(&rows) };
        invocation.printer.data(&(), text);
    }
    Ok(Code::Ok)
}

/// The most memory that this process ever had, where the system says it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read() {
        assert_eq!(adversary("noise:3"), Ok((Strategy::Noise, 3)));
        assert_eq!(adversary("favour"), Ok((Strategy::Favour, 1)));
        assert!(adversary("nobody:1").is_err() && adversary("noise:x").is_err());
        assert_eq!(faults("heavy"), Ok(Faults::Heavy));
        assert!(faults("some").is_err());
        assert_eq!(replays("late"), Ok(ReplayMode::Late));
        assert!(replays("all").is_err());
        assert_eq!(pay("steps"), Ok(PayRule::Steps));
        assert!(pay("nothing").is_err());
    }

    #[test]
    fn what_does_not_hold_is_said_with_the_command_that_shows_it() {
        let violation = Violation {
            invariant: "a window closes in time",
            detail: "it does not".to_owned(),
            window: 3,
            member: "validator 0".to_owned(),
            at_ms: 1,
            command: "templar sim --seed 7".to_owned(),
        };
        let error = violated(violation);
        assert_eq!(error.code(), Code::Verification);
        assert!(error.lines()[0].contains("a window closes in time"));
        assert!(format!("{error:?}").contains("hint: Some(\"templar sim --seed 7\")"));
    }
}
