//! How much a key may use, and how much of that is left.
//!
//! A quota is a bucket that fills evenly. Requests are taken from it before they are computed, tokens afterwards, when
//! their number is known; a bucket can be overdrawn by one request, and fills from there.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::engine::Asker;

const MINUTE_MS: f64 = 60_000.0;
const DAY_MS: f64 = 86_400_000.0;

/// What a key may use. Without a number there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a day, of prompts and of answers together.
    pub tokens_per_day: Option<u64>,
}

/// What is left of an allowance.
#[derive(Debug)]
pub(super) struct Account {
    asker: Asker,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

/// The accounts that a request which was let in is charged to. The last is that of the key which the issuer signed, or
/// of the one that is listed.
#[derive(Debug, Clone)]
pub(crate) struct Admitted(pub(super) Vec<Arc<Account>>);

/// A quota that fills evenly.
#[derive(Debug)]
struct Bucket {
    most: f64,
    level: f64,
    /// Milliseconds in which an empty bucket fills.
    fills_in_ms: f64,
    at_ms: u64,
}

impl Account {
    pub(super) fn new(allowance: &Allowance) -> Self {
        let bucket = |most: f64, fills_in_ms| Mutex::new(Bucket { most, level: most, fills_in_ms, at_ms: 0 });
        Self {
            asker: Asker::default(),
            requests: allowance.requests_per_minute.map(|most| bucket(f64::from(most), MINUTE_MS)),
            tokens: allowance.tokens_per_day.map(|most| bucket(most as f64, DAY_MS)),
        }
    }

    /// Takes a request.
    pub(super) fn admit(&self, now_ms: u64) -> Result<(), ApiError> {
        if let Some(tokens) = &self.tokens {
            tokens.lock().take(0.0, now_ms).map_err(|wait| ApiError::quota("tokens", wait))?;
        }
        if let Some(requests) = &self.requests {
            requests.lock().take(1.0, now_ms).map_err(|wait| ApiError::quota("requests", wait))?;
        }
        Ok(())
    }

    /// Whether everything is left, so that a new account would be the same.
    pub(super) fn is_full(&self, now_ms: u64) -> bool {
        [&self.requests, &self.tokens].into_iter().flatten().all(|bucket| {
            let mut bucket = bucket.lock();
            bucket.fill(now_ms);
            bucket.level >= bucket.most
        })
    }
}

impl Admitted {
    /// Who asks. All keys that were made from one key are one asker.
    pub(crate) fn asker(&self) -> Asker {
        self.0.last().map(|account| account.asker.clone()).unwrap_or_default()
    }

    /// Takes the tokens of a request from the quotas of its key.
    pub(crate) fn charge(&self, tokens: u64, now_ms: u64) {
        for bucket in self.0.iter().filter_map(|account| account.tokens.as_ref()) {
            let mut bucket = bucket.lock();
            bucket.fill(now_ms);
            bucket.level -= tokens as f64;
        }
    }
}

impl Bucket {
    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms) as f64;
        self.at_ms = self.at_ms.max(now_ms);
        self.level = (self.level + self.most * passed / self.fills_in_ms).min(self.most);
    }

    /// Takes `amount`, or with 0 looks whether anything is left. The error is the wait in seconds.
    fn take(&mut self, amount: f64, now_ms: u64) -> Result<(), u64> {
        self.fill(now_ms);
        let needed = if amount > 0.0 { amount } else { 1.0 };
        if self.level >= needed {
            self.level -= amount;
            return Ok(());
        }
        let wait_ms = (needed - self.level) / self.most.max(f64::MIN_POSITIVE) * self.fills_in_ms;
        Err(((wait_ms / 1000.0).ceil() as u64).clamp(1, 86_400))
    }
}
