//! The time, which is told in answers and counts quotas. No answer depends on it otherwise.
#![allow(clippy::disallowed_methods, reason = "this is the file that reads the clock")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When the server began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since then.
    pub(super) fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
