//! The standing of one miner, and the score that follows.
//!
//! A standing holds integers alone, and all of them follow from records. Nodes never exchange standings;
//! each is an entry of the state's tree.

use std::collections::BTreeMap;

use templar_manifest::{ProofSpec, PublicKey, WindowIndex};

use super::{Rating, Worth};
use crate::ledger::ONE_PPM;

/// One in 1e-9, the unit of a proof of computation and of a factor of pay.
pub(super) const ONE_NANOS: i64 = 1_000_000_000;

/// The last eight occasions on which something could have happened, and on which of them it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History(u8);

impl From<u8> for History {
    /// The history with these occasions, the newest in the lowest bit.
    fn from(bits: u8) -> Self {
        Self(bits)
    }
}

impl History {
    /// The occasions as bits, the newest in the lowest bit.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// On how many of the last eight occasions it happened.
    pub fn often(self) -> u32 {
        self.0.count_ones()
    }

    /// How often in a row it happened most recently, up to eight.
    pub fn in_a_row(self) -> u32 {
        self.0.trailing_ones()
    }

    pub(super) fn push(&mut self, happened: bool) {
        self.0 = self.0 << 1 | u8::from(happened);
    }
}

/// Everything that a run remembers of one miner's deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The rating: how well its deltas do beside those of others.
    pub rating: Rating,
    /// Proof of computation, from −1 to 1, in 1e-9.
    pub proof_nanos: i64,
    /// The windows in which it had no contribution.
    pub missing: History,
    /// The contributions whose delta it did not serve.
    pub withheld: History,
    /// The measured contributions that made unassigned pages worse.
    pub negative: History,
    /// The first window in which its deltas may be aggregated and paid again.
    pub excluded_until: WindowIndex,
    /// The factor of pay, in 1e-9: the moving average of what its steps were worth beside the others' steps. It
    /// stays 1 where pay does not follow measured steps.
    pub factor_nanos: u64,
}

impl Standing {
    /// The standing of a miner that was never judged.
    pub const NEW: Self = Self {
        rating: Rating::NEW,
        proof_nanos: 0,
        missing: History(0),
        withheld: History(0),
        negative: History(0),
        excluded_until: WindowIndex(0),
        factor_nanos: ONE_NANOS as u64,
    };

    /// Whether its deltas are neither aggregated nor paid in this window.
    pub fn is_excluded(&self, window: WindowIndex) -> bool {
        window < self.excluded_until
    }

    /// The score in 1e-12: the ordinal of the rating times the proof of computation, rounded down. It is 0
    /// unless both are positive, so that two negative numbers never make a positive score. Once the run is
    /// warm, a proof below the threshold also gives 0.
    pub fn score_picos(&self, spec: &ProofSpec, window: WindowIndex) -> u64 {
        let least = if window.0 < spec.warm_up_windows { 0 } else { i64::from(spec.threshold_ppm) * 1_000 };
        let (ordinal, proof) = (self.rating.ordinal_picos(), self.proof_nanos);
        if ordinal <= 0 || proof <= 0 || proof < least {
            return 0;
        }
        // An ordinal is at most 9e15 and a proof at most 1e9.
        (ordinal as u128 * proof as u128 / ONE_NANOS as u128) as u64
    }

    /// Moves the proof of computation towards 1 (`computed`) or −1, by the difference times the decay, divided
    /// towards zero.
    pub(super) fn prove(&mut self, spec: &ProofSpec, computed: bool) {
        let target = if computed { ONE_NANOS } else { -ONE_NANOS };
        self.proof_nanos += (target - self.proof_nanos) * i64::from(spec.decay_ppm) / ONE_PPM as i64;
    }

    /// Moves the factor of pay towards the worth of a window, by the difference times the window's weight, divided
    /// towards zero.
    pub(super) fn follow(&mut self, worth: &Worth) {
        // A factor is at most 1e12, and so is a worth in 1e-9.
        let (factor, target) = (i128::from(self.factor_nanos), i128::from(worth.ratio_ppm) * 1_000);
        let moved = (target - factor) * i128::from(worth.newest_ppm) / i128::from(ONE_PPM);
        self.factor_nanos = (factor + moved) as u64;
    }

    /// Resets the rating, and the proof and the factor of pay as far as they are good. The histories of faults
    /// stay.
    pub(crate) fn forfeit(&mut self) {
        self.rating = self.rating.reset();
        self.proof_nanos = self.proof_nanos.min(0);
        self.factor_nanos = self.factor_nanos.min(ONE_NANOS as u64);
    }

