//! What a window mints, who it is for, and when it is free.

use serde::{Deserialize, Serialize};

/// What a window mints, and when pay is free to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmissionSpec {
    /// The most that one window mints, in micro-ALPHA.
    pub per_window_micros: u64,
    /// The miners' part.
    pub miners_ppm: u32,
    /// The validators' part.
    pub validators_ppm: u32,
    /// The treasury's part.
    pub treasury_ppm: u32,
    /// The part of the validators' part that is for proven replays; the rest follows the rows.
    pub replays_ppm: u32,
    /// Windows after which pay is free, unless it was slashed before.
    pub vesting_windows: u64,
    /// What a slot costs, in micro-ALPHA.
    pub registration_cost_micros: u64,
}
