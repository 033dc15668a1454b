//! From scores to a row of weights, by the rule of genesis. All numbers are integers, and the order of keys
//! gives nobody an advantage.
//!
//! **Rank ramp** is Covenant-72B's rule: a linear ramp over the best miners, then a geometric tail that is
//! never above half of the ramp's last place. It ignores by how much a miner is better, which keeps measurement
//! noise out of the pay. Its weakness: ten places pay nearly ten times as much as one, so a worker under ten
//! keys earns ten times as much unless something else stops it.
//!
//! **Score power** pays in proportion to a power of the score, 2 in the Gauntlet paper. A miner that splits its
//! score into k equal ones earns a k-th of what it would earn whole, and one that is twice as good earns four
//! times as much.
//!
//! **Proven steps** pays in proportion to the optimiser steps that replay proves, and measures nothing. Where
//! every contribution is replayed to the bit, a score depends on the luck of the miner's pages and on its
//! number of steps, and only the steps are its own choice. The rule has these consequences:
//!
//! * Slow hardware is paid for the steps that it did, and a miner without competitors is paid as well.
//! * One worker under ten keys earns as much as under one.
//! * All honest validators have the same row, however many miners there are. By contrast, ranks of many equal
//!   miners are luck. Validators with different pages disagree about them, and weight on which they do not
//!   agree is not minted (ATTACKS.md has the figures).
//! * Validators earn by replays, which they prove, and not by losses, which they could make up.
//! * Nothing is selected by score: every accepted contribution is aggregated, so a run may have no more slots
//!   than `outer.max_contributions`.

use templar_manifest::{PublicKey, Weight, WeightRule};

use crate::ledger::consensus::ONE_PPM;

/// The factor from ppm to parts of 1e18.
const PARTS_OF_PPM: u128 = 1_000_000_000_000;
const WHOLE: u128 = PARTS_OF_PPM * ONE_PPM as u128;
/// One, in the fixed-point unit of scores relative to the best, before a power is taken.
const POWER_UNIT: u128 = 1_000_000_000;

/// The row for these miners and scores, sorted by miner. `steps` gives the steps that a miner's contribution
/// claims. Scores, steps and weights of zero are left out.
pub(crate) fn row(
    rule: &WeightRule,
    scores: impl IntoIterator<Item = (PublicKey, u64)>,
    steps: impl Fn(&PublicKey) -> u32,
) -> Vec<Weight> {
    let merit = |miner: &PublicKey, score| match rule {
        WeightRule::ProvenSteps => u64::from(steps(miner)),
        WeightRule::RankRamp { .. } | WeightRule::ScorePower { .. } => score,
    };
    let merits = scores.into_iter().map(|(miner, score)| (miner, merit(&miner, score)));
    let mut merits: Vec<(PublicKey, u64)> = merits.filter(|(_, merit)| *merit > 0).collect();
    merits.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let parts = match *rule {
        WeightRule::RankRamp { .. } => shared(&merits, &ramp(rule, merits.len())),
        WeightRule::ScorePower { exponent } => powers(&merits, exponent),
        WeightRule::ProvenSteps => merits.iter().map(|(_, steps)| u128::from(*steps)).collect(),
    };
    let whole: u128 = parts.iter().sum();
    let mut row: Vec<Weight> = merits
        .iter()
        .zip(parts)
        .map(|((miner, _), part)| Weight { miner: *miner, weight_ppm: (part * u128::from(ONE_PPM) / whole) as u32 })
        .filter(|weight| weight.weight_ppm > 0)
        .collect();
    row.sort_unstable_by_key(|weight| weight.miner);
    row
}

/// Gives equal scores equal parts: the sum of their places' parts divided by their number, rounded down.
fn shared(scores: &[(PublicKey, u64)], places: &[u128]) -> Vec<u128> {
    let mut parts = Vec::with_capacity(scores.len());
    for equal in scores.chunk_by(|a, b| a.1 == b.1) {
        let from = parts.len();
        let sum: u128 = places.iter().skip(from).take(equal.len()).sum();
        parts.resize(from + equal.len(), sum / equal.len() as u128);
    }
    parts
}