    /// Multiplies the factor of pay, and the proof where it is positive, by a factor, rounding down.
    pub(super) fn scale(&mut self, factor_ppm: u32) {
        self.factor_nanos = (u128::from(self.factor_nanos) * u128::from(factor_ppm) / u128::from(ONE_PPM)) as u64;
        if self.proof_nanos > 0 {
            self.proof_nanos = self.proof_nanos * i64::from(factor_ppm) / ONE_PPM as i64;
        }
    }
}

/// All standings, by miner.
pub(crate) type Standings = BTreeMap<PublicKey, Standing>;

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ProofSpec = ProofSpec { decay_ppm: 50_000, threshold_ppm: 100_000, warm_up_windows: 10 };

    #[test]
    fn the_proof_after_n_wins_is_the_original_s() {
        let mut standing = Standing::NEW;
        let expected = [(1, 0.05), (2, 0.0975), (3, 0.142_625), (4, 0.185_494), (10, 0.401_263), (20, 0.641_514)];
        for wins in 1..=20 {
            standing.prove(&SPEC, true);
            if let Some((_, proof)) = expected.iter().find(|(n, _)| *n == wins) {
                assert!((standing.proof_nanos as f64 / 1e9 - proof).abs() < 5.1e-7, "{wins}: {}", standing.proof_nanos);
            }
        }
        // A loss is as far the other way.
        let (mut won, mut lost) = (Standing::NEW, Standing::NEW);
        for round in 0..200 {
            won.prove(&SPEC, round % 3 != 0);
            lost.prove(&SPEC, round % 3 == 0);
            assert_eq!(won.proof_nanos, -lost.proof_nanos);
        }
    }

    #[test]
    fn two_negatives_make_no_positive_and_the_threshold_holds_when_the_run_is_warm() {
        let standing = |mu: i64, proof_nanos| Standing {
            rating: Rating { mu_picos: mu * 1_000_000_000_000, sigma_picos: 1_000_000_000_000 },
            proof_nanos,
            ..Standing::NEW
        };
        let score = |standing: Standing, window| standing.score_picos(&SPEC, WindowIndex(window));
        assert_eq!(score(standing(23, 500_000_000), 0), 10_000_000_000_000);
        assert_eq!(score(standing(-7, -500_000_000), 0), 0);
        assert_eq!(score(standing(23, -500_000_000), 0), 0);
        assert_eq!(score(standing(-7, 500_000_000), 0), 0);
        assert_eq!(score(standing(23, 99_999_999), 9), 1_999_999_980_000);
        assert_eq!(score(standing(23, 99_999_999), 10), 0);
        assert_eq!(score(standing(23, 100_000_000), 10), 2_000_000_000_000);
        // It takes three wins from nothing.
        let mut fresh = standing(23, 0);
        let paid = [(); 3].map(|()| {
            fresh.prove(&SPEC, true);
            score(fresh, 10) > 0
        });
        assert_eq!(paid, [false, false, true]);
    }

    #[test]
    fn a_factor_follows_by_a_sixteenth_and_one_lucky_window_fades() {
        let worth = |ratio_ppm| Worth { gain_piconats: 0, median_piconats: 0, ratio_ppm, newest_ppm: 62_500 };
        let mut standing = Standing::NEW;
        standing.follow(&worth(1_000_000));
        assert_eq!(standing.factor_nanos, 1_000_000_000);
        standing.follow(&worth(1_500_000));
        assert_eq!(standing.factor_nanos, 1_031_250_000);
        (0..20).for_each(|_| standing.follow(&worth(1_000_000)));
        assert!(standing.factor_nanos < 1_010_000_000, "{}", standing.factor_nanos);
        (0..1_000).for_each(|_| standing.follow(&worth(500_000)));
        assert!(standing.factor_nanos.abs_diff(500_000_000) < 20, "{}", standing.factor_nanos);
        standing.scale(250_000);
        assert!(standing.factor_nanos.abs_diff(125_000_000) < 5);
        let mut good = Standing { factor_nanos: 1_400_000_000, ..Standing::NEW };
        good.forfeit();
        assert_eq!(good.factor_nanos, 1_000_000_000);
    }

    #[test]
    fn a_history_is_of_eight() {
        let mut history = History::default();
        for happened in [true, false, true, true] {
            history.push(happened);
        }
        assert_eq!((history.often(), history.in_a_row(), history.bits()), (3, 2, 0b1011));
        (0..9).for_each(|_| history.push(true));
        assert_eq!((history.often(), history.in_a_row()), (8, 8));
        history.push(false);
        assert_eq!((history.often(), history.in_a_row()), (7, 0));
    }
}
