//! What runs come to, for the comparison of two builds.

use super::*;

/// Prints what runs of every kind come to, each with its command. Two builds of the same rules print the same.
#[test]
#[ignore = "prints what to compare builds by"]
fn print_what_runs_come_to() {
    let mut runs: Vec<Config> = Faults::ALL.into_iter().map(|faults| Config { faults, ..config(1) }).collect();
    for replays in ReplayMode::ALL {
        let cast = |strategy: &Strategy| vec![(*strategy, 1)];
        let of = |strategy| Config { replays, faults: Faults::Heavy, adversaries: cast(strategy), ..config(7) };
        runs.extend(Strategy::ALL.iter().map(of));
    }
    runs.push(Config { miners: 250, validators: 20, windows: 3, keep_history: false, ..config(1) });
    runs.push(Config { miners: 250, hosted: 240, validators: 20, windows: 8, keep_history: false, ..config(1) });
    for config in runs {
        let command = config.command();
        match tried(config) {
            Ok(report) => println!("{command} | {} | {:?}", report.state, report.progress),
            Err(violation) => println!("{command} | {violation}"),
        }
    }
}
