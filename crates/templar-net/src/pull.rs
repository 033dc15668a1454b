//! The asking side of sync: one task per known peer that reads the peer's log from where it stopped, for ever.
//!
//! Invariant: entries wait in one bounded channel, so a flood ends at the network's flow control; a peer that goes away
//! is tried again after growing pauses, one that breaks the protocol is left alone for longer, and all tasks end with
//! their supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream};
use templar_manifest::Hash;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval_at, sleep, timeout};

use crate::book::{Book, Source};
use crate::clock::Clocks;
use crate::config::Limits;
use crate::lines::Lines;
use crate::metrics::NetMetrics;
use crate::neighbours::Neighbours;
use crate::peer::{PeerAddr, PeerId, short};
use crate::serve::{Log, code};
use crate::wire::{
    Ask, Cursor, MAX_MILESTONES, MAX_PEERS_SENT, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, SYNC_ALPN, WireError,
    decode, read_body, read_len, write,
};

/// As long as no log has been read to its end, another one is begun in addition only so often: all of them hold the same
/// entries, and who has read one of them needs little of the others.
const NEXT_FIRST_READER: Duration = Duration::from_millis(500);

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
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) metrics: Arc<NetMetrics>,
    /// This node's own log: its run, and what it has reached.
    pub(crate) log: Arc<dyn Log>,
    /// Peers whose logs the node wants to read again.
    pub(crate) again: watch::Sender<BTreeSet<PeerId>>,
    /// Whether some log has been read to its end.
    pub(crate) caught_up: AtomicBool,
    pub(crate) limits: Limits,
    /// Where we listen, as it is when asked.
    pub(crate) own_addr: Box<dyn Fn() -> PeerAddr + Send + Sync>,
    pub(crate) out: mpsc::Sender<Pulled>,
}

/// Why a pull ended.
#[derive(Debug)]
enum PullError {
    Connect(String),
    /// It came to us, or somebody said where it is, while we were still knocking elsewhere.
    CameAgain,
    Wire(WireError),
    Stalled,
    Refused(Refusal),
    /// A message that is well-formed and wrong.
    Violation(&'static str),
    /// The node found what the peer sends to be invalid.
    Blamed,
    /// The node wants what came since the last milestone once more.
    Again,
    /// Nobody takes the entries any more.
    ReceiverGone,
}

impl From<WireError> for PullError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Keeps one task per neighbour until `stop` says so or nobody takes the entries any more.
pub(crate) async fn supervise(puller: Puller, mut stop: watch::Receiver<bool>) {
    let puller = Arc::new(puller);
    let mut changes = puller.book.changes();
    let mut running: BTreeMap<PeerId, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut first_readers = 1;
    let mut next = interval_at(Instant::now() + NEXT_FIRST_READER, NEXT_FIRST_READER);
    loop {
        changes.borrow_and_update();
        let caught_up = puller.caught_up.load(Ordering::Relaxed);
        let wanted = puller.neighbours.choose(puller.book.candidates());
        running.retain(|peer, task| {
            let stays = wanted.contains(peer);
            if !stays {
                task.abort();
            }
            stays
        });
        for peer in wanted {
            if !caught_up && running.len() >= first_readers {
                break;
            }
            running.entry(peer).or_insert_with(|| {
                let puller = puller.clone();
                tasks.spawn(async move { puller.follow(&peer).await })
            });
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = next.tick(), if !caught_up => first_readers += 1,
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        if error.is_panic() {
                            tracing::error!(%error, "a task that pulls entries ended badly");
                        }
                        error.id()
                    }
                };
                running.retain(|_, task| task.id() != id);
            }
            _ = stop.wait_for(|stop| *stop) => break,
            () = puller.out.closed() => break,
        }
    }
    tasks.shutdown().await;
}

/// What one peer's log was read up to, and how patient we are with it.
struct Reading {
    cursor: Option<Cursor>,
    pause: Duration,
    /// It answered before.
    reached: bool,
    read_again: Duration,
}

