//! How much of a device's work is computed again on the CPU.

use std::sync::atomic::{AtomicU32, Ordering};

/// One inner step, and one measured page, of so many is computed again on the CPU.
pub const DEFAULT_RECHECKS: u32 = 1000;

static ONE_IN: AtomicU32 = AtomicU32::new(DEFAULT_RECHECKS);

/// Sets for the whole process that one page of `count` is computed again on the CPU, and one step of recipes that are
/// made from now on; 0 says that none is. It concerns only devices that are
/// [rechecked](templar_device::Device::is_rechecked). The program that configures the process calls it; no result
/// depends on it.
pub fn recheck_one_in(count: u32) {
    ONE_IN.store(count, Ordering::Relaxed);
}

/// The number of [`recheck_one_in`].
pub(crate) fn one_in() -> u32 {
    ONE_IN.load(Ordering::Relaxed)
}
