//! Validators of unequal stake: the stake of the adversaries counts, and not their number.

use super::*;

/// Seven validators, of which the four smallest have 4 of 28 and the largest 8.
const FEW_LARGE: [u32; 7] = [8, 1, 8, 1, 8, 1, 1];

fn unequal(strategy: Strategy, count: u32, seed: u64) -> Config {
    let (stakes, adversaries) = (FEW_LARGE.to_vec(), vec![(strategy, count)]);
    Config { validators: 7, stakes, adversaries, ..config(seed) }
}

/// The stake of the adversaries and of all validators.
fn stakes_of(config: &Config) -> (u64, u64) {
    let simulation = Simulation::of(config.clone()).unwrap();
    let genesis = simulation.genesis();
    let is_lying = |key: &templar_manifest::PublicKey| simulation.strategy_of(key).is_some();
    let lying = genesis.validators.iter().filter(|validator| is_lying(&validator.key));
    (lying.map(|validator| validator.stake).sum(), genesis.total_stake())
}

#[test]
fn the_drawn_adversaries_have_less_than_a_third_of_the_stake() {
    let mut drawn = std::collections::BTreeSet::new();
    for seed in 0..40 {
        for count in 1..=4 {
            let (lying, all) = stakes_of(&unequal(Strategy::Silent, count, seed));
            assert!(lying > 0 && lying * 3 < all, "{lying} of {all}");
            drawn.insert((count, lying));
        }
    }
    // One alone may be a large one. Four of seven are all the small ones.
    assert!(drawn.contains(&(1, 800)) && drawn.contains(&(1, 100)), "{drawn:?}");
    assert_eq!(drawn.iter().filter(|(count, _)| *count == 4).count(), 1);
    let five = unequal(Strategy::Silent, 5, 0);
    let refused = SimConfigError::AThird { adversaries: 5, validators: 7, stake: 12, total: 28 };
    assert_eq!(five.check(), Err(refused));
    let nothing = Config { stakes: vec![1, 0], ..config(0) };
    assert!(matches!(nothing.check(), Err(SimConfigError::Range { what: "stakes", .. })));
    assert!(unequal(Strategy::Silent, 4, 3).command().contains(" --stakes 8,1,8,1,8,1,1 "));
}

/// Most of the heads, with a seventh of the stake: they hold no window open, nothing is judged twice, and the honest lose
/// at most a hundredth of their pay.
///
/// Who replays and who measures is drawn by stake. These four alone are drawn for one contribution in 800.
#[test]
fn most_of_the_heads_without_the_stake_cost_the_honest_nothing() {
    let honest = run(Config { adversaries: Vec::new(), ..unequal(Strategy::Silent, 0, 5) });
    let (expected, _) = honest.earned(MemberRole::Miner, None);
    for strategy in [
        Strategy::LateValues,
        Strategy::HalfValues,
        Strategy::Silent,
        Strategy::Favour,
        Strategy::RandomScores,
        Strategy::SkipReplays,
        Strategy::AccuseProposing,
    ] {
        let report = run(unequal(strategy, 4, 5));
        assert_eq!(report.progress.windows, 6, "{}", strategy.name());
        let (earned, _) = report.earned(MemberRole::Miner, None);
        println!("{}: {} per mille", strategy.name(), earned * 1000 / expected);
        assert!(earned * 1_000 >= expected * 990, "{}: {earned} of {expected}", strategy.name());
        let honest = report.members.iter().filter(|member| member.strategy.is_none());
        assert!(honest.clone().all(|member| member.noticed.is_none()), "{}", strategy.name());
    }
}

/// One validator with two sevenths of the stake, of the strategies that hurt most.
#[test]
fn a_large_validator_below_a_third_stops_nothing() {
    for strategy in [Strategy::LateValues, Strategy::NoScore, Strategy::EquivocateProposing, Strategy::Accuse] {
        for faults in [Faults::None, Faults::Heavy] {
            // In one of these seeds a large one is drawn.
            for seed in 0..3 {
                let report = run(Config { faults, ..unequal(strategy, 1, seed) });
                assert_eq!(report.progress.windows, 6, "{} with seed {seed}", strategy.name());
            }
        }
    }
}

/// Prints the rows of strategies that a seventh of the stake plays, with most of the heads.
#[test]
#[ignore = "prints a table"]
fn print_most_heads_without_the_stake() {
    let baseline =
        table::Baseline::with_stakes(ReplayMode::Three, PayRule::Measured, table::WINDOWS, FEW_LARGE.to_vec()).unwrap();
    let strategies = [
        Strategy::LateValues,
        Strategy::HalfValues,
        Strategy::Favour,
        Strategy::RandomScores,
        Strategy::SkipReplays,
        Strategy::AccuseProposing,
        Strategy::Equivocate,
        Strategy::Silent,
    ];
    let casts: Vec<Played> = strategies.iter().map(|strategy| vec![(*strategy, 4)]).collect();
    println!("stakes {FEW_LARGE:?}\n{}", table::markdown_together(&rows_of(&casts, &baseline)));
}
