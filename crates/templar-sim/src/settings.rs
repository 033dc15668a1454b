//! The settings that every simulated run has in common: the length of a window, in inner steps and on the
//! virtual clock.

/// Inner steps of a window (the papers' H).
pub(crate) const STEPS: u32 = 10;
/// Time from the opening of a window to the deadline of its inboxes, in milliseconds of the virtual clock.
pub(crate) const COMMIT_MS: u64 = 20_000;
/// Time from the certified cut to the deadline of the reveals, in milliseconds of the virtual clock.
pub(crate) const REVEAL_MS: u64 = 5_000;
/// Time from the seed to the deadline of the scores, in milliseconds of the virtual clock.
pub(crate) const JUDGE_MS: u64 = 30_000;
