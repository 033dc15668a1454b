//! The inequality, at its edges.

use super::*;
use crate::id::Hash;
use crate::key::PublicKey;

fn validators(stakes: &[u64]) -> Vec<ValidatorSpec> {
    let validator = |(number, &stake): (usize, &u64)| ValidatorSpec {
        key: PublicKey::from_bytes([number as u8; 32]),
        stake,
        chain_anchor: Hash::default(),
    };
    stakes.iter().enumerate().map(validator).collect()
}

fn emission(vesting_windows: u64, registration_cost_micros: u64) -> EmissionSpec {
    EmissionSpec {
        per_window_micros: 1_000_000,
        target_steps: 1,
        miners_ppm: 500_000,
        validators_ppm: 300_000,
        treasury_ppm: 200_000,
        replays_ppm: 500_000,
        vesting_windows,
        registration_cost_micros,
    }
}

fn sampled(fraction_ppm: u32, verdict_windows: u64, expulsion_windows: u64) -> ReplaySpec {
    let (before_close, least_replays, challenge_windows) = (false, 0, 1);
    ReplaySpec {
        before_close,
        fraction_ppm,
        least_replays,
        verdict_windows,
        challenge_windows,
        expulsion_windows,
        ..ReplaySpec::whole()
    }
}

/// One validator that draws every second contribution: s = p = 1/2, so that all numbers are whole. r = 500,000,
/// K = 4, T = 2, one of it for a challenge, X = 1: r · s² / p = 250,000, and a slot is caught 2 + (1/2)/(1/2) =
/// 3 times.
#[test]
fn the_edge_is_where_the_formula_puts_it() {
    let (spec, one) = (sampled(500_000, 1, 1), validators(&[7]));
    assert_eq!(spec.least_registration_cost(&emission(4, 0), &one), Some(750_000));
    assert_eq!(spec.check(&emission(4, 750_000), &one), Ok(()));
    let refused = spec.check(&emission(4, 749_999), &one).unwrap_err();
    assert!(refused.starts_with("emission.registration_cost_micros 749999 is below 750000"), "{refused}");
    // One window more of vesting halves it; ten windows more between two mismatches leave hardly a third life.
    assert_eq!(spec.least_registration_cost(&emission(5, 0), &one), Some(375_000));
    assert_eq!(sampled(500_000, 1, 11).least_registration_cost(&emission(4, 0), &one), Some(500_000 + 123));
}

#[test]
fn what_is_always_seen_costs_nothing_and_what_never_is_has_no_price() {
    let one = validators(&[1]);
    assert_eq!(ReplaySpec::whole().least_registration_cost(&emission(0, 0), &one), Some(0));
    let never = "replay: no registration cost is enough";
    for spec in [sampled(0, 1, 9), sampled(999_999, 1, 0)] {
        let refused = spec.check(&emission(4, u64::MAX), &one).unwrap_err();
        assert!(refused.starts_with(never), "{refused}");
    }
}

/// Faulty are as many as can hold less than a third of the stake. With more replays than those are, one is honest.
#[test]
fn more_replays_than_there_can_be_faulty_are_enough() {
    let least = |least_replays, stakes: &[u64]| {
        let spec = ReplaySpec { fraction_ppm: 0, least_replays, ..ReplaySpec::whole() };
        spec.least_registration_cost(&emission(0, 0), &validators(stakes))
    };
    for stakes in [&[1][..], &[1, 1], &[1, 1, 1]] {
        assert_eq!(least(1, stakes), Some(0), "{stakes:?}");
    }
    assert_ne!(least(1, &[1; 4]), Some(0));
    assert_eq!(least(2, &[1; 4]), Some(0));
    assert_ne!(least(2, &[1; 7]), Some(0));
    assert_eq!(least(3, &[1; 7]), Some(0));
    // Three small ones hold less than a third together.
    assert_ne!(least(3, &[1, 1, 1, 9]), Some(0));
    assert_eq!(least(4, &[1, 1, 1, 9]), Some(0));
}