/// The part of each place in units of 1e-18, together at most 1. `manifests/README.md` has the formula.
fn ramp(rule: &WeightRule, ranked: usize) -> Vec<u128> {
    let WeightRule::RankRamp { places, tail_places, ramp_share_ppm, top_ratio_ppm, tail_decay_ppm } = *rule else {
        return Vec::new();
    };
    let count = ranked.min(places as usize);
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let (top, one) = (u128::from(top_ratio_ppm), u128::from(ONE_PPM));
    // From top_ratio down to 1 in equal steps, times `last` so that they are whole.
    let steps: Vec<u128> = match last {
        0 => vec![1],
        last => (0..=last as u128).map(|place| top * last as u128 - place * (top - one)).collect(),
    };
    let sum: u128 = steps.iter().sum();
    let share = u128::from(ramp_share_ppm) * PARTS_OF_PPM;
    let mut found: Vec<u128> = steps.into_iter().map(|step| share * step / sum).collect();
    let tail = (ranked - count).min(tail_places as usize);
    if tail > 0 {
        let mut powers = vec![WHOLE];
        while powers.len() < tail {
            powers.push(powers[powers.len() - 1] * u128::from(tail_decay_ppm) / one);
        }
        let sum: u128 = powers.iter().sum();
        let mut parts: Vec<u128> = powers.into_iter().map(|power| (WHOLE - share) * power / sum).collect();
        let (first, most) = (parts[0], found[last] / 2);
        if first > most {
            parts.iter_mut().for_each(|part| *part = *part * most / first);
        }
        found.extend(parts);
    }
    found
}

