//! Short runs with every fault, strategy and replay mode.

use super::*;

mod compare;
mod flood;
mod grinding;
mod late_values;
mod league;
mod real;
mod stakes;

fn config(seed: u64) -> Config {
    Config { miners: 5, validators: 4, windows: 6, seed, faults: Faults::None, keep_history: true, ..Config::default() }
}

fn tried(config: Config) -> Result<Report, Box<Violation>> {
    Simulation::of(config).unwrap().run(&mut |_| ())
}

fn run(config: Config) -> Report {
    tried(config).unwrap_or_else(|violation| panic!("{violation}\n{}", violation.command))
}

#[test]
fn honest_runs_hold_every_invariant() {
    for seed in 0..10 {
        let report = run(config(seed));
        assert_eq!(report.progress.windows, 6);
        assert_eq!(report.unreplayed, 0);
        // In a few windows luck may leave a miner without pay, but never a validator.
        assert!(report.members.iter().all(|member| member.refused == 0 && member.noticed.is_none()));
        assert!(report.members.iter().all(|member| member.role == "miner" || member.micros > 0));
        assert!(report.earned(MemberRole::Miner, None).0 > 0);
        assert!(report.invariants.values().all(|&times| times > 0));
        assert!(report.invariants.len() >= 13, "{:?}", report.invariants);
    }
}

/// Equal honest miners that are paid by rank earn different amounts in a window, by the luck of the drawn
/// pages. Over many windows luck evens out, and over many seeds no place in the order of keys earns more than
/// another.
#[test]
fn honest_twins_differ_by_luck_alone() {
    let seeds = 8;
    let mut by_key = std::collections::BTreeMap::<templar_manifest::PublicKey, u64>::new();
    let (mut least, mut most) = (u64::MAX, 0);
    for seed in 0..seeds {
        let pay = PayRule::Ranks;
        let report = run(Config { windows: 60, keep_history: false, pay, ..config(100 + seed) });
        let (whole, count) = report.earned(MemberRole::Miner, None);
        for miner in report.members.iter().filter(|member| member.role == "miner") {
            let per_mille = miner.micros * 1000 * count as u64 / whole;
            (least, most) = (least.min(per_mille), most.max(per_mille));
            *by_key.entry(miner.key).or_default() += per_mille;
        }
    }
    let means: Vec<u64> = by_key.values().map(|sum| sum / seeds).collect();
    println!("of a fair part, per mille: in one run {least} to {most}; by key over the seeds {means:?}");
    assert!(least >= 100 && most <= 2600, "{least} to {most}");
    assert!(means.iter().all(|mean| (600..=1400).contains(mean)), "{means:?}");
}

/// Where miners are paid by steps, luck plays no part. An honest miner earns its fair part up to rounding, a
/// miner with half of the steps earns half of that, and a lone miner earns everything. No part of the emission
/// is lost.
#[test]
fn steps_that_are_paid_leave_nothing_to_luck() {
    let paid = |miners, strategy: Option<Strategy>, seed| {
        let adversaries = strategy.map(|strategy| (strategy, 1)).into_iter().collect();
        run(Config { miners, pay: PayRule::Steps, adversaries, ..config(seed) })
    };
    for seed in 0..3 {
        let report = paid(5, None, seed);
        let amounts: Vec<u64> =
            report.members.iter().filter(|member| member.role == "miner").map(|member| member.micros).collect();
        // 410 ALPHA a window for six windows, to five miners.
        assert!(amounts.iter().all(|amount| amount.abs_diff(492_000_000) < 1_000), "{amounts:?}");
        for (strategy, part) in [(Strategy::HalfSteps, 2), (Strategy::Sybil, 10)] {
            let report = paid(5, Some(strategy), seed);
            let (slow, _) = report.earned(MemberRole::Miner, Some(strategy));
            let (fast, count) = report.earned(MemberRole::Miner, None);
            assert!((slow * part).abs_diff(fast / count as u64) < 10_000, "{slow} and {fast} of {count}");
        }
        let (alone, _) = paid(1, None, seed).earned(MemberRole::Miner, None);
        assert_eq!(alone, 2_460_000_000);
    }
}