/// The probability that the first `count` places fall to validators of a set, by all orders in which they can.
fn alone(stakes: &[u64], faulty: usize, count: u32) -> f64 {
    let of = |set: usize| (0..stakes.len()).filter(move |place| set >> place & 1 == 1);
    let stake_of = |set: usize| of(set).map(|place| stakes[place]).sum::<u64>() as f64;
    let whole = stake_of((1 << stakes.len()) - 1);
    // The probability that exactly a set is drawn first.
    let mut first = vec![0.0; 1 << stakes.len()];
    first[0] = 1.0;
    for set in 1..first.len() {
        let before = |place: usize| set & !(1 << place);
        let by_last = |place| first[before(place)] * stakes[place] as f64 / (whole - stake_of(before(place)));
        first[set] = of(set).map(by_last).sum();
    }
    let sets = (0..first.len()).filter(|set| set & !faulty == 0 && set.count_ones() == count);
    sets.map(|set| first[set]).sum()
}

/// The highest such probability of all sets with less than a third of the stake.
fn worst(stakes: &[u64], count: u32) -> f64 {
    let whole: u64 = stakes.iter().sum();
    let stake_of = |set: usize| (0..stakes.len()).filter(move |place| set >> place & 1 == 1).map(|place| stakes[place]);
    let faulty = (0..1usize << stakes.len()).filter(|set| stake_of(*set).sum::<u64>() * 3 < whole);
    faulty.map(|set| alone(stakes, set, count)).fold(0.0, f64::max)
}

/// All lists of so many stakes from 1 to `most`, ascending.
fn all_stakes(count: usize, most: u64) -> Vec<Vec<u64>> {
    let mut lists = vec![Vec::new()];
    for _ in 0..count {
        let longer = |list: &Vec<u64>| {
            let (from, list) = (list.last().copied().unwrap_or(1), list.clone());
            (from..=most).map(move |stake| [&list[..], &[stake]].concat())
        };
        lists = lists.iter().flat_map(longer).collect();
    }
    lists
}

/// Against every set of less than a third of the stake, for every list of few and small stakes: the bound holds, it is 0
/// exactly where the truth is, and with equal stakes it is the truth.
#[test]
fn no_faulty_set_is_alone_more_often_than_the_bound_says() {
    let mut widest: f64 = 1.0;
    for (count, most) in [(1, 4), (2, 4), (3, 6), (4, 6), (5, 5), (6, 4), (7, 3)] {
        for stakes in all_stakes(count, most) {
            for places in 1..=4 {
                let bound = ReplaySpec::alone(places, &validators(&stakes)) as f64 / WHOLE as f64;
                let (truth, cube) = (worst(&stakes, places), 1.0 / power(3.0, u64::from(places)));
                assert!(truth <= bound * (1.0 + 1e-9), "{stakes:?} {places}: {truth} is above {bound}");
                assert!(bound < cube, "{stakes:?} {places}: {bound}");
                assert_eq!(bound == 0.0, truth == 0.0, "{stakes:?} {places}");
                if stakes[0] == stakes[count - 1] {
                    assert!((bound - truth).abs() < 1e-12, "{stakes:?} {places}: {bound}, not {truth}");
                }
                widest = if truth > 0.0 { widest.max(bound / truth) } else { widest };
            }
        }
    }
    println!("the bound is at most {widest:.2} times the truth");
    // Four of seven heads with a seventh of the stake.
    let few_large = [8, 1, 8, 1, 8, 1, 1];
    assert!((alone(&few_large, 0b110_1010, 3) - 24.0 / 19_656.0).abs() < 1e-12);
    assert!(worst(&few_large, 3) < 0.004 && ReplaySpec::alone(3, &validators(&few_large)) > 0);
    assert_eq!(ReplaySpec::alone(5, &validators(&few_large)), 0);
}

