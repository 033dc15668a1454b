//! The weights by which the miners' pay of a window is shared, by the rule of genesis. All numbers are integers,
//! and the order of keys gives nobody an advantage.
//!
//! **Measured steps** is the default: proven steps times a factor, which is the moving average of what the miner's
//! steps were worth beside the others' (`worth.rs`). Steps are proven by replay, so most of the pay follows from
//! facts that no luck of pages changes. The factor lies between ½ and 3⁄2, so the rest follows what the steps
//! were good for. Below the full number of steps the factor counts as at most 1: the first steps of a window gain
//! more than the last, and without this bound one worker under ten keys would earn more than under one.
//!
//! **Proven steps** pays by steps alone, and measures nothing. Every accepted contribution is aggregated, so a run
//! may have no more slots than `outer.max_contributions`.
//!
//! **Rank ramp** is Covenant-72B's rule: a linear ramp over the best miners, then a geometric tail that is
//! never above half of the ramp's last place. It ignores by how much a miner is better. Its weaknesses: of many
//! equal miners the luck of the pages decides who is paid, and ten places pay nearly ten times as much as one.
//!
//! **Score power** pays in proportion to a power of the score, 2 in the Gauntlet paper. A miner that splits its
//! score into k equal ones earns a k-th of what it would earn whole, and one that is twice as good earns four
//! times as much.

use templar_manifest::{PublicKey, Weight, WeightRule};

use super::standing::ONE_NANOS;
use crate::ledger::ONE_PPM;

/// The factor from ppm to parts of 1e18.
const PARTS_OF_PPM: u128 = 1_000_000_000_000;
const WHOLE: u128 = PARTS_OF_PPM * ONE_PPM as u128;
/// One, in the fixed-point unit of scores relative to the best, before a power is taken.
const POWER_UNIT: u128 = 1_000_000_000;

/// A miner that can be paid in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payable {
    /// The miner.
    pub miner: PublicKey,
    /// Its score in 1e-12.
    pub score_picos: u64,
    /// The inner steps of its contribution.
    pub steps: u32,
    /// Its factor of pay after the window, in 1e-9.
    pub factor_nanos: u64,
}

impl Payable {
    /// The merit by which the rule pays the miner, in a run of `whole` inner steps a window.
    pub fn merit(&self, rule: &WeightRule, whole: u32) -> u64 {
        match rule {
            WeightRule::MeasuredSteps { .. } => {
                let factor =
                    if self.steps < whole { self.factor_nanos.min(ONE_NANOS as u64) } else { self.factor_nanos };
                // A factor is at most 1e12, so only absurd numbers of steps are cut here.
                u64::from(self.steps).saturating_mul(factor)
            }
            WeightRule::ProvenSteps => u64::from(self.steps),
            WeightRule::RankRamp { .. } | WeightRule::ScorePower { .. } => self.score_picos,
        }
    }
}

/// The weights of these miners, sorted by miner, in a run of `whole` inner steps a window. Weights of zero are
/// left out.
pub(crate) fn weights(rule: &WeightRule, whole: u32, payable: &[Payable]) -> Vec<Weight> {
    let merits = payable.iter().map(|miner| (miner.miner, miner.merit(rule, whole)));
    let mut merits: Vec<(PublicKey, u64)> = merits.filter(|(_, merit)| *merit > 0).collect();
    merits.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let parts = match *rule {
        WeightRule::RankRamp { .. } => shared(&merits, &ramp(rule, merits.len())),
        WeightRule::ScorePower { exponent } => powers(&merits, exponent),
        WeightRule::MeasuredSteps { .. } | WeightRule::ProvenSteps => {
            merits.iter().map(|(_, merit)| u128::from(*merit)).collect()
        }
    };
    let whole: u128 = parts.iter().sum();
    let mut weights: Vec<Weight> = merits
        .iter()
        .zip(parts)
        .map(|((miner, _), part)| Weight { miner: *miner, weight_ppm: (part * u128::from(ONE_PPM) / whole) as u32 })
        .filter(|weight| weight.weight_ppm > 0)
        .collect();
    weights.sort_unstable_by_key(|weight| weight.miner);
    weights
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
mod tests;
