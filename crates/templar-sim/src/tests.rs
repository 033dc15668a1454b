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

#[test]
fn faults_break_nothing() {
    for faults in [Faults::Light, Faults::Heavy] {
        for seed in 0..20 {
            let report = run(Config { faults, windows: 8, ..config(seed) });
            assert_eq!(report.progress.windows, 8);
        }
    }
}

#[test]
fn each_strategy_is_played() {
    let mut failed = Vec::new();
    for &strategy in Strategy::ALL {
        for faults in [Faults::None, Faults::Heavy] {
            let config = Config { adversaries: vec![(strategy, 1)], faults, ..config(7) };
            match Simulation::new(config).unwrap().run(&mut |_| ()) {
                Ok(report) => {
                    let member = report.members.iter().find(|member| member.strategy.is_some()).unwrap();
                    println!("{} {} {} {:?}", strategy.name(), member.micros, member.refused, member.noticed);
                }
                Err(violation) => {
                    println!("{}: {violation}", strategy.name());
                    failed.push((strategy, violation));
                }
            }
        }
    }
    failed.retain(|(strategy, _)| !strategy.stops_the_run());
    assert!(failed.is_empty(), "{failed:?}");
}
