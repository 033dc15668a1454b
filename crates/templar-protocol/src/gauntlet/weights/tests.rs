//! The weights of each rule, by hand and for any scores.

use super::*;
use proptest::prelude::*;

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

fn miner(number: usize, score_picos: u64, steps: u32, factor_nanos: u64) -> Payable {
    Payable { miner: key(number), score_picos, steps, factor_nanos }
}

fn ppm(rule: &WeightRule, payable: &[Payable]) -> Vec<u32> {
    weights(rule, 10, payable).iter().map(|weight| weight.weight_ppm).collect()
}

fn by_score(rule: &WeightRule, scores: &[u64]) -> Vec<u32> {
    let payable = scores.iter().enumerate().map(|(number, score)| miner(number, *score, 10, 1_000_000_000));
    ppm(rule, &payable.collect::<Vec<_>>())
}

fn by_rank(rule: &WeightRule, count: usize) -> Vec<u32> {
    by_score(rule, &(0..count).map(|index| 1_000_000 - index as u64).collect::<Vec<_>>())
}

/// Steps and factors in ppm, by the default rule.
fn by_worth(miners: &[(u32, u64)]) -> Vec<u32> {
    let payable = miners.iter().enumerate().map(|(number, (steps, factor))| miner(number, 0, *steps, factor * 1_000));
    ppm(&WeightRule::measured_steps(), &payable.collect::<Vec<_>>())
}

/// The original burns half and shares the other half; here all is shared.
#[test]
fn ranks_weigh_what_they_weighed_in_the_original() {
    let halves =
        |rule: WeightRule, count| by_rank(&rule, count).into_iter().map(|ppm| f64::from(ppm) / 2e6).collect::<Vec<_>>();
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
    // Behind the last place nothing is paid, and the ramp of this program is this one.
    assert_eq!(by_rank(&original(20, 10), 40).len(), 30);
    assert_eq!(WeightRule::rank_ramp(), original(20, 10));
}

#[test]
fn equal_scores_weigh_the_same_and_no_score_weighs_nothing() {
    assert_eq!(by_score(&original(2, 1), &[5, 5, 0]), [500_000, 500_000]);
    // Three share the two places of the ramp and the one of the tail.
    assert_eq!(by_score(&original(2, 1), &[5, 5, 5, 1]), [333_333; 3]);
    assert_eq!(by_score(&original(2, 1), &[0, 0]), Vec::<u32>::new());
    let square = WeightRule::ScorePower { exponent: 2 };
    assert_eq!(by_score(&square, &[2, 1, 0]), [800_000, 200_000]);
    // One worker under two keys: half the score each, half the pay in all.
    assert_eq!(by_score(&square, &[6, 6]), [500_000; 2]);
    assert_eq!(by_score(&square, &[6, 3, 3]), [666_666, 166_666, 166_666]);
}

/// A miner with a tenth of the steps has a tenth of the pay, under one key or ten, for any scores.
#[test]
fn proven_steps_are_paid_in_proportion_whatever_the_score() {
    let by_steps = |steps: &[u32]| {
        let payable = steps.iter().enumerate().map(|(i, steps)| miner(i, i as u64 % 3, *steps, i as u64));
        ppm(&WeightRule::ProvenSteps, &payable.collect::<Vec<_>>())
    };
    assert_eq!(by_steps(&[3]), [1_000_000]);
    assert_eq!(by_steps(&[10, 10, 5]), [400_000, 400_000, 200_000]);
    assert_eq!(by_steps(&[10, 0, 10]), [500_000, 500_000]);
    let split = by_steps(&[10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(split[0], 500_000);
    assert_eq!(split[1..].iter().sum::<u32>(), 500_000);
}

#[test]
fn steps_count_by_their_worth() {
    const ONE: u64 = 1_000_000;
    assert_eq!(by_worth(&[(10, ONE), (10, ONE)]), [500_000; 2]);
    assert_eq!(by_worth(&[(10, 3 * ONE / 2), (10, ONE / 2)]), [750_000, 250_000]);
    assert_eq!(by_worth(&[(10, ONE), (10, 0)]), [ONE as u32]);
    // Half of the steps are half of the pay at most, however much the first steps gain.
    assert_eq!(by_worth(&[(10, ONE), (5, 3 * ONE / 2)]), [666_666, 333_333]);
    // A worker that splits itself has no more than before, although each key's few steps gain much a step.
    let split = by_worth(&[&[(10, ONE)][..], &[(1, 3 * ONE / 2); 10]].concat());
    assert_eq!(split[1..].iter().sum::<u32>(), 500_000);
}

proptest! {
    #[test]
    fn weights_add_up_and_follow_the_merits(
        merits in prop::collection::vec((0u64..=9_000_000_000_000_000, 0u32..20, 0u64..=1_500_000_000), 0..60),
        places in 1u32..30,
        tail_places in 0u32..20,
        exponent in 1u32..=3,
        kind in 0u8..4,
    ) {
        let rule = match kind {
            0 => original(places, tail_places),
            1 => WeightRule::ScorePower { exponent },
            2 => WeightRule::ProvenSteps,
            _ => WeightRule::measured_steps(),
        };
        let payable: Vec<Payable> = merits
            .iter()
            .enumerate()
            .map(|(number, (score, steps, factor))| miner(number, *score, *steps, *factor))
            .collect();
        let found = weights(&rule, 10, &payable);
        let mut reversed = payable.clone();
        reversed.reverse();
        prop_assert_eq!(&weights(&rule, 10, &reversed), &found);
        prop_assert!(found.iter().map(|weight| u64::from(weight.weight_ppm)).sum::<u64>() <= ONE_PPM);
        let weight = |miner: &PublicKey| {
            found.iter().find(|weight| weight.miner == *miner).map_or(0, |weight| weight.weight_ppm)
        };
        for a in &payable {
            for b in &payable {
                if a.merit(&rule, 10) >= b.merit(&rule, 10) {
                    prop_assert!(weight(&a.miner) >= weight(&b.miner));
                }
            }
        }
    }
}