#[test]
fn one_validator_is_a_quorum_and_one_miner_a_run() {
    for (miners, validators) in [(1, 1), (3, 1), (1, 2), (20, 3)] {
        run(Config { miners, validators, faults: Faults::Light, ..config(1) });
    }
}

#[test]
fn faults_break_nothing() {
    for faults in [Faults::Light, Faults::Heavy] {
        for seed in 0..25 {
            let report = run(Config { faults, windows: 8, keep_history: seed % 2 == 0, ..config(seed) });
            assert_eq!(report.progress.windows, 8);
        }
    }
}

/// Hosted miners fare like others: none is left out, refused or unpaid under any faults.
#[test]
fn miners_that_share_a_node_are_miners_like_others() {
    for faults in Faults::ALL {
        for seed in 0..4 {
            let adversaries = vec![(Strategy::Noise, 1)];
            let shared =
                Config { miners: 9, hosted: 6, windows: 10, faults, adversaries, pay: PayRule::Steps, ..config(seed) };
            let report = run(shared.clone());
            assert_eq!(report, run(shared), "the seed alone decides");
            let (earned, count) = report.earned(MemberRole::Miner, None);
            assert_eq!(count, 8);
            let fair = earned / count as u64;
            let honest = report.members.iter().filter(|member| member.role == "miner" && member.strategy.is_none());
            for miner in honest {
                // Under faults a contribution may come too late for the cut, which is nobody's fault.
                let fault = miner.noticed.as_ref().filter(|notice| !notice.how.contains("not in the certified cut"));
                assert_eq!((miner.refused, fault), (0, None), "{faults:?}, seed {seed}");
                assert!(faults != Faults::None || miner.noticed.is_none());
                // Under faults a miner may miss a window.
                assert!(miner.micros > fair / 2, "{faults:?}, seed {seed}: {} of {fair}", miner.micros);
                assert!(faults != Faults::None || miner.micros.abs_diff(fair) < 1_000);
            }
        }
    }
}

/// No single adversary stops a run, with faults or without.
#[test]
fn each_strategy_is_played() {
    for &strategy in Strategy::ALL {
        for (faults, replays) in [
            (Faults::None, ReplayMode::Three),
            (Faults::Heavy, ReplayMode::Three),
            (Faults::None, ReplayMode::Late),
            (Faults::Heavy, ReplayMode::Late),
            (Faults::None, ReplayMode::Sparse),
            (Faults::Heavy, ReplayMode::Sparse),
        ] {
            let report = run(Config { adversaries: vec![(strategy, 1)], faults, replays, ..config(7) });
            // Earnings over a few windows are luck; `table.rs` measures them over many.
            assert_eq!(report.earned(strategy.role(), Some(strategy)).1, 1);
            assert_eq!(report.progress.windows, 6);
        }
    }
}

#[test]
fn a_delta_without_training_is_refused_and_unpaid() {
    for strategy in [Strategy::Zeros, Strategy::Noise, Strategy::CopyHash, Strategy::FewerSteps, Strategy::Withhold] {
        let report = run(Config { adversaries: vec![(strategy, 1)], ..config(3) });
        assert_eq!(report.earned(MemberRole::Miner, Some(strategy)), (0, 1), "{}", strategy.name());
        let cheat = report.members.iter().find(|member| member.strategy.is_some()).unwrap();
        // A second mismatch costs the slot.
        let expelled = !matches!(strategy, Strategy::CopyHash | Strategy::Withhold);
        assert_eq!(cheat.refused, if expelled { 2 } else { 6 }, "{}", strategy.name());
        assert_eq!(cheat.noticed.as_ref().map(|notice| notice.window), Some(0));
    }
}

