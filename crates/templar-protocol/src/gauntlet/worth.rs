//! The worth of a miner's steps in one window: how much each gained beside the others' steps.
//!
//! A gain is the loss that a trial step removes on pages that nobody trains on. Gains fall as a run goes on and
//! differ from page to page, so each is divided by the median of the window. The median counts each miner by its
//! steps, so many keys with few steps do not move it. Whatever one window says is clipped before it enters the
//! average, so one lucky window does not last.

use templar_manifest::WeightRule;

use crate::ledger::ONE_PPM;

/// The factor from 1e-9 to 1e-12 nats.
const PICO_OF_NANO: i128 = 1_000;

/// The gain of one contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepGain {
    /// The loss that it removed on unassigned pages, in 1e-9 nats.
    pub(super) gain_nanonats: i128,
    /// The inner steps that it took; not 0.
    pub(super) steps: u32,
}

impl StepGain {
    /// The gain of one step in 1e-12 nats, rounded down.
    fn piconats(&self) -> i128 {
        (self.gain_nanonats * PICO_OF_NANO).div_euclid(i128::from(self.steps.max(1)))
    }
}

/// The worth of one miner's steps in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// The gain of one of its steps, in 1e-12 nats.
    pub gain_piconats: i128,
    /// The median of all measured gains of a step, counted by steps, in 1e-12 nats.
    pub median_piconats: i128,
    /// The value with which the window enters the average: gain by median, clipped, in ppm.
    pub ratio_ppm: u32,
    /// The weight of the window in the average, in ppm.
    pub newest_ppm: u32,
}

/// The gain of a step, in 1e-12 nats, that at least half of all measured steps do not exceed. It is the least such
/// gain, and 0 where nothing was measured.
pub(super) fn median_piconats(mut gains: Vec<StepGain>) -> i128 {
    gains.sort_unstable_by_key(StepGain::piconats);
    let all: u64 = gains.iter().map(|gain| u64::from(gain.steps)).sum();
    let mut below = 0;
    let median = gains.iter().find(|gain| {
        below += u64::from(gain.steps);
        below * 2 >= all
    });
    median.map_or(0, StepGain::piconats)
}

/// The worth of a gain beside this median; `None` where pay does not follow measured steps.
pub(super) fn worth(rule: &WeightRule, gain: &StepGain, median_piconats: i128) -> Option<Worth> {
    let WeightRule::MeasuredSteps { least_ppm, most_ppm, newest_ppm } = *rule else { return None };
    let gain_piconats = gain.piconats();
    let one = i128::from(ONE_PPM);
    // A gain is below 2^75, so nothing here leaves 128 bits.
    let ratio = if median_piconats > 0 { gain_piconats * one / median_piconats } else { one };
    let ratio_ppm = ratio.clamp(least_ppm.into(), most_ppm.into()) as u32;
    Some(Worth { gain_piconats, median_piconats, ratio_ppm, newest_ppm })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gain(gain_nanonats: i128, steps: u32) -> StepGain {
        StepGain { gain_nanonats, steps }
    }

    fn ratio(gain_nanonats: i128, steps: u32, median: i128) -> u32 {
        worth(&WeightRule::measured_steps(), &gain(gain_nanonats, steps), median).unwrap().ratio_ppm
    }

    #[test]
    fn the_median_counts_steps_and_not_keys() {
        assert_eq!(median_piconats(vec![]), 0);
        assert_eq!(median_piconats(vec![gain(30, 10)]), 3_000);
        // Nine keys of one step each do not outweigh one of ten steps.
        let mut many: Vec<StepGain> = vec![gain(1_000, 1); 9];
        many.push(gain(30, 10));
        assert_eq!(median_piconats(many), 3_000);
        // Of two halves the lower one.
        assert_eq!(median_piconats(vec![gain(50, 10), gain(30, 10)]), 3_000);
        assert_eq!(median_piconats(vec![gain(-1, 3)]), -334);
    }

    #[test]
    fn a_window_counts_its_ratio_clipped() {
        assert_eq!(ratio(30, 10, 3_000), 1_000_000);
        assert_eq!(ratio(33, 10, 3_000), 1_100_000);
        assert_eq!(ratio(3_000, 10, 3_000), 1_500_000);
        assert_eq!(ratio(3, 10, 3_000), 500_000);
        assert_eq!(ratio(-3_000, 10, 3_000), 500_000);
        for median in [0, -5] {
            assert_eq!(ratio(-3_000, 10, median), 1_000_000);
        }
        assert_eq!(worth(&WeightRule::ProvenSteps, &gain(1, 1), 1), None);
    }

    proptest! {
        /// Losses are any u64, so gains are as large as that.
        #[test]
        fn no_gain_leaves_the_bounds(gain_nanonats in -(1i128 << 64)..(1i128 << 64), steps in 1u32.., median in -(1i128 << 75)..(1i128 << 75)) {
            prop_assert!((500_000..=1_500_000).contains(&ratio(gain_nanonats, steps, median)));
        }
    }
}