/// Each score as a fraction of the best, raised to `exponent`.
fn powers(scores: &[(PublicKey, u64)], exponent: u32) -> Vec<u128> {
    let best = scores.first().map_or(1, |(_, score)| u128::from(*score));
    // At most 1e27 each, and at most 4,096 of them.
    scores.iter().map(|(_, score)| (POWER_UNIT * u128::from(*score) / best).pow(exponent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_manifest::GauntletSpec;

    fn key(number: usize) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    fn original(places: u32, tail_places: u32) -> WeightRule {
        let share = (750_000, 2_000_000, 500_000);
        let (ramp_share_ppm, top_ratio_ppm, tail_decay_ppm) = share;
        WeightRule::RankRamp { places, tail_places, ramp_share_ppm, top_ratio_ppm, tail_decay_ppm }
    }

    fn by_rank(rule: &WeightRule, count: usize) -> Vec<u32> {
        let scores = (0..count).map(|index| (key(index), 1_000_000 - index as u64));
        row(rule, scores, |_| 1).into_iter().map(|weight| weight.weight_ppm).collect()
    }

    /// The original burns half and shares the other half; a row of ours shares all.
    #[test]
    fn ranks_weigh_what_they_weighed_in_the_original() {
        let halves = |rule: WeightRule, count| {
            by_rank(&rule, count).into_iter().map(|ppm| f64::from(ppm) / 2e6).collect::<Vec<_>>()
        };
        let near = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1.01e-6, "{found} is not {expected}");
            }
        };
        near(&halves(original(20, 10), 1), &[0.5]);
        near(&halves(original(20, 10), 2), &[0.333_333, 0.166_667]);
        near(&halves(original(4, 2), 6), &[0.148_148, 0.123_457, 0.098_765, 0.074_074, 0.037_037, 0.018_519]);
        let all = halves(original(20, 10), 30);
        near(&[all[0], all[19]], &[0.032_259, 0.016_130]);
        near(&all[20..24], &[0.008_065, 0.004_032, 0.002_016, 0.001_008]);
        // Behind the last place nothing is paid, and the customary rule is this one.
        assert_eq!(by_rank(&original(20, 10), 40).len(), 30);
        assert_eq!(GauntletSpec::customary().weights, original(20, 10));
    }

    #[test]
    fn equal_scores_weigh_the_same_and_no_score_weighs_nothing() {
        let scores = |scores: &[u64]| scores.iter().enumerate().map(|(i, s)| (key(i), *s)).collect::<Vec<_>>();
        let weights = |rule: &WeightRule, of: &[u64]| {
            row(rule, scores(of), |_| 1).iter().map(|weight| weight.weight_ppm).collect::<Vec<_>>()
        };
        assert_eq!(weights(&original(2, 1), &[5, 5, 0]), [500_000, 500_000]);
        // Three share the two places of the ramp and the one of the tail.
        assert_eq!(weights(&original(2, 1), &[5, 5, 5, 1]), [333_333; 3]);
        assert_eq!(weights(&original(2, 1), &[0, 0]), Vec::<u32>::new());
        let square = WeightRule::ScorePower { exponent: 2 };
        assert_eq!(weights(&square, &[2, 1, 0]), [800_000, 200_000]);
        // One worker under two keys: half the score each, half the pay in all.
        assert_eq!(weights(&square, &[6, 6]), [500_000; 2]);
        assert_eq!(weights(&square, &[6, 3, 3]), [666_666, 166_666, 166_666]);
    }

    /// A miner with a tenth of the steps has a tenth of the pay, under one key or ten, for any scores.
    #[test]
    fn proven_steps_are_paid_in_proportion_whatever_the_score() {
        let weights = |steps: &[u32]| {
            let scores = steps.iter().enumerate().map(|(i, _)| (key(i), i as u64 % 3));
            let of = |miner: &PublicKey| (0..steps.len()).find(|i| key(*i) == *miner).map_or(0, |i| steps[i]);
            row(&WeightRule::ProvenSteps, scores, of).iter().map(|weight| weight.weight_ppm).collect::<Vec<_>>()
        };
        assert_eq!(weights(&[3]), [1_000_000]);
        assert_eq!(weights(&[10, 10, 5]), [400_000, 400_000, 200_000]);
        assert_eq!(weights(&[10, 0, 10]), [500_000, 500_000]);
        let split = weights(&[10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(split[0], 500_000);
        assert_eq!(split[1..].iter().sum::<u32>(), 500_000);
    }

    proptest! {
        #[test]
        fn a_row_adds_up_and_follows_the_scores(
            scores in prop::collection::vec(0u64..=9_000_000_000_000_000, 0..60),
            places in 1u32..30,
            tail_places in 0u32..20,
            exponent in 1u32..=3,
            kind in 0u8..3,
        ) {
            let rule = match kind {
                0 => original(places, tail_places),
                1 => WeightRule::ScorePower { exponent },
                _ => WeightRule::ProvenSteps,
            };
            // Steps that follow the scores.
            let steps = |miner: &PublicKey| {
                let score = scores.iter().enumerate().find(|(i, _)| key(*i) == *miner).map_or(0, |(_, score)| *score);
                (score / 9_000_000_000) as u32
            };
            let listed: Vec<(PublicKey, u64)> = scores.iter().enumerate().map(|(i, s)| (key(i), *s)).collect();
            let row = row(&rule, listed.clone(), steps);
            let mut reversed = listed.clone();
            reversed.reverse();
            prop_assert_eq!(&super::row(&rule, reversed, steps), &row);
            prop_assert!(row.iter().map(|weight| u64::from(weight.weight_ppm)).sum::<u64>() <= ONE_PPM);
            let weight = |miner: &PublicKey| {
                row.iter().find(|weight| weight.miner == *miner).map_or(0, |weight| weight.weight_ppm)
            };
            for (a, first) in &listed {
                for (b, second) in &listed {
                    if first >= second {
                        prop_assert!(weight(a) >= weight(b));
                    }
                }
            }
        }
    }
}
