//! The answering side of sync: sends a reader everything in the [`Log`] after its cursor, and then waits with it.
//!
//! Invariant: a reader costs one task, one frame and one batch of entries at a time, however slow or hostile it is;
//! what it says is bounded, checked, and believed only about its own addresses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, SendStream, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use templar_manifest::Hash;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::book::{Book, Source};
use crate::clock::Clocks;
use crate::gate::Door;
use crate::lines::Lines;
use crate::metrics::NetMetrics;
use crate::neighbours::Neighbours;
use crate::peer::{Addr, MAX_ADDRS, PeerAddr, PeerId, short};
use crate::wire::{
    Ask, Cursor, MAX_ENTRY_BYTES, MAX_MILESTONES, MAX_PEERS_SENT, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request,
    WireError, decode, read_body, read_len, write,
};

/// Entries taken from the log at a time.
const BATCH_ENTRIES: usize = 64;

/// Bytes taken from the log at a time, beyond the first entry.
const BATCH_BYTES: usize = 1 << 20;

/// What this node has accepted, in the order in which it did: what the sync protocol serves.
///
/// Entries are numbered from 1, without end and never renumbered. They are opaque here; each is at most
/// [`MAX_ENTRY_BYTES`](crate::MAX_ENTRY_BYTES) long. All functions are called from async tasks and must not block.
///
/// A *milestone* is a point that nodes reach together, whatever the order of their logs: who has reached it needs nothing
/// that any log has before it. A reader names those it has reached, and is sent only what comes after.
pub trait Log: Send + Sync + 'static {
    /// The run that the log belongs to.
    fn run(&self) -> Hash;

    /// Entries with a number above `seq`, ascending: at most `max_entries`, and at most `max_bytes` in all except that
    /// the first is always given.
    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)>;

    /// The number of the last entry, as it grows.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Milestones that this log has reached, newest first: the latest, and earlier ones ever sparser, at most `max`.
    fn milestones(&self, max: usize) -> Vec<Hash> {
        let _ = max;
        Vec::new()
    }

    /// The number of the last entry that who has reached `milestone` does not need; none if this log has not reached it.
    fn reached(&self, milestone: &Hash) -> Option<u64> {
        let _ = milestone;
        None
    }
}

/// A log without entries, for nodes that only fetch.
#[derive(Debug)]
pub struct EmptyLog {
    run: Hash,
    last: watch::Sender<u64>,
}

impl EmptyLog {
    /// The empty log of `run`.
    pub fn new(run: Hash) -> Self {
        Self { run, last: watch::Sender::new(0) }
    }
}

impl Log for EmptyLog {
    fn run(&self) -> Hash {
        self.run
    }

    fn after(&self, _seq: u64, _max_entries: usize, _max_bytes: usize) -> Vec<(u64, Bytes)> {
        Vec::new()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

/// Close codes of the sync protocol.
pub(crate) mod code {
    use super::VarInt;

    pub(crate) const DONE: VarInt = VarInt::from_u32(0);
    pub(crate) const REFUSED: VarInt = VarInt::from_u32(1);
    pub(crate) const BUSY: VarInt = VarInt::from_u32(2);
    pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);
    pub(crate) const STALLED: VarInt = VarInt::from_u32(4);
}

/// Accepts sync connections.
pub(crate) struct SyncServer {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) book: Arc<Book>,
    pub(crate) door: Door,
    pub(crate) lines: Arc<Lines>,
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

/// How serving a reader ended, other than by the reader going away.
enum Ended {
    /// There was only one answer to give.
    Answered,
    Refused(Refusal),
    Stalled,
    Wire(WireError),
    LogGone,
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl ProtocolHandler for SyncServer {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = *connection.remote_id().as_bytes();
        let Some(_pass) = self.door.enter(&connection, code::BUSY) else { return Ok(()) };
        match self.serve(&connection, &peer).await {
            Ok(()) => {}
            Err(Ended::Answered) => {
                timeout(self.stall_timeout, connection.closed()).await.ok();
                connection.close(code::DONE, b"done");
            }
            Err(Ended::Refused(refusal)) => {
                self.metrics.requests_refused.inc();
                tracing::debug!(peer = short(&peer), ?refusal, "refused to sync");
                // The reader closes once it has read the reason.
                timeout(self.stall_timeout, connection.closed()).await.ok();
                connection.close(code::REFUSED, b"refused");
            }
            Err(Ended::Stalled) => {
                self.book.note(&peer, "stalled while reading our log".to_owned());
                connection.close(code::STALLED, b"stalled");
            }
            Err(Ended::Wire(error)) => {
                tracing::debug!(peer = short(&peer), %error, "a sync request ended");
                if error.is_misbehaviour() {
                    self.book.blame(&peer, format!("sent a sync request we cannot accept: {error}"));
                    connection.close(code::PROTOCOL, b"protocol violation");
                }
            }
            Err(Ended::LogGone) => connection.close(code::DONE, b"done"),
        }
        Ok(())
    }
}

impl SyncServer {
    async fn serve(&self, connection: &Connection, peer: &PeerId) -> Result<(), Ended> {
        let (mut send, request) =
            timeout(self.stall_timeout, self.request(connection)).await.map_err(|_| Ended::Stalled)??;
        if request.run != self.log.run() {
            return self.refuse(&mut send, Refusal::WrongRun { run: self.log.run() }).await;
        }
        let Ask::Log { after, reached, addrs } = request.ask else {
            let peers = self.book.shareable(Some(peer), MAX_PEERS_SENT);
            self.reply(&mut send, &Reply::Hello { unix_ms: self.clocks.unix_ms(), peers }).await?;
            send.finish().ok();
            return Err(Ended::Answered);
        };
        // Taken in before the answer: of two nodes that know only us, the later always learns of the earlier.
        self.meet(*peer, addrs);
        let follower = self.neighbours.admit(*peer);
        let peers = self.book.shareable(Some(peer), MAX_PEERS_SENT);
        self.reply(&mut send, &Reply::Hello { unix_ms: self.clocks.unix_ms(), peers }).await?;
        if follower.is_none() {
            return self.refuse(&mut send, Refusal::Busy).await;
        }
        self.entries(connection, peer, &mut send, self.start_after(after, &reached)).await
    }

