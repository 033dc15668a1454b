//! One connection per peer and protocol, made when needed and shared by all fetches.
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
use crate::have::HAVE_ALPN;
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

/// A protocol, and a peer with whom it is spoken.
type Line = (&'static [u8], PeerId);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    book: Arc<Book>,
    lines: Arc<Lines>,
    connect_timeout: Duration,
    slots: Mutex<BTreeMap<Line, Arc<Slot>>>,
}

/// Why there is no connection.
struct Missed {
    reason: String,
    /// Whether this is the attempt's own failure, and not one that another waited for.
    first: bool,
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, book: Arc<Book>, lines: Arc<Lines>, connect_timeout: Duration) -> Self {
        Self { endpoint, book, lines, connect_timeout, slots: Mutex::default() }
    }

    fn slot(&self, alpn: &'static [u8], peer: &PeerId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(&(alpn, *peer)) {
            // Peers that the book forgot are of no further use.
            slots.retain(|(_, id), _| self.book.addr(id).is_some());
        }
        slots.entry((alpn, *peer)).or_default().clone()
    }

    /// A live blobs connection to `peer`, or why there is none.
    pub(crate) async fn connection(&self, peer: &PeerId) -> Result<Connection, String> {
        let connected = self.connect(iroh_blobs::ALPN, peer).await;
        match &connected {
            Ok(_) => self.book.met(peer),
            Err(Missed { reason, first: true }) => self.book.unreachable(peer, reason.clone()),
            Err(_) => {}
        }
        connected.map_err(|missed| missed.reason)
    }

    /// A live connection on which `peer` says what it has, or why there is none. A peer that does not know the protocol
    /// is no worse for it.
    pub(crate) async fn have_connection(&self, peer: &PeerId) -> Result<Connection, String> {
        self.connect(HAVE_ALPN, peer).await.map_err(|missed| missed.reason)
    }

    async fn connect(&self, alpn: &'static [u8], peer: &PeerId) -> Result<Connection, Missed> {
        let missed = |reason: &str| Missed { reason: reason.to_owned(), first: false };
        let addr = self.book.dial(peer).map_err(|reason| missed(&reason))?;
        let slot = self.slot(alpn, peer);
        let seen = slot.attempts.load(Ordering::SeqCst);
        let mut state = slot.state.lock().await;
        if let Some(connection) = &state.connection
            && connection.close_reason().is_none()
        {
            return Ok(connection.clone());
        }
        if slot.attempts.load(Ordering::SeqCst) != seen {
            return Err(missed(&state.failure));
        }
        let attempt = timeout(self.connect_timeout, self.endpoint.connect(addr, alpn)).await;
        slot.attempts.fetch_add(1, Ordering::SeqCst);
        let failure = match attempt {
            Ok(Ok(connection)) => {
                self.lines.add(&connection);
                state.connection = Some(connection.clone());
                return Ok(connection);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        state.connection = None;
        state.failure.clone_from(&failure);
        Err(Missed { reason: failure, first: true })
    }
}
