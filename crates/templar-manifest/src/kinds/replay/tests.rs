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
