//! The part of genesis about replay: how validators are drawn to replay contributions, until when a verdict
//! counts, and the least cost of a slot under which cheating loses money.
//!
//! The inequality is derived in the documentation of `templar_protocol::replay`. It is checked here in
//! integers. Every division rounds towards a higher cost, so a genesis that passes also passes exactly.

use serde::{Deserialize, Serialize};

use super::emission::EmissionSpec;
use super::rules::positive;
use super::validators::ValidatorSpec;

/// One in parts per million.
const ONE_PPM: u64 = 1_000_000;
/// Probabilities are held as parts of 2^60, so that the product of two fits into 128 bits.
const WHOLE: u128 = 1 << 60;
/// The most windows that a deadline may have, which also bounds how much a state remembers.
const MAX_WINDOWS: u64 = 1 << 10;

/// The rules of replay of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySpec {
    /// Whether verdicts come before the record. If so, a mismatch keeps the delta out of the checkpoint.
    /// Otherwise verdicts come in the scores of later windows, and a checkpoint stays what it is.
    pub before_close: bool,
    /// The probability with which one validator draws one contribution.
    pub fraction_ppm: u32,
    /// The least number of validators that replay each contribution, as far as there are so many. They are drawn in
    /// proportion to stake.
    pub least_replays: u32,
    /// For how many windows after its own a verdict on a contribution counts. 0 exactly where verdicts come
    /// before the record.
    pub verdict_windows: u64,
    /// For how many windows after the record that lists it a challenge can be answered. 0 exactly where
    /// verdicts come before the record.
    pub challenge_windows: u64,
    /// A mismatch at most so many windows after the one before costs the slot; 0 for never.
    pub expulsion_windows: u64,
    /// The fraction of its unvested pay that a validator loses for a window in which it did not reveal.
    pub absence_ppm: u32,
}

impl ReplaySpec {
    /// Rules by which every validator replays every contribution before the window closes.
    pub const fn whole() -> Self {
        Self {
            before_close: true,
            fraction_ppm: ONE_PPM as u32,
            least_replays: 1,
            verdict_windows: 0,
            challenge_windows: 0,
            expulsion_windows: 100,
            absence_ppm: 100_000,
        }
    }

    pub(super) fn check(&self, emission: &EmissionSpec, validators: &[ValidatorSpec]) -> Result<(), String> {
        for (name, ppm) in [("fraction_ppm", self.fraction_ppm), ("absence_ppm", self.absence_ppm)] {
            if u64::from(ppm) > ONE_PPM {
                return Err(format!("replay.{name} is above 1000000"));
            }
        }
        if self.before_close {
            positive("replay.least_replays", self.least_replays.into())?;
        }
        for (name, windows) in
            [("verdict_windows", self.verdict_windows), ("challenge_windows", self.challenge_windows)]
        {
            if self.before_close != (windows == 0) {
                return Err(format!("replay.{name} is 0 exactly where replay.before_close is true"));
            }
        }
        for (name, windows) in [
            ("verdict_windows", self.verdict_windows),
            ("challenge_windows", self.challenge_windows),
            ("expulsion_windows", self.expulsion_windows),
        ] {
            if windows > MAX_WINDOWS {
                return Err(format!("replay.{name} {windows} is above {MAX_WINDOWS}"));
            }
        }
        if u64::from(self.least_replays) > MAX_WINDOWS {
            return Err(format!("replay.least_replays {} is above {MAX_WINDOWS}", self.least_replays));
        }
        if self.open_windows() > 0 && self.open_windows() >= emission.vesting_windows {
            return Err(
                "replay.verdict_windows and replay.challenge_windows are together not below emission.vesting_windows"
                    .to_owned(),
            );
        }
        let Some(least) = self.least_registration_cost(emission, validators) else {
            let never = "replay: no registration cost is enough, because a contribution may go unseen for ever or a slot is never lost";
            return Err(never.to_owned());
        };
        if u128::from(emission.registration_cost_micros) < least {
            return Err(format!(
                "emission.registration_cost_micros {} is below {least}: cheating until it is found pays more than that",
                emission.registration_cost_micros
            ));
        }
        Ok(())
    }

    /// T: for how many windows after its own a contribution can still lead to a slash. These are the windows
    /// for a verdict and, after them, those for the answer to a challenge.
    pub const fn open_windows(&self) -> u64 {
        self.verdict_windows + self.challenge_windows
    }