/// A validator that bends what it measures, or makes it up, is found by all in the first window in which another one
/// measured the same. Its score is not counted, so it earns next to nothing, and the honest lose nothing by it.
#[test]
fn losses_that_were_not_measured_are_noticed_and_do_not_pay() {
    for strategy in [Strategy::RandomScores, Strategy::CopyScores] {
        for seed in 0..3 {
            let honest = Config { miners: 6, validators: 7, windows: 14, ..config(seed) };
            let lying = run(Config { adversaries: vec![(strategy, 1)], ..honest.clone() });
            let cheat = lying.members.iter().find(|member| member.strategy.is_some()).unwrap();
            let notice = cheat.noticed.as_ref().expect("it is noticed");
            assert!(notice.window <= 1, "{} with seed {seed}: {notice:?}", strategy.name());
            // In a window in which nothing was drawn for it, it has nothing to lie about.
            let (paid, count) = lying.earned(MemberRole::Validator, None);
            assert!(cheat.micros * 10 < paid / count as u64, "{} with seed {seed}", strategy.name());
            let (with, without) = (lying.earned(MemberRole::Miner, None), run(honest).earned(MemberRole::Miner, None));
            assert!(with.0.abs_diff(without.0) * 1_000 < without.0, "{with:?} and {without:?}");
        }
    }
}

/// Equal honest miners have equal pay but for some luck of the pages, and everything is minted.
#[test]
fn equals_are_paid_alike_by_measured_steps() {
    let report = run(Config { miners: 12, validators: 7, windows: 60, keep_history: false, ..config(1) });
    let (whole, count) = report.earned(MemberRole::Miner, None);
    // 410 ALPHA a window.
    assert!(whole * 1_000 >= 60 * 410_000_000 * 999, "{whole}");
    for miner in report.members.iter().filter(|member| member.role == "miner") {
        let per_mille = miner.micros * 1_000 * count as u64 / whole;
        assert!((950..=1_050).contains(&per_mille), "{per_mille}");
    }
}

/// A copied or made-up match is found by the validators that replayed, in the first window in which its author does not
/// propose the record. The author's score is not counted, and it is paid next to nothing.
#[test]
fn a_match_without_a_replay_is_noticed_and_does_not_pay() {
    for strategy in [Strategy::CopyScores, Strategy::SkipReplays] {
        for seed in 0..3 {
            let adversaries = vec![(strategy, 1)];
            let report = run(Config { miners: 6, validators: 7, windows: 14, adversaries, ..config(seed) });
            let cheat = report.members.iter().find(|member| member.strategy.is_some()).unwrap();
            let notice = cheat.noticed.as_ref().expect("it is noticed");
            let found = notice.how.contains("proof of a replay") || notice.how.contains("did not measure");
            assert!(notice.window <= 1 && found, "{notice:?}");
            // In a window in which nothing was drawn for it, it has nothing to lie about.
            let (honest, count) = report.earned(MemberRole::Validator, None);
            assert!(cheat.micros * 10 < honest / count as u64, "{} with seed {seed}", strategy.name());
        }
    }
}

/// With sampled replays after the close, a miner that cheats in every window is paid at first, then loses all
/// pay and its slot.
#[test]
fn late_verdicts_slash_what_has_not_vested() {
    for strategy in [Strategy::Noise, Strategy::FewerSteps, Strategy::WrongPages] {
        for seed in 0..4 {
            let adversaries = vec![(strategy, 1)];
            let config = Config { validators: 7, windows: 24, replays: ReplayMode::Late, adversaries, ..config(seed) };
            let report = run(config);
            let cheat = report.members.iter().find(|member| member.strategy.is_some()).unwrap();
            let notice = cheat.noticed.as_ref().expect("a fifth of all is drawn by each of seven");
            assert!(notice.how.contains("slashed") && notice.window < 8, "{notice:?}");
            assert_eq!(cheat.micros, 0, "{} with seed {seed}", strategy.name());
        }
    }
}

