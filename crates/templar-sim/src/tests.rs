//! Short runs of everything.

use super::*;

fn config(seed: u64) -> Config {
    Config {
        miners: 5,
        validators: 4,
        windows: 6,
        seed,
        faults: Faults::None,
        adversaries: Vec::new(),
        keep_history: true,
    }
}

fn run(config: Config) -> Report {
    match Simulation::new(config).unwrap().run(&mut |_| ()) {
        Ok(report) => report,
        Err(violation) => panic!("{violation}\n{}", violation.command),
    }
}

#[test]
fn honest_runs_hold_every_invariant() {
    for seed in 0..20 {
        let report = run(config(seed));
        assert_eq!(report.progress.windows, 6);
        assert!(report.members.iter().all(|member| member.micros > 0 && member.noticed.is_none()));
    }
}
