//! The asking side of sync: one task per known peer that reads the peer's log from where it stopped, for ever.
//!
//! Invariant: entries wait in one bounded channel, so a flood ends at the network's flow control; a peer that goes away
//! is tried again after growing pauses, one that breaks the protocol is left alone for longer, and all tasks end with
//! their supervisor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream};
use templar_manifest::Hash;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::book::{Book, Source};
use crate::config::Limits;
use crate::lines::Lines;
use crate::peer::{PeerAddr, PeerId, short};
use crate::serve::code;
use crate::wire::{
    Cursor, MAX_PEERS_SENT, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, SYNC_ALPN, WireError, decode, read_body,
    read_len, write,
};

/// The pause after the first failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What arrives from peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulled {
    /// An entry of the peer's log, unchecked. The same entry usually comes from every peer.
    Entry {
        /// Who sent it, which says nothing about who made it.
        peer: PeerId,
        /// The entry, at most [`MAX_ENTRY_BYTES`](crate::MAX_ENTRY_BYTES) long.
        bytes: Bytes,
    },
    /// The peer has sent everything that it has at this moment.
    CaughtUp {
        /// The peer.
        peer: PeerId,
    },
}

/// What every pulling task needs.
pub(crate) struct Puller {
    pub(crate) endpoint: Endpoint,
    pub(crate) book: Arc<Book>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) run: Hash,
    pub(crate) limits: Limits,
    /// Where we listen, as it is when asked.
    pub(crate) own_addr: Box<dyn Fn() -> PeerAddr + Send + Sync>,
    pub(crate) out: mpsc::Sender<Pulled>,
}

/// Why a pull ended.
#[derive(Debug)]
enum PullError {
    Connect(String),
    /// It came to us, maybe from a new address, while we were still knocking at the old one.
    CameAgain,
    Wire(WireError),
    Stalled,
    Refused(Refusal),
    /// A message that is well-formed and wrong.
    Violation(&'static str),
    /// The node found what the peer sends to be invalid.
    Blamed,
    /// Nobody takes the entries any more.
    ReceiverGone,
}

impl From<WireError> for PullError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Keeps one task per peer in the book until `stop` says so or nobody takes the entries any more.
pub(crate) async fn supervise(puller: Puller, mut stop: watch::Receiver<bool>) {
    let puller = Arc::new(puller);
    let mut changes = puller.book.changes();
    let mut running = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        changes.borrow_and_update();
        for peer in puller.book.ids() {
            if running.insert(peer) {
                let puller = puller.clone();
                tasks.spawn(async move {
                    puller.follow(&peer).await;
                    peer
                });
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok(peer) => { running.remove(&peer); }
                Err(error) => tracing::error!(%error, "a task that pulls entries ended badly"),
            },
            _ = stop.wait_for(|stop| *stop) => break,
            () = puller.out.closed() => break,
        }
    }
    tasks.shutdown().await;
}

impl Puller {
    /// Pulls from one peer until the book forgets it.
    async fn follow(&self, peer: &PeerId) {
        let mut cursor = None;
        let mut pause = FIRST_PAUSE;
        let mut reached = false;
        while let Some(contacts) = self.book.contacts(peer) {
            let before: Option<Cursor> = cursor;
            let error = self.pull(peer, contacts, &mut cursor).await;
            if matches!(&error, PullError::Connect(_)) && std::mem::take(&mut reached) {
                // It answered before: it may be calling from where it is now, and iroh dialling where it was.
                self.lines.hang_up(peer);
            }
            reached |= !matches!(&error, PullError::Connect(_) | PullError::CameAgain);
            if cursor != before {
                pause = FIRST_PAUSE;
            }
            tracing::debug!(peer = short(peer), ?error, "a pull of entries ended");
            match error {
                PullError::ReceiverGone => return,
                PullError::CameAgain => continue,
                PullError::Connect(reason) => self.book.unreachable(peer, reason),
                PullError::Stalled => self.book.unreachable(peer, "stalled while sending its log".to_owned()),
                PullError::Wire(error) if !error.is_misbehaviour() => self.book.unreachable(peer, error.to_string()),
                PullError::Wire(error) => {
                    self.leave_alone(peer, format!("broke the sync protocol: {error}")).await;
                    continue;
                }
                PullError::Violation(what) => {
                    self.leave_alone(peer, format!("broke the sync protocol: {what}")).await;
                    continue;
                }
                PullError::Refused(Refusal::WrongRun { run }) => {
                    self.book.note(peer, format!("takes part in another run, {run}"));
                    sleep(self.limits.misbehaviour_pause).await;
                    continue;
                }
                PullError::Refused(Refusal::Busy) => self.book.note(peer, "has too many connections".to_owned()),
                PullError::Blamed => {
                    sleep(self.limits.misbehaviour_pause).await;
                    self.book.pardon(peer);
                    continue;
                }
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(self.limits.max_retry_pause),
                () = self.came_again(peer, contacts) => pause = FIRST_PAUSE,
            }
        }
    }