/// A miner hides nothing by keeping its state: validators that replayed the window before have it. So made-up work is
/// refused, or its pay slashed later. (States that nobody has are for the tests of the protocol; here at least two
/// validators replay each contribution.)
#[test]
fn a_state_that_is_kept_is_no_shield() {
    for strategy in [Strategy::WithholdState, Strategy::KeepState] {
        for seed in 0..4 {
            let adversaries = vec![(strategy, 1)];
            let config = Config { validators: 7, windows: 24, adversaries, ..config(seed) };
            let late = run(Config { replays: ReplayMode::Late, ..config.clone() });
            let keeper = late.members.iter().find(|member| member.strategy.is_some()).unwrap();
            // Keeping a state alone is no offence while a validator has it from the replay of the window before.
            let noticed = keeper.noticed.as_ref().is_some_and(|notice| notice.window < 8);
            let early = run(config);
            let early = early.members.iter().find(|member| member.strategy.is_some()).unwrap();
            if strategy == Strategy::WithholdState {
                assert!(early.refused > 0, "with seed {seed}");
                assert!(noticed, "{:?} with seed {seed}", keeper.noticed);
                assert_eq!(keeper.micros, 0, "with seed {seed}");
            }
        }
    }
}

/// A validator that challenges every contribution it draws costs no honest miner anything: the others find the state.
#[test]
fn a_false_challenge_costs_nobody_anything() {
    for faults in Faults::ALL {
        let adversaries = vec![(Strategy::Challenge, 2)];
        let config = Config { validators: 7, windows: 12, replays: ReplayMode::Late, faults, adversaries, ..config(3) };
        let report = run(config);
        assert!(report.invariants["a challenge is over in time"] > 5, "{:?}", report.invariants);
        assert!(report.members.iter().all(|member| member.role == "validator" || member.noticed.is_none()));
    }
}

/// With one replay of each contribution, a validator that fails after its reveal leaves honest work unpaid. With three
/// replays it does not.
#[test]
fn an_outage_leaves_nothing_unreplayed_where_others_replay_it_too() {
    let unreplayed = |replays| {
        let adversaries = vec![(Strategy::NoScore, 1)];
        run(Config { validators: 7, windows: 8, replays, adversaries, ..config(1) }).unreplayed
    };
    assert!(unreplayed(ReplayMode::One) > 0);
    assert_eq!(unreplayed(ReplayMode::Three), 0);
}

/// A miner plants a trigger in single windows. Each is found where every contribution is replayed before the
/// record. Where nobody replays some contributions, some plants stay, and honest windows continue from them. In
/// the end the miner loses its slot, and it has earned less than an honest one.
#[test]
fn planting_in_single_windows_is_found_where_all_are_replayed_and_does_not_pay_where_some_are_not() {
    let adversaries = vec![(Strategy::Plant, 1)];
    let planted = |replays| {
        let (mut all, mut own, mut fair) = (Planted::default(), 0, 0);
        for seed in 0..6 {
            let adversaries = adversaries.clone();
            let report =
                run(Config { validators: 7, windows: 40, replays, adversaries, keep_history: false, ..config(seed) });
            let planter = report.members.iter().find(|member| member.strategy.is_some()).unwrap();
            let (honest, count) = report.earned(MemberRole::Miner, None);
            own += planter.micros;
            fair += honest / count as u64;
            all = all.and(&report.planted);
        }
        assert!(own < fair, "{replays:?}: {own} of {fair}");
        all
    };
    let three = planted(ReplayMode::Three);
    assert!(three.sent > 6 && three.seen == three.sent && three.aggregated == 0, "{three:?}");
    let sparse = planted(ReplayMode::Sparse);
    assert!(sparse.seen < sparse.sent && sparse.carried > 0 && sparse.matched > 0, "{sparse:?}");
}

/// Validators that grind the seed for a cheating miner gain nothing by withholding. What another validator
/// draws by chance follows from its own value alone. And a bought validator must release its value to take a
/// place among the drawn.
#[test]
fn grinding_the_seed_gives_no_reason_to_withhold() {
    let withheld = |replays| -> u64 {
        let of_one = |seed| {
            let adversaries = vec![(Strategy::FewerSteps, 1), (Strategy::Grind, 2)];
            let report =
                run(Config { validators: 7, windows: 12, replays, adversaries, keep_history: false, ..config(seed) });
            report.members.iter().map(|member| member.unrevealed).sum::<u64>()
        };
        (0..4).map(of_one).sum()
    };
    assert_eq!(withheld(ReplayMode::Three), 0);
    assert_eq!(withheld(ReplayMode::Late), 0);
    assert_eq!(withheld(ReplayMode::Sparse), 0);
}

