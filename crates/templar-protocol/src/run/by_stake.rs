//! Draws of validators in proportion to stake, one after the other, without putting anybody back.
//!
//! A draw ranks all validators. Of those that are left, in the order of their keys, with S their stake together, a
//! number t below S is drawn. The next in rank is the first with which the sum of stakes is above t, and it is left out
//! of what follows. So with stakes of 5, 1 and 2 and the numbers 6, 3 and 0, the third is drawn first (5 + 1 ≤ 6), then
//! of stakes 5 and 1 the first, then the second.
//!
//! The first k in rank that have revealed take the k places. So one that is absent is replaced by the next in rank.
//!
//! # Who can be alone
//!
//! Splitting stake among more keys does not help, since a place goes to a stake and not to a key. Let the faulty
//! validators hold φ of the stake S, with φ below S/3. The first place falls to one of them with probability φ/S. If j
//! places have fallen to faulty validators with t of the stake, the next does so with probability (φ − t)/(S − t), which
//! is lower the more is taken. So all k places do so with probability below 3^-k, and never if fewer than k validators
//! are faulty. Genesis counts a little more exactly
//! ([`ReplaySpec::alone`](templar_manifest::ReplaySpec::alone)).

use templar_manifest::{PublicKey, Reveal, ValidatorSpec};

use super::draw::DrawStream;

