//! The answering side of sync: sends a reader all entries of the [`Log`] after its position, and then each new
//! one.
//!
//! Invariant: a reader costs one task, one frame and one batch of entries at a time, however slow or hostile it
//! is. Its request is bounded and checked, and this node believes only the addresses that it claims for itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};
use templar_manifest::Hash;
use tokio::time::timeout;
use tracing::Instrument;

use crate::frame::{FrameError, decode, read_body, read_len, write};
use crate::metrics::NetMetrics;
use crate::peers::book::{AddrSource, Book};
use crate::peers::close_code;
use crate::peers::connections::Connections;
use crate::peers::neighbours::Neighbours;
use crate::peers::peer::{Addr, MAX_ADDRS, PeerAddr, PeerId, short};
use crate::serve::places::{Inbound, Place};
use crate::sync::clock::Clocks;
use crate::sync::log::Log;
use crate::sync::wire::{
    Ask, Cursor, MAX_ENTRY_BYTES, MAX_MILESTONES, MAX_PEERS_SENT, MAX_REPLY, MAX_REQUEST, SyncRefusal, SyncReply,
    SyncRequest,
};
use crate::words;

/// The largest number of entries taken from the log at a time.
const BATCH_ENTRIES: usize = 64;

/// The largest number of bytes taken from the log at a time, beyond the first entry.
const BATCH_BYTES: usize = 1 << 20;

/// Accepts connections in the sync protocol.
pub(crate) struct SyncServer {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) book: Arc<Book>,
    pub(crate) inbound: Inbound,
    pub(crate) connections: Arc<Connections>,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) metrics: Arc<NetMetrics>,
    pub(crate) stall_timeout: Duration,
}

impl std::fmt::Debug for SyncServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncServer")
    }
}

/// The ways in which serving a reader ends, apart from the reader going away.
enum SyncEnd {
    /// The request had one answer only, which has been sent.
    Answered,
    Refused(SyncRefusal),
    /// The reader took too long to send its request or to read.
    Stalled,
    Frame(FrameError),
    /// The node dropped its log, or the log broke its own rules.
    LogGone,
}

impl From<FrameError> for SyncEnd {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl ProtocolHandler for SyncServer {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = *connection.remote_id().as_bytes();
        let Some(place) = self.inbound.admit(&connection, close_code::BUSY) else { return Ok(()) };
        let span = tracing::debug_span!("reader", peer = short(&peer));
        async {
            let served = self.serve(&connection, &peer, &place).await;
            self.close(&connection, &peer, served).await;
        }
        .instrument(span)
        .await;
        Ok(())
    }
}

impl SyncServer {
    /// Closes a connection with the code that says how it ended.
    async fn close(&self, connection: &Connection, peer: &PeerId, served: Result<(), SyncEnd>) {
        match served {
            Ok(()) => {}
            Err(SyncEnd::Answered) => {
                timeout(self.stall_timeout, connection.closed()).await.ok();
                connection.close(close_code::DONE, b"done");
            }
            Err(SyncEnd::Refused(refusal)) => {
                self.metrics.requests_refused.inc();
                tracing::debug!(?refusal, "refused to sync");
                // The reader closes the connection once it has read the reason.
                timeout(self.stall_timeout, connection.closed()).await.ok();
                connection.close(close_code::REFUSED, b"refused");
            }
            Err(SyncEnd::Stalled) => {
                self.book.note(peer, "stalled while reading our log");
                connection.close(close_code::STALLED, b"stalled");
            }
            Err(SyncEnd::Frame(error)) => {
                tracing::debug!(%error, "a sync request ended");
                if error.is_misbehaviour() {
                    self.book.blame(peer, format!("sent a sync request we cannot accept: {error}"));
                    connection.close(close_code::PROTOCOL, b"protocol violation");
                }
            }
            Err(SyncEnd::LogGone) => connection.close(close_code::DONE, b"done"),
        }
    }

    async fn serve(&self, connection: &Connection, peer: &PeerId, place: &Place) -> Result<(), SyncEnd> {
        let (mut send, request) =
            timeout(self.stall_timeout, self.request(connection)).await.map_err(|_| SyncEnd::Stalled)??;
        if request.run != self.log.run() {
            return self.refuse(&mut send, SyncRefusal::WrongRun { run: self.log.run() }).await;
        }
        let Ask::Log { after, reached, addrs } = request.ask else {
            self.greet(peer, &mut send).await?;
            send.finish().ok();
            return Err(SyncEnd::Answered);
        };
        // The reader enters the book before the greeting is sent. So of two nodes that know only this one, the
        // later always learns of the earlier. A reader without an address, such as a prober, does not want to be met.
        if !addrs.is_empty() {
            self.meet(*peer, addrs);
        }
        let follower = self.neighbours.admit(*peer);
        self.greet(peer, &mut send).await?;
        if follower.is_none() {
            return self.refuse(&mut send, SyncRefusal::Busy).await;
        }
        tracing::debug!("a peer reads our log");
        let _busy = place.busy();
        let start = self.start_after(after, &reached).await?;
        self.entries(connection, peer, &mut send, start).await
    }