/// Two friends of seven have less than a third of the stake and add nothing to the cut. Three have more than a
/// third and add what they like.
#[test]
fn a_late_commitment_needs_a_third_of_the_stake() {
    // Whether the late miner is paid, whether anybody noticed it, and whether honest miners are paid.
    let late = |seed, friends| {
        let adversaries = vec![(Strategy::Late, 1), (Strategy::Friend, friends)];
        let report = run(Config { validators: 7, windows: 8, adversaries, ..config(seed) });
        let late = report.members.iter().find(|member| member.strategy == Some("late")).unwrap();
        (late.micros > 0, late.noticed.is_some(), report.earned(MemberRole::Miner, None).0 > 0)
    };
    for friends in [1, 2] {
        for seed in 0..3 {
            assert!(!late(seed, friends).0, "seed {seed}, {friends} friends");
        }
    }
    // Who is paid by ranks is partly luck, so with three friends the late miner is paid under some seed, not under
    // each.
    let with_three = [0, 1, 2, 3, 4, 5].map(|seed| late(seed, 3));
    assert!(with_three.iter().any(|(is_paid, ..)| *is_paid), "{with_three:?}");
    assert!(with_three.iter().all(|(_, is_noticed, honest)| !is_noticed && *honest), "{with_three:?}");
    let third = Config { validators: 7, adversaries: vec![(Strategy::Friend, 3)], ..config(0) };
    let refused = SimConfigError::AThird { adversaries: 3, validators: 7, stake: 3, total: 7 };
    assert_eq!(third.check(), Err(refused));
}