/// The first `count` validators in rank that have revealed, in the order of their keys. `validators` and `reveals` are
/// in that order.
pub(super) fn drawn(
    validators: &[ValidatorSpec],
    reveals: &[Reveal],
    count: usize,
    draw: &mut DrawStream,
) -> Vec<PublicKey> {
    let has_revealed =
        |validator: &PublicKey| reveals.binary_search_by_key(validator, |reveal| reveal.validator).is_ok();
    let mut left: Vec<&ValidatorSpec> = validators.iter().collect();
    let mut stake: u64 = left.iter().map(|validator| validator.stake).sum();
    let mut drawn = Vec::with_capacity(count.min(left.len()));
    while drawn.len() < count && !left.is_empty() {
        let mut place = draw.below(stake);
        let index = left.iter().position(|validator| {
            let is_here = place < validator.stake;
            place = place.wrapping_sub(validator.stake);
            is_here
        });
        let Some(index) = index else { break };
        let next = left.remove(index);
        stake -= next.stake;
        if has_revealed(&next.key) {
            drawn.push(next.key);
        }
    }
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use templar_manifest::Hash;

    use super::*;

    fn validators(stakes: &[u64]) -> Vec<ValidatorSpec> {
        let spec = |(place, &stake): (usize, &u64)| ValidatorSpec {
            key: PublicKey::from_bytes([place as u8; 32]),
            stake,
            chain_anchor: Hash::default(),
        };
        stakes.iter().enumerate().map(spec).collect()
    }

    /// The places that `trials` draws give, each as a set of bits.
    fn draws(stakes: &[u64], count: usize, trials: u32, here: impl Fn(usize) -> bool) -> Vec<usize> {
        let validators = validators(stakes);
        let reveals = validators.iter().enumerate().filter(|(place, _)| here(*place));
        let reveals: Vec<Reveal> =
            reveals.map(|(_, spec)| Reveal { validator: spec.key, value: Hash::default() }).collect();
        let trial = |number: u32| {
            let mut draw = DrawStream::new("templar/1 test", &[&number.to_le_bytes()]);
            let found = drawn(&validators, &reveals, count, &mut draw);
            assert!(found.is_sorted_by(|one, next| one < next));
            found.iter().map(|key| 1 << key.as_bytes()[0]).sum()
        };
        (0..trials).map(trial).collect()
    }

    /// The probability with which exactly a set of validators takes the first places, by all orders of the set.
    fn probability(stakes: &[u64], set: usize) -> f64 {
        let stake_of =
            |set: usize| (0..stakes.len()).filter(move |place| set >> place & 1 == 1).map(|place| stakes[place]);
        let all: u64 = stakes.iter().sum();
        if set == 0 {
            return 1.0;
        }
        let last = (0..stakes.len()).filter(|place| set >> place & 1 == 1).map(|place| {
            let before = set & !(1 << place);
            probability(stakes, before) * stakes[place] as f64 / (all - stake_of(before).sum::<u64>()) as f64
        });
        last.sum()
    }

    #[test]
    fn every_set_is_drawn_as_often_as_its_stake_says() {
        const TRIALS: u32 = 20_000;
        for (stakes, count) in [(&[8, 1, 8, 1, 8, 1, 1][..], 3), (&[5, 1, 2], 1), (&[5, 1, 2], 2), (&[1; 5], 2)] {
            let mut often = BTreeMap::<usize, u32>::new();
            draws(stakes, count, TRIALS, |_| true).into_iter().for_each(|set| *often.entry(set).or_default() += 1);
            let mut sum = 0.0;
            for set in (0..1usize << stakes.len()).filter(|set| set.count_ones() as usize == count) {
                let expected = probability(stakes, set);
                sum += expected;
                let deviation = (f64::from(TRIALS) * expected * (1.0 - expected)).sqrt();
                let found = f64::from(often.remove(&set).unwrap_or_default());
                let off = (found - f64::from(TRIALS) * expected).abs();
                assert!(off <= 4.0 * deviation + 1.0, "{stakes:?} {set:b}: {found}, not {expected}");
            }
            assert!(often.is_empty() && (sum - 1.0).abs() < 1e-9);
        }
        assert!(draws(&[1, 1], 5, 9, |_| true).iter().all(|set| *set == 0b11));
        assert!(draws(&[1, 1], 0, 9, |_| true).iter().all(|set| *set == 0));
    }

    /// Four of seven heads with a seventh of the stake are alone once in 900 draws of three, and not in 4 of 35.
    #[test]
    fn heads_without_stake_are_hardly_ever_alone() {
        let found = draws(&[8, 1, 8, 1, 8, 1, 1], 3, 9_000, |_| true);
        let alone = found.iter().filter(|set| **set & 0b001_0101 == 0).count();
        // 4·3·2 of 28·27·26 of 9,000 are 11.
        assert!((2..25).contains(&alone), "{alone}");
    }

    /// Whoever is present keeps its draws, and the places of the absent one go to others.
    #[test]
    fn the_next_in_rank_replaces_one_that_is_absent() {
        let with = draws(&[2, 1, 1, 1], 2, 3_000, |_| true);
        let without = draws(&[2, 1, 1, 1], 2, 3_000, |place| place != 0);
        let mut replaced = 0;
        for (with, without) in with.iter().zip(&without) {
            assert!(without.count_ones() == 2 && without & 1 == 0);
            assert_eq!(with & !1 & !without, 0);
            replaced += with & 1;
        }
        assert!(replaced > 1_500, "{replaced}");
    }

    #[test]
    fn the_example_of_the_definition() {
        let mut draws = (0..u32::MAX).map(|number| DrawStream::new("templar/1 test", &[&number.to_le_bytes()]));
        let is_example = |draw: &mut DrawStream| draw.below(8) == 6 && draw.below(6) == 3;
        let seed = draws.position(|mut draw| is_example(&mut draw)).unwrap() as u32;
        let (validators, mut found) = (validators(&[5, 1, 2]), Vec::<Vec<u8>>::new());
        let reveals: Vec<Reveal> =
            validators.iter().map(|spec| Reveal { validator: spec.key, value: Hash::default() }).collect();
        for count in 1..4 {
            let mut draw = DrawStream::new("templar/1 test", &[&seed.to_le_bytes()]);
            found.push(drawn(&validators, &reveals, count, &mut draw).iter().map(|key| key.as_bytes()[0]).collect());
        }
        assert_eq!(found, [vec![2], vec![0, 2], vec![0, 1, 2]]);
    }
}
