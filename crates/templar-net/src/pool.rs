//! One blobs connection per peer, made when needed and shared by all fetches.
//!
//! Invariant: fetches that wait for the same peer share one attempt and its failure, so an absent peer costs one
//! timeout and not one per blob.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::Connection;
use tokio::time::timeout;

use crate::book::Book;
use crate::lines::Lines;
use crate::peer::PeerId;

#[derive(Debug, Default)]
struct Slot {
    /// Counts finished attempts, so that a waiter knows whether one ended while it waited.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    connection: Option<Connection>,
    failure: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    book: Arc<Book>,
    lines: Arc<Lines>,
    connect_timeout: Duration,
    slots: Mutex<BTreeMap<PeerId, Arc<Slot>>>,
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, book: Arc<Book>, lines: Arc<Lines>, connect_timeout: Duration) -> Self {
        Self { endpoint, book, lines, connect_timeout, slots: Mutex::default() }
    }

    fn slot(&self, peer: &PeerId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(peer) {
            // Peers that the book forgot are of no further use.
            slots.retain(|id, _| self.book.addr(id).is_some());
        }
        slots.entry(*peer).or_default().clone()
    }

    /// A live blobs connection to `peer`, or why there is none.
    pub(crate) async fn connection(&self, peer: &PeerId) -> Result<Connection, String> {
        let addr = self.book.addr(peer).filter(|addr| !addr.addrs.is_empty()).ok_or("no address is known")?;
        let addr = addr.to_endpoint_addr().ok_or("not a valid key")?;
        let slot = self.slot(peer);
        let seen = slot.attempts.load(Ordering::SeqCst);
        let mut state = slot.state.lock().await;
        if let Some(connection) = &state.connection
            && connection.close_reason().is_none()
        {
            return Ok(connection.clone());
        }
        if slot.attempts.load(Ordering::SeqCst) != seen {
            return Err(state.failure.clone());
        }
        let attempt = timeout(self.connect_timeout, self.endpoint.connect(addr, iroh_blobs::ALPN)).await;
        slot.attempts.fetch_add(1, Ordering::SeqCst);
        let failure = match attempt {
            Ok(Ok(connection)) => {
                self.book.met(peer);
                self.lines.add(&connection);
                state.connection = Some(connection.clone());
                return Ok(connection);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        state.connection = None;
        state.failure.clone_from(&failure);
        drop(state);
        self.book.unreachable(peer, failure.clone());
        Err(failure)
    }
}
