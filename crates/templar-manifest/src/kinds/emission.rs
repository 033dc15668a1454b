//! How much a window mints, for whom, and when the pay vests.

use serde::{Deserialize, Serialize};

/// The emission of a run: how much a window mints, how it is divided, and when it vests. The parts are fractions of
/// `per_window_micros` and add up to at most 1,000,000 ppm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmissionSpec {
    /// The most that one window mints, in micro-ALPHA.
    pub per_window_micros: u64,
    /// The number of inner steps in accepted contributions for which a window mints everything. With fewer it
    /// mints in proportion, so that nothing is minted for work that nobody did.
    pub target_steps: u64,
    /// The part for miners, in ppm.
    pub miners_ppm: u32,
    /// The part for validators, in ppm.
    pub validators_ppm: u32,
    /// The part for the treasury, in ppm.
    pub treasury_ppm: u32,
    /// The fraction of the validators' part that pays for proven replays; the rest pays for measurements. In a
    /// window without one of the two the other has all of it.
    pub replays_ppm: u32,
    /// The number of windows after which pay is free, unless it was slashed before.
    pub vesting_windows: u64,
    /// F: the cost of a slot in micro-ALPHA, by the reckoning of whoever wrote this genesis. See
    /// [`ReplaySpec::least_registration_cost`](super::ReplaySpec::least_registration_cost).
    pub registration_cost_micros: u64,
}
