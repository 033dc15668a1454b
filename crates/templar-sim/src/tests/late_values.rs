//! Values that come late, or to half of the nodes: a window is judged once, and closes.

use super::*;

/// So many of so many validators release their values late or to one half. The invariants of the simulation say
/// that nobody judges a window twice and that no decision takes more than one attempt for each of them and two more.
#[test]
fn late_values_of_less_than_a_third_cost_no_judging() {
    for (validators, faulty) in [(4, 1), (7, 2), (10, 3), (20, 6)] {
        for strategy in [Strategy::LateValues, Strategy::HalfValues] {
            for faults in [Faults::None, Faults::Heavy] {
                let adversaries = vec![(strategy, faulty)];
                let report = run(Config { validators, windows: 4, faults, adversaries, ..config(u64::from(faulty)) });
                assert_eq!(report.progress.windows, 4);
                assert!(report.invariants["a validator judges a window once"] >= 4, "{:?}", report.invariants);
                let honest = report.members.iter().filter(|member| member.strategy.is_none());
                let honest: Vec<&Earned> = honest.collect();
                assert!(honest.iter().all(|member| member.noticed.is_none()));
                let unrevealed =
                    report.members.iter().filter(|member| member.strategy.is_some()).map(|member| member.unrevealed);
                if strategy == Strategy::LateValues && faults == Faults::None {
                    assert!(unrevealed.sum::<u64>() > 0, "some come after the set is agreed");
                    assert!(honest.iter().all(|member| member.unrevealed == 0));
                }
            }
        }
    }
}

/// Both at once, with validators that equivocate: below a third of the stake nothing holds a window open.
#[test]
fn late_values_and_two_votes_together_hold_no_window_open() {
    for seed in 0..4 {
        let adversaries =
            vec![(Strategy::LateValues, 2), (Strategy::HalfValues, 2), (Strategy::EquivocateProposing, 2)];
        let report = run(Config { validators: 20, windows: 4, adversaries, ..config(seed) });
        assert_eq!(report.progress.windows, 4);
    }
}

/// A validator whose value counts signs no score, or a false one, while the value of an honest one came too late. The
/// others of the set are too few for a record, and all the honest together are enough.
#[test]
fn missing_and_false_scores_beside_a_late_value_hold_no_window_open() {
    for strategy in [Strategy::NoScore, Strategy::AccuseProposing] {
        for seed in 1..=4 {
            let (faults, replays, adversaries) = (Faults::Heavy, ReplayMode::Late, vec![(strategy, 1)]);
            let report = run(Config { faults, replays, adversaries, ..config(seed) });
            assert_eq!(report.progress.windows, 6);
        }
    }
}

/// Prints the rows of late values, and of six colluders of twenty that choose among 64 seeds.
#[test]
#[ignore = "prints a table"]
fn print_late_values_and_ground_seeds() {
    for (validators, faulty) in [(4, 1), (7, 2), (20, 6)] {
        let baseline = table::Baseline::of(ReplayMode::Three, PayRule::Ranks, table::WINDOWS, validators).unwrap();
        let mut casts: Vec<Played> = vec![vec![(Strategy::LateValues, faulty)], vec![(Strategy::HalfValues, faulty)]];
        if validators == 20 {
            casts.push(vec![(Strategy::FewerSteps, 1), (Strategy::Grind, faulty)]);
            casts.push(vec![(Strategy::Grind, faulty)]);
        }
        println!("{validators} validators\n{}", table::markdown_together(&rows_of(&casts, &baseline)));
    }
}