impl Puller {
    /// Pulls from one peer until the book forgets it.
    async fn follow(&self, peer: &PeerId) {
        let Limits { retry_pause, read_again_pause: read_again, .. } = self.limits;
        let mut reading = Reading { cursor: None, pause: retry_pause, reached: false, read_again };
        while let Some(contacts) = self.book.contacts(peer) {
            let before = reading.cursor;
            let error = self.pull(peer, contacts, &mut reading).await;
            if matches!(&error, PullError::Connect(_)) && std::mem::take(&mut reading.reached) {
                // It answered before: it may be calling from where it is now, and iroh dialling where it was.
                self.lines.hang_up(peer);
            }
            reading.reached |= !matches!(&error, PullError::Connect(_) | PullError::CameAgain);
            if reading.cursor != before {
                reading.pause = retry_pause;
            }
            tracing::debug!(peer = short(peer), ?error, "a pull of entries ended");
            match error {
                PullError::ReceiverGone => return,
                PullError::CameAgain => continue,
                PullError::Again => {
                    self.again.send_if_modified(|peers| peers.remove(peer));
                    self.metrics.logs_read_again.inc();
                    reading.cursor = None;
                    reading.read_again = (reading.read_again * 2).min(self.limits.misbehaviour_pause);
                    continue;
                }
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
                PullError::Refused(Refusal::Busy) => {
                    self.book.note(peer, "has as many readers as it may".to_owned());
                    // Another neighbour is chosen where there is one, and this task ends.
                    self.neighbours.declined(peer);
                }
                PullError::Blamed => {
                    sleep(self.limits.misbehaviour_pause).await;
                    self.book.pardon(peer);
                    continue;
                }
            }
            tokio::select! {
                () = sleep(reading.pause) => reading.pause = (reading.pause * 2).min(self.limits.max_retry_pause),
                () = self.came_again(peer, contacts) => reading.pause = retry_pause,
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

    /// Returns when the node wants this log again, at the earliest after `least`.
    async fn wanted_again(&self, peer: &PeerId, least: Duration) {
        sleep(least).await;
        let mut again = self.again.subscribe();
        if again.wait_for(|peers| peers.contains(peer)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One connection, from dialling to its end.
    async fn pull(&self, peer: &PeerId, contacts: u64, reading: &mut Reading) -> PullError {
        let connection = tokio::select! {
            connected = self.connect(peer) => match connected {
                Ok(connection) => connection,
                Err(reason) => return PullError::Connect(reason),
            },
            () = self.came_again(peer, contacts) => return PullError::CameAgain,
        };
        self.book.met(peer);
        self.lines.add(&connection);
        self.metrics.connections_made.inc();
        let error = tokio::select! {
            Err(error) = self.read(peer, &connection, &mut reading.cursor) => error,
            () = self.blamed(peer) => PullError::Blamed,
            () = self.wanted_again(peer, reading.read_again) => PullError::Again,
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
        let addr = self.book.dial(peer)?;
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
        let ask =
            Ask::Log { after: *cursor, reached: self.log.milestones(MAX_MILESTONES), addrs: (self.own_addr)().addrs };
        let asked = self.clocks.ask();
        write(&mut send, &Request { run: self.log.run(), ask }, MAX_REQUEST).await?;

        // The first answer comes at once. Later ones may take hours, but once begun they must come to an end.
        let mut seq = None;
        let first =
            timeout(self.limits.stall_timeout, self.frame(&mut recv)).await.map_err(|_| PullError::Stalled)??;
        match decode(&first)? {
            Reply::Hello { unix_ms, peers } => {
                self.clocks.note(&self.book, peer, &asked, unix_ms);
                self.hear(peers)?;
            }
            Reply::Refused(refusal) => return Err(PullError::Refused(refusal)),
            _ => return Err(PullError::Violation("it did not begin with a greeting")),
        }
        let mut welcomed = false;
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
                    let entry = Hash::of(&bytes);
                    next = Some(Cursor { seq: number, entry });
                    self.neighbours.gave(peer, entry);
                    self.metrics.entries_received.inc();
                    self.metrics.entry_bytes_received.inc_by(bytes.len() as u64);
                    Pulled::Entry { peer: *peer, bytes }
                }
                Reply::CaughtUp => {
                    if !self.caught_up.swap(true, Ordering::Relaxed) {
                        self.book.wake();
                    }
                    Pulled::CaughtUp { peer: *peer }
                }
                Reply::Refused(Refusal::Busy) if seq.is_none() => return Err(PullError::Refused(Refusal::Busy)),
                Reply::Hello { .. } | Reply::Refused(_) => {
                    return Err(PullError::Violation("a message in the wrong place"));
                }
            };
            if !std::mem::replace(&mut welcomed, true) {
                self.neighbours.welcomed(peer);
            }
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