    /// Sends this node's clock and the peers that it has met.
    async fn greet(&self, peer: &PeerId, send: &mut SendStream) -> Result<(), SyncEnd> {
        let peers = self.book.shareable(Some(peer), MAX_PEERS_SENT);
        self.reply(send, &SyncReply::Hello { unix_ms: self.clocks.unix_ms(), peers }).await
    }

    async fn refuse(&self, send: &mut SendStream, refusal: SyncRefusal) -> Result<(), SyncEnd> {
        self.reply(send, &SyncReply::Refused(refusal)).await?;
        send.finish().ok();
        Err(SyncEnd::Refused(refusal))
    }

    /// Reads the request of a new connection, and checks its bounds.
    async fn request(&self, connection: &Connection) -> Result<(SendStream, SyncRequest), FrameError> {
        let (send, mut recv) = connection.accept_bi().await.map_err(|error| FrameError::Lost(words::lost(&error)))?;
        let len = read_len(&mut recv, MAX_REQUEST).await?;
        let body = read_body(&mut recv, len).await?;
        let request: SyncRequest = decode(&body)?;
        match &request.ask {
            Ask::Log { addrs, reached, .. } if addrs.len() > MAX_ADDRS || reached.len() > MAX_MILESTONES => {
                Err(FrameError::Garbage)
            }
            _ => Ok((send, request)),
        }
    }

    /// Puts a reader into the address book, with the addresses that it claims.
    fn meet(&self, peer: PeerId, addrs: Vec<Addr>) {
        let Some(addr) = (PeerAddr { id: peer, addrs }).usable() else { return };
        let before = self.book.addr(&peer).and_then(|known| known.addrs.first().cloned());
        let moved = before.is_some() && before.as_ref() != addr.addrs.first();
        if self.book.learn(addr, AddrSource::Announced) {
            self.book.met(&peer);
        }
        if moved && self.connections.count(&peer) > 1 {
            // A node listens at one address, so the other connections lead to a process that is gone.
            self.connections.hang_up(&peer);
        }
    }

    /// The number of the last entry that the reader does not need: the later of the newest milestone that both
    /// sides have reached, and the position at which the reader stopped.
    async fn start_after(&self, cursor: Option<Cursor>, reached: &[Hash]) -> Result<u64, SyncEnd> {
        let milestone = reached.iter().find_map(|milestone| self.log.reached(milestone)).unwrap_or(0);
        Ok(milestone.max(self.stopped_at(cursor).await?))
    }

    /// The number of the last entry that the reader took, or 0 if this log has another entry under that number.
    async fn stopped_at(&self, cursor: Option<Cursor>) -> Result<u64, SyncEnd> {
        let Some(Cursor { seq, entry }) = cursor else { return Ok(0) };
        let Some(before) = seq.checked_sub(1) else { return Ok(0) };
        Ok(match self.after(before, 1, MAX_ENTRY_BYTES).await?.first() {
            Some((found, bytes)) if *found == seq && Hash::of(bytes) == entry => seq,
            _ => 0,
        })
    }

    /// Entries of the log. Old ones come from the disk, so they are not read on a thread that runs tasks.
    async fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, SyncEnd> {
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || log.after(seq, max_entries, max_bytes));
        read.await.map_err(|_| SyncEnd::LogGone)
    }

    /// Sends the entries after number `seq`, now and as the log grows, until the reader goes away.
    async fn entries(
        &self,
        connection: &Connection,
        peer: &PeerId,
        send: &mut SendStream,
        mut seq: u64,
    ) -> Result<(), SyncEnd> {
        let mut changed = self.log.changed();
        let mut caught_up = false;
        loop {
            // The change is marked as seen before the log is read. A later change then wakes this task, and an
            // earlier one is part of what is read below.
            changed.borrow_and_update();
            let batch = self.after(seq, BATCH_ENTRIES, BATCH_BYTES).await?;
            if batch.is_empty() {
                if !caught_up {
                    self.reply(send, &SyncReply::CaughtUp).await?;
                    caught_up = true;
                }
                tokio::select! {
                    change = changed.changed() => change.map_err(|_| SyncEnd::LogGone)?,
                    _ = connection.closed() => return Ok(()),
                }
                continue;
            }
            caught_up = false;
            for (number, bytes) in batch {
                if number <= seq {
                    tracing::error!(number, "the log gave an entry out of order");
                    return Err(SyncEnd::LogGone);
                }
                seq = number;
                if bytes.len() > MAX_ENTRY_BYTES {
                    tracing::error!(number, len = bytes.len(), "an entry of the log is too long to be sent");
                    continue;
                }
                if self.neighbours.has_from(peer, &bytes) {
                    self.metrics.entries_spared.inc();
                    continue;
                }
                self.reply(send, &SyncReply::Entry { seq, bytes: &bytes }).await?;
                self.metrics.entries_sent.inc();
                self.metrics.entry_bytes_sent.inc_by(bytes.len() as u64);
            }
        }
    }

    async fn reply(&self, send: &mut SendStream, reply: &SyncReply<'_>) -> Result<(), SyncEnd> {
        let written = timeout(self.stall_timeout, write(send, reply, MAX_REPLY)).await;
        written.map_err(|_| SyncEnd::Stalled)?.map_err(SyncEnd::Frame)
    }
}
