//! The Plackett–Luce rating (Weng and Lin 2011, algorithm 4; OpenSkill's `PlackettLuce`), exact to the bit.
//!
//! This is the only file of the crate that computes with floats. It may, because the result is the same on
//! every machine: the numbers are `f64`, begin as integers, pass through `+ - * / √` in the order written here
//! and through [`exp_f64`] of `templar-numerics`, and end as integers. A state holds only those integers, in
//! units of 1e-12. Rounding after every match moves a rating by at most 5e-13.
//!
//! OpenSkill adds over all pairs of entrants. The sums here run over places, which gives the same sums in
//! another order, in time linear in the number of entrants. A tie moves no mean where the ratings were equal.

use templar_manifest::RatingSpec;
use templar_numerics::exp_f64;

/// One in 1e-12, the unit of a rating.
const PICOS: f64 = 1e12;
/// The bound of means and deviations: 9,000. Up to there the integers are exact as `f64`.
const LARGEST_PICOS: i64 = 9_000_000_000_000_000;
/// The least square of the factor by which one match shrinks a deviation (OpenSkill's κ).
const KAPPA: f64 = 0.0001;
/// The least exponent: a mean that lies further below the best, in units of c, counts as this far below.
const FARTHEST: f64 = -300.0;

/// A rating of how well a miner does beside others: a mean and a deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rating {
    /// μ, the mean, in 1e-12.
    pub mu_picos: i64,
    /// σ, the deviation, in 1e-12; positive.
    pub sigma_picos: u64,
}

impl Rating {
    /// The rating of a miner that never played: μ = 25 and σ = 25/3, rounded up so that the ordinal is not
    /// above 0.
    pub const NEW: Self = Self { mu_picos: 25_000_000_000_000, sigma_picos: 8_333_333_333_334 };

    /// The ordinal μ − 3σ, in 1e-12: a value that the rating exceeds almost surely.
    pub fn ordinal_picos(&self) -> i64 {
        // Both are at most 9e15.
        self.mu_picos - 3 * self.sigma_picos as i64
    }

    /// The rating with at least the deviation of a new one and at most the mean of a new one. This never raises
    /// an ordinal whose deviation is not larger than a new one's.
    pub(super) fn reset(self) -> Self {
        Self { mu_picos: self.mu_picos.min(Self::NEW.mu_picos), ..self.uncertain() }
    }

    /// The rating with at least the deviation of a new one.
    pub(super) fn uncertain(self) -> Self {
        Self { sigma_picos: self.sigma_picos.max(Self::NEW.sigma_picos), ..self }
    }
}

/// The ratings after one match, in the order of `entrants`. Each entrant is a rating and a place, where lower
/// is better and equal places are ties. With fewer than two entrants there is no match.
pub(super) fn play(spec: &RatingSpec, entrants: &[(Rating, u32)]) -> Vec<Rating> {
    if entrants.len() < 2 {
        return entrants.iter().map(|(rating, _)| *rating).collect();
    }
    let beta = f64::from(spec.beta_micros) / 1e6;
    let tau = f64::from(spec.tau_micros) / 1e6;
    // Sorted by place, and within a place in the order of the entrants.
    let mut order: Vec<usize> = (0..entrants.len()).collect();
    order.sort_by_key(|&index| entrants[index].1);
    let means: Vec<f64> = entrants.iter().map(|(rating, _)| rating.mu_picos as f64 / PICOS).collect();
    let variances: Vec<f64> = entrants
        .iter()
        .map(|(rating, _)| {
            let sigma = rating.sigma_picos as f64 / PICOS;
            sigma * sigma + tau * tau
        })
        .collect();
    let mut square = 0.0;
    for &index in &order {
        square += variances[index] + beta * beta;
    }
    let c = square.sqrt();
    let best = means.iter().copied().fold(f64::NEG_INFINITY, |best, mean| if mean > best { mean } else { best });
    let strengths: Vec<f64> = means
        .iter()
        .map(|mean| {
            let x = (mean - best) / c;
            exp_f64(if x < FARTHEST { FARTHEST } else { x })
        })
        .collect();
    let mut after = vec![Rating::NEW; entrants.len()];
    let places: Vec<&[usize]> = order.chunk_by(|&a, &b| entrants[a].1 == entrants[b].1).collect();
    // For each place the strengths of that place and all behind it, summed from the last entrant to the first.
    let mut behind = vec![0.0; places.len()];
    let mut sum = 0.0;
    for (place, members) in places.iter().enumerate().rev() {
        for &index in members.iter().rev() {
            sum += strengths[index];
        }
        behind[place] = sum;
    }
    let (mut inverses, mut squares) = (0.0, 0.0);
    for (place, members) in places.iter().enumerate() {
        let inverse = 1.0 / behind[place];
        inverses += inverse;
        squares += inverse * inverse;
        for &index in *members {
            let (strength, variance) = (strengths[index], variances[index]);
            let sigma = variance.sqrt();
            let omega = 1.0 / members.len() as f64 - strength * inverses;
            let delta = strength * inverses - (strength * strength) * squares;
            let shrink = 1.0 - (delta * (variance / (c * c))) * (sigma / c);
            let shrink = if shrink < KAPPA { KAPPA } else { shrink };
            let mu = means[index] + omega * (variance / c);
            after[index] = Rating { mu_picos: picos(mu), sigma_picos: picos(sigma * shrink.sqrt()).max(1) as u64 };
        }
    }
    after
}

