//! Clocks are compared within the bound of the exchange, and only reported.

use std::sync::Arc;
use std::time::Duration;

use templar_store::Store;

use super::{TestLog, config, run, soon, until_caught_up};
use crate::{Clock, Net, NetConfig, NetLimits, ServeAll, Skew};

async fn node(seed: u8, clock: Option<Clock>) -> Net {
    let config = NetConfig { clock, ..config(seed, NetLimits::default()) };
    Net::bind(config, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await.unwrap()
}

#[tokio::test]
async fn a_wrong_clock_is_noticed_by_both_sides_of_it() {
    let right = node(1, Some(|| 1_000_000_000)).await;
    let wrong = node(2, Some(|| 1_000_000_000 - 90_000)).await;
    let none = node(3, None).await;
    for other in [&wrong, &none] {
        right.add_peer(other.addr()).unwrap();
    }
    wrong.add_peer(right.addr()).unwrap();
    let (mut to_right, mut to_wrong) = (right.pull_entries(), wrong.pull_entries());
    until_caught_up(&mut to_right).await;
    until_caught_up(&mut to_right).await;
    until_caught_up(&mut to_wrong).await;
    let (seen, by_wrong) = (right.skews(), wrong.skews());
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [wrong.id()], "who has no clock says nothing of it");
    for (skew, expected) in [(seen[&wrong.id()], -90_000_i64), (by_wrong[&right.id()], 90_000)] {
        assert!((skew.ahead_ms - expected).unsigned_abs() <= skew.error_ms, "{skew:?}");
        assert!(skew.exceeds(Duration::from_secs(5)), "{skew:?}");
        assert!(!skew.exceeds(Duration::from_secs(95)), "{skew:?}");
    }
    for net in [right, wrong, none] {
        soon(net.shutdown()).await;
    }
}

#[test]
fn the_bound_is_half_of_the_way_there_and_back() {
    let skew = |took: u64, theirs| Skew::of(1_000_000, Duration::from_millis(took), theirs);
    assert_eq!(skew(100, 1_000_050), Some(Skew { ahead_ms: 0, error_ms: 51 }));
    assert_eq!(skew(0, 999_000), Some(Skew { ahead_ms: -1000, error_ms: 1 }));
    assert_eq!(skew(100, 0), None);
    // The slower the answer, the larger the possible error.
    assert!(!skew(20_000, 1_010_000 + 9_000).unwrap().exceeds(Duration::from_secs(5)));
    assert!(skew(2_000, 1_001_000 + 9_000).unwrap().exceeds(Duration::from_secs(5)));
    // Extreme values do not overflow.
    assert!(skew(u64::MAX, u64::MAX).is_some());
    assert!(Skew::of(0, Duration::ZERO, u64::MAX).unwrap().exceeds(Duration::MAX.min(Duration::from_secs(9))));
}