    async fn refuse(&self, send: &mut SendStream, refusal: Refusal) -> Result<(), Ended> {
        self.reply(send, &Reply::Refused(refusal)).await?;
        send.finish().ok();
        Err(Ended::Refused(refusal))
    }

    async fn request(&self, connection: &Connection) -> Result<(SendStream, Request), WireError> {
        let (send, mut recv) = connection.accept_bi().await.map_err(|error| WireError::Lost(error.to_string()))?;
        let len = read_len(&mut recv, MAX_REQUEST).await?;
        let body = read_body(&mut recv, len).await?;
        let request: Request = decode(&body)?;
        match &request.ask {
            Ask::Log { addrs, reached, .. } if addrs.len() > MAX_ADDRS || reached.len() > MAX_MILESTONES => {
                Err(WireError::Garbage)
            }
            _ => Ok((send, request)),
        }
    }

    fn meet(&self, peer: PeerId, addrs: Vec<Addr>) {
        let Some(addr) = (PeerAddr { id: peer, addrs }).usable() else { return };
        let before = self.book.addr(&peer).and_then(|known| known.addrs.first().cloned());
        let moved = before.is_some() && before.as_ref() != addr.addrs.first();
        if self.book.learn(addr, Source::Announced) {
            self.book.met(&peer);
        }
        if moved && self.lines.count(&peer) > 1 {
            // One node listens at one place, so the other lines lead to a process that is gone.
            self.lines.hang_up(&peer);
        }
    }

    /// After which entry a reader starts: behind the latest milestone that both sides have reached, or where it stopped.
    fn start_after(&self, cursor: Option<Cursor>, reached: &[Hash]) -> u64 {
        let milestone = reached.iter().find_map(|milestone| self.log.reached(milestone)).unwrap_or(0);
        milestone.max(self.stopped_at(cursor))
    }

    /// The cursor counts only if our log still has that very entry at that place.
    fn stopped_at(&self, cursor: Option<Cursor>) -> u64 {
        let Some(Cursor { seq, entry }) = cursor else { return 0 };
        let Some(before) = seq.checked_sub(1) else { return 0 };
        match self.log.after(before, 1, MAX_ENTRY_BYTES).first() {
            Some((found, bytes)) if *found == seq && Hash::of(bytes) == entry => seq,
            _ => 0,
        }
    }

    async fn entries(
        &self,
        connection: &Connection,
        peer: &PeerId,
        send: &mut SendStream,
        mut seq: u64,
    ) -> Result<(), Ended> {
        let mut changed = self.log.changed();
        let mut caught_up = false;
        loop {
            // Marked as seen before the log is read: a later change wakes us, an earlier one is read below.
            changed.borrow_and_update();
            let batch = self.log.after(seq, BATCH_ENTRIES, BATCH_BYTES);
            if batch.is_empty() {
                if !caught_up {
                    self.reply(send, &Reply::CaughtUp).await?;
                    caught_up = true;
                }
                tokio::select! {
                    change = changed.changed() => change.map_err(|_| Ended::LogGone)?,
                    _ = connection.closed() => return Ok(()),
                }
                continue;
            }
            caught_up = false;
            for (number, bytes) in batch {
                if number <= seq {
                    tracing::error!(number, "the log gave an entry out of order");
                    return Err(Ended::LogGone);
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
                self.reply(send, &Reply::Entry { seq, bytes: &bytes }).await?;
                self.metrics.entries_sent.inc();
                self.metrics.entry_bytes_sent.inc_by(bytes.len() as u64);
            }
        }
    }

    async fn reply(&self, send: &mut SendStream, reply: &Reply<'_>) -> Result<(), Ended> {
        let written = timeout(self.stall_timeout, write(send, reply, MAX_REPLY)).await;
        written.map_err(|_| Ended::Stalled)?.map_err(Ended::Wire)
    }
}
