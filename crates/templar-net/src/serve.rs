//! The answering side of sync: sends a reader everything in the [`Log`] after its cursor, and then waits with it.
//!
//! Invariant: a reader costs one task, one frame and one batch of entries at a time, however slow or hostile it is;
//! what it says is bounded, checked, and believed only about its own addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, SendStream, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use templar_manifest::Hash;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::book::{Book, Source};
use crate::gate::Gate;
use crate::lines::Lines;
use crate::peer::{MAX_ADDRS, PeerAddr, PeerId, short};
use crate::wire::{
    Cursor, MAX_ENTRY_BYTES, MAX_PEERS_SENT, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, WireError, decode,
    read_body, read_len, write,
};

/// Entries taken from the log at a time.
const BATCH_ENTRIES: usize = 64;

/// Bytes taken from the log at a time, beyond the first entry.
const BATCH_BYTES: usize = 1 << 20;

/// What this node has accepted, in the order in which it did: what the sync protocol serves.
///
/// Entries are numbered from 1, without end and never renumbered. They are opaque here; each is at most
/// [`MAX_ENTRY_BYTES`](crate::MAX_ENTRY_BYTES) long. All functions are called from async tasks and must not block.
pub trait Log: Send + Sync + 'static {
    /// The run that the log belongs to.
    fn run(&self) -> Hash;

    /// Entries with a number above `seq`, ascending: at most `max_entries`, and at most `max_bytes` in all except that
    /// the first is always given.
    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)>;

    /// The number of the last entry, as it grows.
    fn changed(&self) -> watch::Receiver<u64>;
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
    pub(crate) gate: Arc<Gate>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) stall_timeout: Duration,
}

impl std::fmt::Debug for SyncServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncServer")
    }
}

/// How serving a reader ended, other than by the reader going away.
enum Ended {
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
        let Some(_pass) = self.gate.admit(peer) else {
            connection.close(code::BUSY, b"too many connections");
            return Ok(());
        };
        self.lines.add(&connection);
        match self.serve(&connection, &peer).await {
            Ok(()) => {}
            Err(Ended::Refused(refusal)) => {
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
            let refusal = Refusal::WrongRun { run: self.log.run() };
            self.reply(&mut send, &Reply::Refused(refusal)).await?;
            send.finish().ok();
            return Err(Ended::Refused(refusal));
        }
        // Taken in before the answer: of two nodes that know only us, the later always learns of the earlier.
        self.meet(*peer, request.addrs);
        self.reply(&mut send, &Reply::Peers(self.book.shareable(Some(peer), MAX_PEERS_SENT))).await?;
        self.entries(connection, &mut send, self.start_after(request.after)).await
    }

    async fn request(&self, connection: &Connection) -> Result<(SendStream, Request), WireError> {
        let (send, mut recv) = connection.accept_bi().await.map_err(|error| WireError::Lost(error.to_string()))?;
        let len = read_len(&mut recv, MAX_REQUEST).await?;
        let body = read_body(&mut recv, len).await?;
        let request: Request = decode(&body)?;
        if request.addrs.len() > MAX_ADDRS { Err(WireError::Garbage) } else { Ok((send, request)) }
    }

    fn meet(&self, peer: PeerId, addrs: Vec<SocketAddr>) {
        let Some(addr) = (PeerAddr { id: peer, addrs }).usable() else { return };
        let before = self.book.addr(&peer).and_then(|known| known.addrs.first().copied());
        let moved = before.is_some() && before != addr.addrs.first().copied();
        if self.book.learn(addr, Source::Announced) {
            self.book.met(&peer);
        }
        if moved && self.lines.count(&peer) > 1 {
            // One node listens at one place, so the other lines lead to a process that is gone.
            self.lines.hang_up(&peer);
        }
    }

    /// The cursor counts only if our log still has that very entry at that place; else the reader starts over.
    fn start_after(&self, cursor: Option<Cursor>) -> u64 {
        let Some(Cursor { seq, entry }) = cursor else { return 0 };
        let Some(before) = seq.checked_sub(1) else { return 0 };
        match self.log.after(before, 1, MAX_ENTRY_BYTES).first() {
            Some((found, bytes)) if *found == seq && Hash::of(bytes) == entry => seq,
            _ => 0,
        }
    }

    async fn entries(&self, connection: &Connection, send: &mut SendStream, mut seq: u64) -> Result<(), Ended> {
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
                self.reply(send, &Reply::Entry { seq, bytes: &bytes }).await?;
            }
        }
    }

    async fn reply(&self, send: &mut SendStream, reply: &Reply<'_>) -> Result<(), Ended> {
        let written = timeout(self.stall_timeout, write(send, reply, MAX_REPLY)).await;
        written.map_err(|_| Ended::Stalled)?.map_err(Ended::Wire)
    }
}