/// The value in 1e-12, rounded half away from zero and kept within the bounds of a rating.
fn picos(value: f64) -> i64 {
    ((value * PICOS).round() as i64).clamp(-LARGEST_PICOS, LARGEST_PICOS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPEC: RatingSpec = RatingSpec { beta_micros: 7_000_000, tau_micros: 100_000 };

    fn assert_near(found: Rating, (mu, sigma): (f64, f64), tolerance: f64, what: &str) {
        let (found_mu, found_sigma) = (found.mu_picos as f64 / PICOS, found.sigma_picos as f64 / PICOS);
        let far = (found_mu - mu).abs().max((found_sigma - sigma).abs());
        assert!(far <= tolerance, "{what}: {found_mu} {found_sigma}, not {mu} {sigma}");
    }

    /// OpenSkill's, to the digits in which they are usually printed.
    #[test]
    fn the_values_that_everybody_knows() {
        let fresh = |places: &[u32]| places.iter().map(|&place| (Rating::NEW, place)).collect::<Vec<_>>();
        let two = play(&SPEC, &fresh(&[0, 1]));
        assert_near(two[0], (27.256_209_2, 8.166_896_5), 5e-8, "winner of two");
        assert_near(two[1], (22.743_790_8, 8.166_896_5), 5e-8, "loser of two");
        let ordinals: Vec<f64> = two.iter().map(|rating| rating.ordinal_picos() as f64 / PICOS).collect();
        assert!((ordinals[0] - 2.755_519_8).abs() < 5e-8 && (ordinals[1] + 1.756_898_6).abs() < 5e-8, "{ordinals:?}");
        for tied in play(&SPEC, &fresh(&[0, 0])) {
            assert_near(tied, (25.0, 8.166_896_5), 5e-8, "a tie");
        }
        let three = play(&SPEC, &fresh(&[0, 1, 2]));
        let expected = [(27.456_249_5, 8.253_534_7), (25.614_062_4, 8.162_139_7), (21.929_688_2, 8.162_139_7)];
        for (found, expected) in three.iter().zip(expected) {
            assert_near(*found, expected, 6e-8, "of three");
        }
        let again: Vec<(Rating, u32)> = three.into_iter().zip([0, 2, 1]).collect();
        let expected = [(29.728_843_9, 8.169_848_2), (22.432_992_2, 7.999_800_6), (22.888_208_8, 8.007_848_0)];
        for (found, expected) in play(&SPEC, &again).into_iter().zip(expected) {
            assert_near(found, expected, 6e-8, "of three, again");
        }
    }

    /// Careers of twelve players through matches of every size, ties and all, as PyPI's openskill 6.2.0 has
    /// them; written by `tests/compare/openskill_vectors.py`.
    #[test]
    fn openskill_says_the_same_to_a_billionth() {
        let mut ratings = [Rating::NEW; 12];
        let mut matches = 0;
        for line in include_str!("../../vectors/openskill.txt").lines().filter(|line| !line.starts_with('#')) {
            let players: Vec<(usize, u32, (f64, f64))> = line
                .split(' ')
                .map(|player| {
                    let parts: Vec<&str> = player.split(':').collect();
                    let [index, place, mu, sigma] = parts[..] else { panic!("{player}") };
                    let after = (mu.parse().unwrap(), sigma.parse().unwrap());
                    (index.parse().unwrap(), place.parse().unwrap(), after)
                })
                .collect();
            let entrants: Vec<(Rating, u32)> =
                players.iter().map(|&(index, place, _)| (ratings[index], place)).collect();
            for (found, (index, _, expected)) in play(&SPEC, &entrants).into_iter().zip(&players) {
                assert_near(found, *expected, 1e-9, &format!("match {matches}, player {index}"));
                ratings[*index] = found;
            }
            matches += 1;
        }
        assert_eq!(matches, 120);
    }

    /// The exact integers, which pin our own arithmetic independently of OpenSkill.
    #[test]
    fn the_integers_are_frozen() {
        let mut entrants: Vec<(Rating, u32)> = (0..5).map(|place| (Rating::NEW, place / 2)).collect();
        for round in 0..50u32 {
            let after = play(&SPEC, &entrants);
            for (index, (entrant, rating)) in entrants.iter_mut().zip(after).enumerate() {
                *entrant = (rating, (index as u32 * 7 + round) % 4);
            }
        }
        let found: Vec<(i64, u64)> = entrants.iter().map(|(r, _)| (r.mu_picos, r.sigma_picos)).collect();
        assert_eq!(found, FROZEN);
    }

    const FROZEN: [(i64, u64); 5] = [
        (17_297_771_840_367, 6_020_728_571_553),
        (28_756_135_993_746, 5_845_692_290_636),
        (30_255_468_206_122, 5_858_501_812_851),
        (30_788_989_905_810, 5_857_046_825_795),
        (17_163_429_890_072, 6_033_047_429_527),
    ];

    fn ratings() -> impl Strategy<Value = Rating> {
        (-LARGEST_PICOS..=LARGEST_PICOS, 1..=LARGEST_PICOS as u64)
            .prop_map(|(mu_picos, sigma_picos)| Rating { mu_picos, sigma_picos })
    }

    proptest! {
        /// No rating is ever nonsense, however far apart the entrants are, and whoever is first does not lose by it.
        #[test]
        fn every_match_ends_in_ratings(
            entrants in prop::collection::vec((ratings(), 0u32..6), 2..40),
            beta_micros in 1u32..=1_000_000_000,
            tau_micros in 0u32..=1_000_000_000,
        ) {
            let spec = RatingSpec { beta_micros, tau_micros };
            let after = play(&spec, &entrants);
            let first = entrants.iter().map(|(_, place)| *place).min().unwrap();
            let alone = entrants.iter().filter(|(_, place)| *place == first).count() == 1;
            for ((before, place), after) in entrants.iter().zip(&after) {
                prop_assert!(after.mu_picos.abs() <= LARGEST_PICOS);
                prop_assert!((1..=LARGEST_PICOS as u64).contains(&after.sigma_picos));
                if alone && *place == first {
                    prop_assert!(after.mu_picos >= before.mu_picos);
                }
            }
        }

        /// The order of the list changes a rating by rounding at most.
        #[test]
        fn the_order_of_entrants_is_rounding(places in prop::collection::vec(0u32..4, 2..20)) {
            let entrants: Vec<(Rating, u32)> = places.iter().map(|&place| (Rating::NEW, place)).collect();
            let mut reversed = entrants.clone();
            reversed.reverse();
            for (a, b) in play(&SPEC, &entrants).iter().zip(play(&SPEC, &reversed).iter().rev()) {
                prop_assert!(a.mu_picos.abs_diff(b.mu_picos) <= 1 && a.sigma_picos.abs_diff(b.sigma_picos) <= 1);
            }
        }

        #[test]
        fn a_reset_never_raises_an_ordinal(mu_picos in -LARGEST_PICOS..=LARGEST_PICOS, sigma_picos in 1..=LARGEST_PICOS as u64) {
            let rating = Rating { mu_picos, sigma_picos };
            for after in [rating.reset(), rating.uncertain()] {
                prop_assert!(after.ordinal_picos() <= rating.ordinal_picos());
            }
        }
    }
}