    /// The least F, the cost of a slot in micro-ALPHA, under which cheating does not pay, rounded up:
    ///
    /// ```text
    /// F = lives · r · s^(K − T) / p,   lives = 2 + s^X / (1 − s^X)
    /// ```
    ///
    /// * r: the most that a miner is paid in a window
    /// * s = 1 − p: the probability that no honest validator replays a contribution
    /// * K: the windows of vesting; T: [`ReplaySpec::open_windows`]
    /// * X: `expulsion_windows`, after which a mismatch counts as a first one again
    /// * lives: the mean number of times that a slot is caught before it is expelled
    ///
    /// `None` where no cost is enough: p is 0, or X is 0 while p is below 1.
    pub fn least_registration_cost(&self, emission: &EmissionSpec, validators: &[ValidatorSpec]) -> Option<u128> {
        let unseen = self.unseen(validators);
        let seen = WHOLE - unseen;
        if seen == 0 {
            return None;
        }
        if unseen == 0 {
            return Some(0);
        }
        let paid = u128::from(emission.per_window_micros) * u128::from(emission.miners_ppm) / u128::from(ONE_PPM);
        let vested = power_up(unseen, emission.vesting_windows.saturating_sub(self.open_windows()));
        // paid < 2^50, so this is below 2^110.
        let once = (paid * vested).div_ceil(seen);
        let quiet = power_up(unseen, self.expulsion_windows);
        if quiet >= WHOLE {
            // Nobody is ever expelled: a slot is caught again and again.
            return None;
        }
        Some(once * 2 + (once * quiet).div_ceil(WHOLE - quiet))
    }

    /// How many validators can be faulty with less than a third of the stake: as many as can be, those with the
    /// least stake first.
    pub fn most_faulty(validators: &[ValidatorSpec]) -> usize {
        let total: u128 = validators.iter().map(|validator| u128::from(validator.stake)).sum();
        let mut stakes: Vec<u128> = validators.iter().map(|validator| u128::from(validator.stake)).collect();
        stakes.sort_unstable();
        let mut held = 0;
        let faulty = stakes.into_iter().take_while(|stake| {
            held += stake;
            held * 3 < total
        });
        faulty.count()
    }

    /// An upper bound of the probability that `count` places, drawn in proportion to stake without putting anybody back,
    /// all fall to faulty validators, in parts of 2^60. The faulty validators are the worst set with less than a third of
    /// the stake.
    ///
    /// A faulty set has at most f = [`ReplaySpec::most_faulty`] members. So its stake φ is at most the sum of the f
    /// largest, and less than a third of all, S. The taken stake after j places is at least t_j, that of the j smallest
    /// validators. So the bound is the product over the places of (φ − t_j) / (S − t_j), and 0 with more than f places.
    /// It is exact where all stakes are equal, and below 3^-`count`.
    pub fn alone(count: u32, validators: &[ValidatorSpec]) -> u128 {
        let most = Self::most_faulty(validators);
        if count as usize > most {
            return 0;
        }
        let mut stakes: Vec<u128> = validators.iter().map(|validator| u128::from(validator.stake)).collect();
        stakes.sort_unstable();
        let whole: u128 = stakes.iter().sum();
        let largest: u128 = stakes.iter().rev().take(most).sum();
        let faulty = largest.min(whole.div_ceil(3) - 1);
        let (mut alone, mut taken) = (WHOLE, 0);
        for stake in stakes.iter().take(count as usize) {
            // Both factors are at most 2^64.
            alone = (alone * (faulty - taken)).div_ceil(whole - taken);
            taken += stake;
        }
        alone
    }

    /// An upper bound of s, in parts of 2^60: the probability that no honest validator replays a contribution.
    ///
    /// Two bounds hold, and the lower one is taken. By chance: none of the honest validators draws the contribution, of
    /// which there are the fewest where as many as can be are faulty. For places: all of the `least_replays` places fall
    /// to faulty validators.
    fn unseen(&self, validators: &[ValidatorSpec]) -> u128 {
        let honest = validators.len() - Self::most_faulty(validators);
        let undrawn = ((u128::from(ONE_PPM) - u128::from(self.fraction_ppm)) * WHOLE).div_ceil(u128::from(ONE_PPM));
        let by_chance = power_up(undrawn, honest as u64);
        by_chance.min(Self::alone(self.least_replays, validators))
    }
}

/// `base^exponent`, both in parts of 2^60, rounded up at every step.
fn power_up(base: u128, exponent: u64) -> u128 {
    let (mut result, mut square, mut left) = (WHOLE, base.min(WHOLE), exponent);
    while left > 0 {
        if left & 1 == 1 {
            result = (result * square).div_ceil(WHOLE);
        }
        square = (square * square).div_ceil(WHOLE);
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests;
