//! What all requests of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::clock::{Clock, unix_seconds};
use super::limits::Limits;
use crate::api::{ApiError, Label, Request};
use crate::engine::{Asker, Busy, Event, Worker};
use crate::keys::{Admitted, ApiKeys};
use crate::metrics::ServeMetrics;
use crate::served::Served;

/// How many requests are understood at the same time. A body takes many times its length while it is.
const UNDERSTOOD_AT_ONCE: usize = 4;

/// The model, the thread that computes, and the keys.
#[derive(Debug)]
pub(super) struct Shared {
    current: RwLock<Arc<Served>>,
    worker: Worker,
    keys: Option<ApiKeys>,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<ServeMetrics>,
    /// The turns of requests that are being understood.
    pub(super) turns: Semaphore,
    clock: Clock,
    pub(super) started: u64,
    /// Tells the answers of this server from those of another.
    salt: u64,
    answers: AtomicU64,
    is_stopping: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        served: Served,
        worker: Worker,
        keys: Option<ApiKeys>,
        limits: Limits,
        metrics: Arc<ServeMetrics>,
    ) -> Self {
        Self {
            current: RwLock::new(Arc::new(served)),
            worker,
            keys,
            limits,
            metrics,
            turns: Semaphore::new(UNDERSTOOD_AT_ONCE),
            clock: Clock::start(),
            started: unix_seconds(),
            salt: random(),
            answers: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The model that new requests use.
    pub(super) fn served(&self) -> Arc<Served> {
        self.current.read().clone()
    }

    pub(super) fn swap(&self, served: Served) {
        *self.current.write() = Arc::new(served);
        self.metrics.models_swapped.inc();
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether requests are answered.
    pub(super) fn is_well(&self) -> bool {
        self.worker.is_alive() && !self.is_stopping.load(Ordering::Relaxed)
    }

    /// Lets a request in. Returns the accounts of its key, where keys are asked for.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Option<Admitted>, ApiError> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        keys.admit(shown, self.clock.now_ms()).map(Some)
    }

    /// Charges the key of a request with its tokens, and counts them.
    pub(super) fn charge(&self, key: Option<&Admitted>, prompted: u64, generated: u64) {
        self.metrics.tokens_prompted.inc_by(prompted);
        self.metrics.tokens_generated.inc_by(generated);
        if let Some(key) = key {
            key.charge(prompted + generated, self.clock.now_ms());
        }
    }

    /// Hands the questions of a request to the thread that computes. All requests of one key are one asker's.
    pub(super) fn submit(
        &self,
        served: &Arc<Served>,
        request: &Request,
        key: Option<&Admitted>,
    ) -> Result<UnboundedReceiver<Event>, ApiError> {
        if !self.is_well() {
            return Err(ApiError::stopping());
        }
        let mut places = self.worker.reserve(request.texts()).map_err(|Busy { limit }| {
            if request.texts() > limit { ApiError::too_many(request.texts(), limit) } else { ApiError::busy(limit) }
        })?;
        let (events, receiver) = unbounded_channel();
        let asker = key.map_or_else(Asker::default, Admitted::asker);
        for mut job in request.jobs(&asker, served, &events)? {
            job.places = places.split(job.texts.len());
            self.worker.submit(job);
        }
        Ok(receiver)
    }

    /// The label of the next answer.
    pub(super) fn label(&self, kind: &str) -> Label {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        Label { id: format!("{kind}-{:016x}-{number}", self.salt), created: unix_seconds() }
    }
}

/// A number that nobody has chosen. A system without random numbers gives 0, and answers repeat.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

/// The headers that tell which model answers.
pub(super) fn about(served: &Served) -> HeaderMap {
    let about = served.about();
    let known = [
        ("x-templar-checkpoint", &about.checkpoint),
        ("x-templar-run", &about.run),
        ("x-templar-licence", &about.licence),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in known {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}