/// The largest stakes that a genesis may have are counted without overflow, and more places than validators are seen.
#[test]
fn the_bound_of_huge_stakes_is_below_a_third_for_each_place() {
    for stakes in [&[1 << 48; 7][..], &[1, 1 << 47, 1 << 47, (1 << 48) - 1, 1 << 48, 1 << 48, 1 << 48]] {
        let all = validators(stakes);
        let most = ReplaySpec::most_faulty(&all) as u32;
        for places in 0..9 {
            let (bound, cube) = (ReplaySpec::alone(places, &all), power(3.0, u64::from(places)));
            assert!(bound as f64 / WHOLE as f64 <= 1.0 / cube, "{places}: {bound}");
            assert_eq!(bound == 0, places > most, "{places}");
        }
    }
    let twos = ReplaySpec::alone(2, &validators(&[1 << 48; 7]));
    assert_eq!(twos, (WHOLE * 2).div_ceil(7).div_ceil(6));
}

#[test]
fn every_field_is_bounded_by_name() {
    let refused = |change: &dyn Fn(&mut ReplaySpec)| {
        let mut spec = ReplaySpec::whole();
        change(&mut spec);
        spec.check(&emission(4, u64::MAX), &validators(&[1])).unwrap_err()
    };
    let cases = [
        (refused(&|spec| spec.fraction_ppm = 1_000_001), "replay.fraction_ppm is above"),
        (refused(&|spec| spec.absence_ppm = 1_000_001), "replay.absence_ppm is above"),
        (refused(&|spec| spec.least_replays = 0), "replay.least_replays is zero"),
        (refused(&|spec| spec.least_replays = 1025), "replay.least_replays 1025 is above"),
        (refused(&|spec| spec.before_close = false), "replay.verdict_windows is 0 exactly"),
        (refused(&|spec| spec.verdict_windows = 1), "replay.verdict_windows is 0 exactly"),
        (refused(&|spec| spec.expulsion_windows = 1025), "replay.expulsion_windows 1025 is above"),
        (refused(&|spec| spec.challenge_windows = 1), "replay.challenge_windows is 0 exactly"),
        (
            refused(&|spec| (spec.before_close, spec.verdict_windows) = (false, 1)),
            "replay.challenge_windows is 0 exactly",
        ),
        (
            refused(&|spec| (spec.before_close, spec.verdict_windows, spec.challenge_windows) = (false, 1, 1025)),
            "replay.challenge_windows 1025 is above",
        ),
        (
            refused(&|spec| (spec.before_close, spec.verdict_windows, spec.challenge_windows) = (false, 2, 2)),
            "replay.verdict_windows and replay.challenge_windows are together not below emission.vesting_windows",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.starts_with(expected), "{found:?}, not {expected:?}");
    }
}

fn power(base: f64, exponent: u64) -> f64 {
    (0..exponent).map(|_| base).product()
}

/// Never less than the formula in floats, and hardly more.
#[test]
fn the_bound_is_the_formula() {
    for fraction_ppm in (10_000..1_000_000).step_by(90_000) {
        for count in 1..9usize {
            for (vesting, expulsion) in [(2, 1), (3, 7), (8, 40), (39, 300), (200, 1000)] {
                let (spec, all) = (sampled(fraction_ppm, 1, expulsion), validators(&vec![3; count]));
                let honest = count - (count - 1) / 3;
                let s = power(1.0 - f64::from(fraction_ppm) / 1e6, honest as u64);
                let quiet = power(s, expulsion);
                let lives = 2.0 + quiet / (1.0 - quiet);
                let formula = 500_000.0 * power(s, vesting - 2) / (1.0 - s) * lives;
                let found = spec.least_registration_cost(&emission(vesting, 0), &all).unwrap() as f64;
                let (low, high) = (formula * (1.0 - 1e-9), formula * (1.0 + 1e-9) + lives + 2.0);
                assert!(
                    (low..=high).contains(&found),
                    "{found} for {formula}: {fraction_ppm} {count} {vesting} {expulsion}"
                );
            }
        }
    }
}