    async fn leave_alone(&self, peer: &PeerId, problem: String) {
        tracing::warn!(peer = short(peer), problem, "left alone for a while");
        self.book.blame(peer, problem);
        sleep(self.limits.misbehaviour_pause).await;
        self.book.pardon(peer);
    }

    /// Returns when the peer has come to us since `contacts`, or is no longer in the book.
    async fn came_again(&self, peer: &PeerId, contacts: u64) {
        let mut changes = self.book.changes();
        loop {
            changes.borrow_and_update();
            if self.book.contacts(peer) != Some(contacts) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn blamed(&self, peer: &PeerId) {
        let mut changes = self.book.changes();
        loop {
            changes.borrow_and_update();
            if self.book.is_blamed(peer) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn pull(&self, peer: &PeerId, contacts: u64, cursor: &mut Option<Cursor>) -> PullError {
        let connection = tokio::select! {
            connected = self.connect(peer) => match connected {
                Ok(connection) => connection,
                Err(reason) => return PullError::Connect(reason),
            },
            () = self.came_again(peer, contacts) => return PullError::CameAgain,
        };
        self.book.met(peer);
        self.lines.add(&connection);
        let error = tokio::select! {
            Err(error) = self.read(peer, &connection, cursor) => error,
            () = self.blamed(peer) => PullError::Blamed,
        };
        let (code, reason): (_, &[u8]) = match &error {
            PullError::Wire(error) if error.is_misbehaviour() => (code::PROTOCOL, b"protocol violation"),
            PullError::Violation(_) | PullError::Blamed => (code::PROTOCOL, b"protocol violation"),
            PullError::Stalled => (code::STALLED, b"stalled"),
            _ => (code::DONE, b"done"),
        };
        connection.close(code, reason);
        error
    }

    async fn connect(&self, peer: &PeerId) -> Result<Connection, String> {
        let addr = self.book.addr(peer).filter(|addr| !addr.addrs.is_empty()).ok_or("no address is known")?;
        let addr = addr.to_endpoint_addr().ok_or("not a valid key")?;
        match timeout(self.limits.connect_timeout, self.endpoint.connect(addr, SYNC_ALPN)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Reads entries until something ends it; never returns well.
    async fn read(
        &self,
        peer: &PeerId,
        connection: &Connection,
        cursor: &mut Option<Cursor>,
    ) -> Result<std::convert::Infallible, PullError> {
        let lost = |error: iroh::endpoint::ConnectionError| WireError::Lost(error.to_string());
        let (mut send, mut recv) = connection.open_bi().await.map_err(lost)?;
        let request = Request { run: self.run, after: *cursor, addrs: (self.own_addr)().addrs };
        write(&mut send, &request, MAX_REQUEST).await?;

        // The first answer comes at once. Later ones may take hours, but once begun they must come to an end.
        let mut seq = None;
        let first =
            timeout(self.limits.stall_timeout, self.frame(&mut recv)).await.map_err(|_| PullError::Stalled)??;
        match decode(&first)? {
            Reply::Peers(peers) => self.hear(peers)?,
            Reply::Refused(refusal) => return Err(PullError::Refused(refusal)),
            _ => return Err(PullError::Violation("it did not begin with its peers")),
        }
        loop {
            let frame = self.frame(&mut recv).await?;
            let mut next = *cursor;
            let pulled = match decode(&frame)? {
                Reply::Entry { seq: number, bytes } => {
                    // It starts over when its log is not the one that we read before, and only then.
                    if seq.is_some_and(|seq| number <= seq) || number == 0 {
                        return Err(PullError::Violation("its entries are out of order"));
                    }
                    seq = Some(number);
                    let bytes = frame.slice_ref(bytes);
                    next = Some(Cursor { seq: number, entry: Hash::of(&bytes) });
                    Pulled::Entry { peer: *peer, bytes }
                }
                Reply::CaughtUp => Pulled::CaughtUp { peer: *peer },
                Reply::Peers(_) | Reply::Refused(_) => {
                    return Err(PullError::Violation("a message in the wrong place"));
                }
            };
            self.out.send(pulled).await.map_err(|_| PullError::ReceiverGone)?;
            // Only now: a stream cut while the channel is full must bring this entry again.
            *cursor = next;
        }
    }

    /// One frame: waits for it as long as the connection lives, but not for the rest of one that has begun.
    async fn frame(&self, recv: &mut RecvStream) -> Result<Bytes, PullError> {
        let len = read_len(recv, MAX_REPLY).await?;
        let body = timeout(self.limits.stall_timeout, read_body(recv, len)).await;
        Ok(body.map_err(|_| PullError::Stalled)??)
    }

    fn hear(&self, peers: Vec<PeerAddr>) -> Result<(), PullError> {
        if peers.len() > MAX_PEERS_SENT {
            return Err(PullError::Violation("it names too many peers"));
        }
        for addr in peers.into_iter().filter_map(PeerAddr::usable) {
            self.book.learn(addr, Source::Heard);
        }
        Ok(())
    }
}
