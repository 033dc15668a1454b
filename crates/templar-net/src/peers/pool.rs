//! The connections that fetches use: one per peer and protocol, made when needed and shared by all fetches.
//!
//! Invariant: fetches that wait for the same peer share one attempt and its failure, so an absent peer costs
//! one timeout and not one per blob.
//!
//! # Why not `iroh_blobs::util::connection_pool`
//!
//! That pool (of the crate `iroh-util`, version 0.7) also reuses connections and shares attempts. It closes a
//! connection that was unused for some time; this pool keeps it while the peer is in the book, because each
//! window asks the same peers again. Four things are missing there:
//!
//! - It dials an id and leaves the address to the endpoint's lookup services. The addresses of this crate are
//!   in the [`Book`], which also leaves out relays that this node may not use.
//! - All callers that wait for an attempt get the same error, so a failure cannot be counted once. Here only
//!   the caller that made the attempt counts it in the book, where
//!   [`PATIENT_ATTEMPTS`](crate::peers::book::PATIENT_ATTEMPTS) failures replace a neighbour.
//! - Its actor is a detached task that ends when the last handle is dropped, and nobody can wait for it. Here
//!   every task has ended when [`Net::shutdown`](crate::Net::shutdown) returns.
//! - One pool speaks one protocol, and each request for a connection is logged at the level `info`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::Connection;
use tokio::time::timeout;

use crate::foreign::ForeignText;
use crate::peers::book::Book;
use crate::peers::connections::Connections;
use crate::peers::peer::PeerId;
use crate::words;

/// The place of one connection.
#[derive(Debug, Default)]
struct Slot {
    /// Counts finished attempts, so that a waiting caller can tell whether one ended while it waited.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    connection: Option<Connection>,
    /// The reason why the last attempt failed.
    failure: ForeignText,
}

/// A protocol's name in the handshake, and the peer with which it is spoken.
type SlotKey = (&'static [u8], PeerId);

/// The connections that this node made for fetching.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    book: Arc<Book>,
    connections: Arc<Connections>,
    connect_timeout: Duration,
    slots: Mutex<BTreeMap<SlotKey, Arc<Slot>>>,
}

/// The failure of an attempt to connect.
struct Missed {
    reason: ForeignText,
    /// Whether this caller made the attempt. Other callers only waited for it.
    first: bool,
}

impl Pool {
    /// A pool without connections.
    pub(crate) fn new(
        endpoint: Endpoint,
        book: Arc<Book>,
        connections: Arc<Connections>,
        connect_timeout: Duration,
    ) -> Self {
        Self { endpoint, book, connections, connect_timeout, slots: Mutex::default() }
    }

    fn slot(&self, alpn: &'static [u8], peer: &PeerId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(&(alpn, *peer)) {
            // Slots of peers that the book has forgotten are of no further use.
            slots.retain(|(_, id), _| self.book.addr(id).is_some());
        }
        slots.entry((alpn, *peer)).or_default().clone()
    }

    /// An open connection to `peer` for the protocol `alpn`. The book hears of success and of failure.
    ///
    /// # Errors
    /// The reason why there is no connection, as text for people.
    pub(crate) async fn connection(&self, alpn: &'static [u8], peer: &PeerId) -> Result<Connection, ForeignText> {
        let connected = self.connect(alpn, peer).await;
        match &connected {
            Ok(_) => self.book.met(peer),
            Err(Missed { reason, first: true }) => self.book.unreachable(peer, reason.clone()),
            Err(_) => {}
        }
        connected.map_err(|missed| missed.reason)
    }

    /// An open connection to `peer` for a protocol that it need not know. The book does not hear of a failure.
    ///
    /// # Errors
    /// The reason why there is no connection, as text for people.
    pub(crate) async fn optional_connection(
        &self,
        alpn: &'static [u8],
        peer: &PeerId,
    ) -> Result<Connection, ForeignText> {
        self.connect(alpn, peer).await.map_err(|missed| missed.reason)
    }

    async fn connect(&self, alpn: &'static [u8], peer: &PeerId) -> Result<Connection, Missed> {
        let missed = |reason: ForeignText| Missed { reason, first: false };
        let is_connected = self.connections.count(peer) > 0;
        let addr = self.book.dial(peer, is_connected).map_err(|reason| missed(ForeignText::of(reason)))?;
        let slot = self.slot(alpn, peer);
        let seen = slot.attempts.load(Ordering::SeqCst);
        // The lock is held during an attempt, so callers for the same peer wait here.
        let mut state = slot.state.lock().await;
        if let Some(connection) = &state.connection
            && connection.close_reason().is_none()
        {
            return Ok(connection.clone());
        }
        if slot.attempts.load(Ordering::SeqCst) != seen {
            return Err(missed(state.failure.clone()));
        }
        let attempt = timeout(self.connect_timeout, self.endpoint.connect(addr, alpn)).await;
        slot.attempts.fetch_add(1, Ordering::SeqCst);
        let failure = match attempt {
            Ok(Ok(connection)) => {
                self.connections.add(&connection);
                state.connection = Some(connection.clone());
                return Ok(connection);
            }
            Ok(Err(error)) => words::unconnected(&error),
            Err(_) => ForeignText::of("no answer"),
        };
        state.connection = None;
        state.failure.clone_from(&failure);
        Err(Missed { reason: failure, first: true })
    }
}
