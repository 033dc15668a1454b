//! The wall clock, and whether it agrees with the clocks of peers. No rule reads a clock, so nothing here
//! decides anything.

use std::collections::BTreeMap;
use std::time::Duration;

use templar_net::{PeerId, Skew};

/// The difference between clocks above which the user is warned. It is more than clocks differ that a time
/// service keeps, and far less than a certificate tolerates.
pub const TOLERANCE: Duration = Duration::from_secs(5);

/// Milliseconds since 1970, UTC.
#[expect(clippy::disallowed_methods, reason = "the clock that peers compare theirs with; decides nothing")]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The judgement of the peers' clocks on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockAgreement {
    /// There is no peer to compare with.
    Unknown,
    /// More than half of the peers agree with this clock.
    Agrees,
    /// At least half of them are ahead of it, or behind it, by more than [`TOLERANCE`].
    Differs {
        /// The middle one of the peers' clocks minus this one, in milliseconds.
        ahead_ms: i64,
        /// The number of peers that differ this way.
        peers: usize,
        /// The number of peers that were asked.
        of: usize,
    },
}

/// Compares this clock with those of peers.
pub fn agreement(skews: &BTreeMap<PeerId, Skew>) -> ClockAgreement {
    let mut ahead: Vec<i64> = skews.values().map(|skew| skew.ahead_ms).collect();
    ahead.sort_unstable();
    let Some(&middle) = ahead.get(ahead.len() / 2) else { return ClockAgreement::Unknown };
    let same_way = |skew: &&Skew| skew.exceeds(TOLERANCE) && skew.ahead_ms.signum() == middle.signum();
    let peers = skews.values().filter(same_way).count();
    if peers * 2 < skews.len() || peers == 0 {
        return ClockAgreement::Agrees;
    }
    ClockAgreement::Differs { ahead_ms: middle, peers, of: skews.len() }
}

impl ClockAgreement {
    /// The problem as a sentence for people. `None` if there is none.
    pub fn problem(&self) -> Option<String> {
        let Self::Differs { ahead_ms, peers, of } = self else { return None };
        let seconds = ahead_ms.unsigned_abs() as f64 / 1e3;
        let way = if *ahead_ms > 0 { "behind" } else { "ahead of" };
        Some(format!("this machine's clock is {seconds:.1} s {way} those of {peers} of {of} peers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skews(ahead_ms: &[i64]) -> BTreeMap<PeerId, Skew> {
        let skew = |(index, ahead_ms): (usize, &i64)| ([index as u8; 32], Skew { ahead_ms: *ahead_ms, error_ms: 50 });
        ahead_ms.iter().enumerate().map(skew).collect()
    }

    #[test]
    fn one_wrong_clock_among_many_is_not_ours() {
        assert_eq!(agreement(&skews(&[])), ClockAgreement::Unknown);
        assert_eq!(agreement(&skews(&[10, -20, 3_600_000])), ClockAgreement::Agrees);
        assert_eq!(agreement(&skews(&[4_000, 5_040, -5_040])), ClockAgreement::Agrees, "within the tolerance");
        let differs = agreement(&skews(&[60_000, 60_100, 10]));
        assert_eq!(differs, ClockAgreement::Differs { ahead_ms: 60_000, peers: 2, of: 3 });
        assert_eq!(differs.problem().unwrap(), "this machine's clock is 60.0 s behind those of 2 of 3 peers");
        assert!(agreement(&skews(&[-90_000])).problem().unwrap().contains("90.0 s ahead of those of 1 of 1"));
        assert_eq!(
            agreement(&skews(&[90_000, -90_000, 0])),
            ClockAgreement::Agrees,
            "they do not agree with each other"
        );
    }
}