#[test]
fn a_seed_replays_a_run_exactly_whatever_else_the_process_does() {
    let configs: Vec<Config> = (0..6)
        .map(|seed| Config {
            faults: Faults::Heavy,
            adversaries: vec![(Strategy::TwoContributions, 1), (Strategy::Equivocate, 1)],
            ..config(seed)
        })
        .collect();
    let alone: Vec<Report> = configs.iter().cloned().map(run).collect();
    let together: Vec<Report> = std::thread::scope(|scope| {
        let running: Vec<_> = configs.iter().map(|config| scope.spawn(|| run(config.clone()))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    assert!(alone.windows(2).all(|pair| pair[0].state != pair[1].state));
}

#[test]
fn history_changes_no_result() {
    let with = run(Config { faults: Faults::Light, ..config(9) });
    let without = run(Config { faults: Faults::Light, keep_history: false, ..config(9) });
    assert_eq!(with, without);
}

/// The checks find a fork. The only validator, which is no minority, signs two records. The nodes that accept
/// them close different records, and the first node that closes the other one is reported.
#[test]
fn a_fork_is_found() {
    let forked = Config { validators: 1, adversaries: vec![(Strategy::ForkRecords, 1)], ..config(0) };
    let refused = SimConfigError::AThird { adversaries: 1, validators: 1, stake: 1, total: 1 };
    assert_eq!(forked.check(), Err(refused));
    let violation = tried(forked).unwrap_err();
    assert_eq!(violation.invariant, "all close the same record");
    assert!(violation.command.contains("--seed 0 --faults none --adversary fork-records:1"), "{}", violation.command);
    // Below a third of the stake it changes nothing.
    run(Config { adversaries: vec![(Strategy::ForkRecords, 1)], ..config(0) });
}

#[test]
fn impossible_configurations_are_refused() {
    let range = |config: Config| matches!(Simulation::new(config).err(), Some(SimConfigError::Range { .. }));
    assert!(range(Config { miners: 0, ..config(0) }));
    assert!(range(Config { validators: 5000, ..config(0) }));
    assert!(range(Config { windows: 1 << 20, ..config(0) }));
    let many = Config { adversaries: vec![(Strategy::Noise, 4), (Strategy::Nan, 2)], ..config(0) };
    assert_eq!(many.check(), Err(SimConfigError::TooMany { role: "miners", wanted: 6, there: 5 }));
    let homeless = Config { hosted: 4, adversaries: vec![(Strategy::Noise, 1)], ..config(0) };
    assert_eq!(homeless.check(), Err(SimConfigError::NoHost { hosted: 4, miners: 5 }));
    assert!(Config { hosted: 3, ..homeless }.check().is_ok());
    let third = Config { validators: 3, adversaries: vec![(Strategy::Favour, 1)], ..config(0) };
    let refused = SimConfigError::AThird { adversaries: 1, validators: 3, stake: 1, total: 3 };
    assert_eq!(third.check(), Err(refused));
}

type Played = Vec<(Strategy, u32)>;

/// The rows of these casts, computed in eight threads. The result is the same as in one thread.
fn rows_of(casts: &[Played], baseline: &table::Baseline) -> Vec<table::AttackRow> {
    let lanes = 8;
    std::thread::scope(|scope| {
        let lane = |casts: &'_ [Played]| casts.iter().map(|cast| table::row_of(cast, baseline)).collect::<Vec<_>>();
        let chunks = casts.chunks(casts.len().div_ceil(lanes));
        let running: Vec<_> = chunks.map(|casts| scope.spawn(move || lane(casts))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Prints the rows of strategies that are played together, as `templar sim --attacks --together` prints one.
#[test]
#[ignore = "prints a table"]
fn print_strategies_played_together() {
    let late: Vec<Played> = (1..=3).map(|friends| vec![(Strategy::Late, 1), (Strategy::Friend, friends)]).collect();
    let ground = |miner| {
        (0..=2).map(move |grinders| {
            let helpers = (grinders > 0).then_some((Strategy::Grind, grinders));
            [(miner, 1)].into_iter().chain(helpers).collect()
        })
    };
    let ground: Vec<Played> = ground(Strategy::FewerSteps).chain(ground(Strategy::GrindSteps)).collect();
    for (replays, casts) in [
        (ReplayMode::Three, late),
        (ReplayMode::Three, ground.clone()),
        (ReplayMode::Late, ground.clone()),
        (ReplayMode::Sparse, ground),
    ] {
        let rows = rows_of(&casts, &table::Baseline::new(replays, PayRule::Measured).unwrap());
        println!("--replays {}\n{}", replays.name(), table::markdown_together(&rows));
    }
}

/// Prints the rows of `plant` in runs of eighty windows, for each replay mode.
#[test]
#[ignore = "prints a table"]
fn print_planted_triggers() {
    let row = |replays| {
        (replays, table::row(Strategy::Plant, &table::Baseline::over(replays, PayRule::Measured, 80).unwrap()))
    };
    let rows: Vec<(ReplayMode, table::AttackRow)> = std::thread::scope(|scope| {
        let lanes =
            [ReplayMode::Three, ReplayMode::Late, ReplayMode::Sparse].map(|replays| scope.spawn(move || row(replays)));
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    println!("{}", table::markdown_planted(&rows));
    for (replays, row) in &rows {
        println!("{}: {:?}", replays.name(), row.noticed);
    }
}

/// Prints what `templar sim --attacks` prints, without building the program, and some rows again with other
/// replay modes.
#[test]
#[ignore = "prints the attack table"]
#[expect(clippy::disallowed_methods, reason = "the environment may name the rows to print")]
fn print_the_attack_table() {
    let only = std::env::var("STRATEGIES").unwrap_or_default();
    let only: Vec<&str> = only.split_whitespace().collect();
    let outages = [Strategy::NoScore, Strategy::Accuse, Strategy::WithholdReveal];
    let cheats = [
        Strategy::Noise,
        Strategy::Stale,
        Strategy::CopyAfterCut,
        Strategy::WrongPages,
        Strategy::FewerSteps,
        Strategy::Scale,
        Strategy::SignFlip,
        Strategy::BadState,
        Strategy::CopyScores,
        Strategy::SkipReplays,
        Strategy::Accuse,
    ];
    for (replays, pay, strategies) in [
        (ReplayMode::Three, PayRule::Measured, Strategy::ALL),
        (ReplayMode::One, PayRule::Measured, &outages[..]),
        (ReplayMode::Late, PayRule::Measured, &cheats[..]),
        (ReplayMode::Three, PayRule::Ranks, Strategy::ALL),
    ] {
        let is_wanted = |strategy: &&Strategy| only.is_empty() || only.contains(&strategy.name());
        let casts: Vec<Played> = strategies.iter().filter(is_wanted).map(|strategy| vec![(*strategy, 1)]).collect();
        if casts.is_empty() {
            continue;
        }
        let baseline = table::Baseline::new(replays, pay).unwrap();
        let rows = rows_of(&casts, &baseline);
        println!("--replays {} --pay {}\n{}", replays.name(), pay.name(), table::markdown(&rows));
        for role in [MemberRole::Miner, MemberRole::Validator] {
            println!("an honest {role:?}, per mille of the mean of its role in each seed: {:?}", baseline.luck(role));
        }
    }
}

/// The long form of the tests above. `.ci/long sim` runs ten thousand seeds through the program.
#[test]
#[ignore = "takes minutes"]
fn hundreds_of_seeds_with_cheats_and_faults() {
    let (miners, validators): (Vec<Strategy>, Vec<Strategy>) =
        Strategy::ALL.iter().copied().partition(|strategy| strategy.role() == MemberRole::Miner);
    for seed in 0..600u64 {
        let pick = |of: &[Strategy], stride: u64| of[(seed * stride % of.len() as u64) as usize];
        let adversaries = vec![(pick(&miners, 1), 1), (pick(&miners, 5), 1), (pick(&validators, 1), 1)];
        let adversaries = if seed % 3 == 0 { Vec::new() } else { adversaries };
        run(Config { faults: Faults::Heavy, adversaries, ..config(1000 + seed) });
    }
}

/// The measurement of BENCH.md. A few windows show the cost of one, and that memory does not grow.
#[test]
#[ignore = "for a clock"]
fn windows_of_250_miners_and_20_validators() {
    for (hosted, windows) in [(0, 4), (240, 40)] {
        let config = Config { miners: 250, hosted, validators: 20, windows, keep_history: false, ..config(1) };
        #[expect(clippy::disallowed_methods, reason = "for a clock")]
        let started = std::time::Instant::now();
        let report = run(config);
        println!(
            "{hosted} hosted: {:.3} s a window; {:?}",
            started.elapsed().as_secs_f64() / windows as f64,
            report.progress
        );
    }
}

/// Miners that genesis does not know join, lose their slots to others and come back, with faults and without.
/// The ledger accounts for what they burn for a slot.
#[test]
fn newcomers_join_and_leave_under_every_fault() {
    let (mut joined, mut replaced) = (0, 0);
    for faults in Faults::ALL {
        for seed in 0..8 {
            let report = run(Config { newcomers: 6, windows: 16, faults, keep_history: seed % 2 == 0, ..config(seed) });
            assert!(report.joined >= 3, "{faults:?} {seed}: the three free slots are taken");
            joined += report.joined;
            replaced += report.replaced;
        }
    }
    assert!(replaced > 24 && joined > replaced, "{joined} joined, {replaced} of them in another's place");
}

/// A flood of registrations takes the slots that its proofs of work pay for and no more; members past their
/// immunity that earn nothing make room first. A flood that pays nothing takes no slot.
#[test]
fn a_flood_of_registrations_is_paid_for_or_nothing() {
    let flood = |strategy, faults| {
        let adversaries = vec![(strategy, 1)];
        run(Config { newcomers: 4, windows: 16, faults, adversaries, keep_history: false, ..config(11) })
    };
    for faults in Faults::ALL {
        let paid = flood(Strategy::Enrol, faults);
        // At most two registrations with proof of work count in a window.
        assert!((1..=2 * 16).contains(&paid.strangers), "{faults:?}: {}", paid.strangers);
        let free = flood(Strategy::EnrolFree, faults);
        assert_eq!(free.strangers, 0, "{faults:?}");
        assert!(free.joined >= 2, "{faults:?}: newcomers that pay are not kept out");
    }
}
