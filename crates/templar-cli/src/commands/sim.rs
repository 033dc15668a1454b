//! `templar sim`: simulates whole runs in one process, from a seed, with faults and cheats.

use std::time::Instant;

use serde_json::json;
use templar_sim::{Config, Faults, MemberRole, PayRule, ReplayMode, Report, Simulation, Strategy, Violation, table};

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Tone, alpha, bytes, count};

/// Simulate runs of the protocol: hundreds of nodes, faults and cheats, from a seed
///
/// Every miner and validator is the state machine that a real node drives. The clock, the network and the value
/// of deltas are simulated. The invariants are checked whenever a node closes a window. The same seed and
/// program give the same run, to the last event. If an invariant is violated, the exit code is 4 and the hint
/// is the command that reproduces it.
#[derive(Debug, clap::Args)]
pub(crate) struct SimArgs {
    #[command(flatten)]
    size: SimSize,
    /// The seed of everything
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// The number of runs; each has the next seed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The faults that are injected: none, light or heavy
    #[arg(long, default_value = "light", value_parser = faults, value_name = "HOW")]
    faults: Faults,
    /// How contributions are replayed: by one validator (one) or three (three) before the window closes; or
    /// after it, a fifth by each validator, so that each gets at least two replays (late) or some get none
    /// (sparse)
    #[arg(long, default_value = "three", value_parser = replays, value_name = "WHICH")]
    replays: ReplayMode,
    /// How miners are paid: by proven steps and their worth (measured), by rank (ranks), by the square of scores
    /// (scores), or by steps that replays confirm (steps)
    #[arg(long, default_value = "measured", value_parser = pay, value_name = "RULE")]
    pay: PayRule,
    /// Let this number of members cheat with this strategy; --strategies lists all
    #[arg(long, value_name = "NAME:COUNT", value_parser = adversary)]
    adversary: Vec<(Strategy, u32)>,
    /// Keep all windows, and fold the whole journal at every restart; for short runs
    #[arg(long)]
    history: bool,
    /// Train a real tiny model instead of drawing the value of deltas from a statistical model; for short runs
    #[arg(long)]
    real: bool,
    /// List all cheating strategies
    #[arg(long, exclusive = true)]
    strategies: bool,
    /// Play every strategy against an honest twin and print the table of attacks. Only --replays and --pay apply;
    /// --adversary selects rows
    #[arg(
        long,
        conflicts_with_all = ["miners", "hosted", "validators", "stakes", "windows", "seed", "seeds", "faults", "history"]
    )]
    attacks: bool,
    /// With --attacks: print one row, in which all strategies that --adversary names play together. The first is the
    /// attacker and the others help it. They may hold a third of the stake or more
    #[arg(long, requires_all = ["attacks", "adversary"])]
    together: bool,
}

/// The members and the length of a simulated run.
#[derive(Debug, clap::Args)]
struct SimSize {
    /// The number of miners
    #[arg(long, default_value_t = 12, value_name = "M")]
    miners: u32,
    /// The number of miners, all honest, that share another miner's node; this makes large simulations faster
    #[arg(long, default_value_t = 0, value_name = "N")]
    hosted: u32,
    /// The number of miners that are not in genesis and apply for slots; there are slots for half of them
    #[arg(long, default_value_t = 0, value_name = "N")]
    newcomers: u32,
    /// The number of validators
    #[arg(long, default_value_t = 7, value_name = "V")]
    validators: u32,
    /// The stakes of the validators in the order of their keys, such as 5,3,1; a shorter list is repeated. Without it
    /// all have the same. Adversaries are drawn so that they have less than a third of the stake
    #[arg(long, value_delimiter = ',', value_name = "STAKES")]
    stakes: Vec<u32>,
    /// The number of windows
    #[arg(long, default_value_t = 20, value_name = "W")]
    windows: u64,
}

fn faults(text: &str) -> Result<Faults, String> {
    Faults::ALL
        .into_iter()
        .find(|faults| faults.name() == text)
        .ok_or_else(|| "expected none, light or heavy".to_owned())
}

fn replays(text: &str) -> Result<ReplayMode, String> {
    ReplayMode::ALL
        .into_iter()
        .find(|replays| replays.name() == text)
        .ok_or_else(|| "expected one, three, late or sparse".to_owned())
}

fn pay(text: &str) -> Result<PayRule, String> {
    PayRule::ALL
        .into_iter()
        .find(|pay| pay.name() == text)
        .ok_or_else(|| "expected measured, ranks, scores or steps".to_owned())
}

fn adversary(text: &str) -> Result<(Strategy, u32), String> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let strategy =
        Strategy::from_name(name).ok_or_else(|| "no strategy has this name; --strategies lists all".to_owned())?;
    let count = count.parse().map_err(|_| "the count is not a number".to_owned())?;
    Ok((strategy, count))
}

pub(crate) fn run(invocation: &Invocation, args: &SimArgs) -> CommandResult {
    if args.strategies {
        return Ok(list(invocation));
    }
    if args.attacks {
        return attacks(invocation, args);
    }
    for seed in args.seed..=args.seed.saturating_add(args.seeds - 1) {
        let config = Config {
            miners: args.size.miners,
            hosted: args.size.hosted,
            newcomers: args.size.newcomers,
            validators: args.size.validators,
            stakes: args.size.stakes.clone(),
            windows: args.size.windows,
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

/// Simulates one run. With `loud` it also prints its progress, and its result for a person.
#[expect(clippy::disallowed_methods, reason = "the clock gives the speed for people and decides nothing")]
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
        format!("checked   {} invariants: {}", progress.checked, invocation.printer.tone(Tone::Good, "all hold")),
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
        lines.push(format!(
            "slots     {joined} taken, {replaced} of them from other members, {strangers} by keys of a flooding attack"
        ));
    }
    if report.unreplayed > 0 {
        lines.push(format!(
            "unpaid    {} honest contributions, because the validator that had to replay them was offline",
            report.unreplayed
        ));
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

/// The error about a violated invariant, with the command that reproduces it as the hint.
fn violated(violation: Violation) -> CommandError {
    let hint = violation.command.clone();
    CommandError::new(Code::Verification, violation).hint(hint)
}

fn attacks(invocation: &Invocation, args: &SimArgs) -> CommandResult {
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

/// The peak memory of this process in bytes, on systems that report it.
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
