//! A token bucket bounds how many bytes per second pass, over everybody who takes from it.
//!
//! Invariant: in any stretch of time no more bytes pass than the rate allows, plus one burst. A caller waits
//! until its own bytes are paid for, and callers are served in the order in which they came.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The bytes that may pass at once after a pause, expressed as a time at the full rate.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket, shared by all transfers in one direction.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// `None` lets everything pass.
    bytes_per_second: Option<u64>,
    /// The moment at which everything taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl TokenBucket {
    /// A full bucket with this rate. `None` sets no bound.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: bytes_per_second.map(|rate| rate.max(1)), paid: Mutex::new(None) }
    }

    /// Waits until `bytes` bytes may pass.
    pub(crate) async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let mut paid = self.paid.lock().await;
        let now = Instant::now();
        // A pause earns one burst and no more.
        let oldest = now.checked_sub(BURST).unwrap_or(now);
        let from = paid.unwrap_or(oldest).max(oldest);
        let until = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *paid = Some(until);
        if until > now {
            // The lock is held during the wait, so that later callers queue behind this one.
            sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds that `takes` calls for 1000 bytes each need, one after another.
    async fn seconds(bucket: &TokenBucket, takes: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..takes {
            bucket.take(1000).await;
        }
        start.elapsed().as_secs_f64()
    }

    #[tokio::test]
    async fn no_more_passes_than_the_rate_and_one_burst() {
        let bucket = TokenBucket::new(Some(100_000));
        // 40,000 bytes; the first 10,000 pass at once.
        let spent = seconds(&bucket, 40).await;
        assert!(spent >= 0.299, "{spent}");
        let (one, two) = tokio::join!(seconds(&bucket, 10), seconds(&bucket, 10));
        // 20,000 bytes; 10,000 of them pass at once if there was a pause before.
        assert!(one.max(two) >= 0.099, "two takers share: {one} {two}");
    }

    #[tokio::test]
    async fn without_a_rate_nothing_waits() {
        let bucket = TokenBucket::new(None);
        bucket.take(usize::MAX).await;
    }
}
