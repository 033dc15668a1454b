//! The asking side of sync: one task per neighbour reads the neighbour's log from where it stopped, for ever.
//!
//! Invariant: entries wait in one bounded channel, so a flood ends at QUIC's flow control. A peer that goes
//! away is tried again after growing pauses, a peer that breaks the protocol is left alone for longer, and all
//! tasks end with their supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use iroh::Endpoint;
use iroh::endpoint::{Connection, ConnectionError, RecvStream};
use templar_manifest::Hash;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval_at, sleep, timeout};
use tracing::Instrument;

use crate::config::NetLimits;
use crate::foreign::ForeignText;
use crate::frame::{FrameError, decode, read_body, read_len, write};
use crate::metrics::NetMetrics;
use crate::peers::book::{AddrSource, Book};
use crate::peers::close_code;
use crate::peers::connections::Connections;
use crate::peers::neighbours::Neighbours;
use crate::peers::peer::{PeerAddr, PeerId, short};
use crate::sync::clock::Clocks;
use crate::sync::log::Log;
use crate::sync::wire::{
    Ask, Cursor, MAX_MILESTONES, MAX_PEERS_SENT, MAX_REPLY, MAX_REQUEST, SYNC_ALPN, SyncRefusal, SyncReply, SyncRequest,
};
use crate::words;

/// The interval at which one more log is read until the first has been read to its end. All logs hold nearly
/// the same entries, so a new node that read all of them at once would receive everything several times.
const NEXT_FIRST_READER: Duration = Duration::from_millis(500);

/// An event from the log of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulled {
    /// An entry of the peer's log, unchecked. The same entry usually comes from several peers.
    Entry {
        /// The peer that sent it, which need not be the one that made it.
        peer: PeerId,
        /// The entry, at most [`MAX_ENTRY_BYTES`](crate::MAX_ENTRY_BYTES) long.
        bytes: Bytes,
    },
    /// The peer has sent all entries that its log holds now.
    CaughtUp {
        /// The peer whose log it is.
        peer: PeerId,
    },
}

/// The parts of the node that every pulling task shares.
pub(crate) struct Puller {
    pub(crate) endpoint: Endpoint,
    pub(crate) book: Arc<Book>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) metrics: Arc<NetMetrics>,
    /// This node's own log, for its run and its milestones.
    pub(crate) log: Arc<dyn Log>,
    /// Peers whose logs the node wants to read again.
    pub(crate) again: watch::Sender<BTreeSet<PeerId>>,
    /// Whether some log has been read to its end.
    pub(crate) caught_up: AtomicBool,
    pub(crate) limits: NetLimits,
    /// Returns the addresses at which this node listens now.
    pub(crate) own_addr: Box<dyn Fn() -> PeerAddr + Send + Sync>,
    pub(crate) out: mpsc::Sender<Pulled>,
}

/// The ways in which reading a log ends.
#[derive(Debug)]
enum PullError {
    /// No connection came about.
    Connect(ForeignText),
    /// The peer contacted this node, or got a new address, during an attempt to connect to it elsewhere.
    CameAgain,
    Frame(FrameError),
    Stalled,
    Refused(SyncRefusal),
    /// A message was well-formed and against the rules.
    Violation(&'static str),
    /// The node found the peer's entries to be invalid.
    Blamed,
    /// The node wants the entries since the last milestone once more.
    Again,
    /// The node dropped the receiver of the entries.
    ReceiverGone,
}

impl From<FrameError> for PullError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

/// Keeps one task per neighbour until `stop` says so or the node drops the receiver of the entries.
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
                let span = tracing::debug_span!("pull", peer = short(&peer));
                tasks.spawn(async move { puller.follow(&peer).await }.instrument(span))
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

/// The state of reading one peer's log, kept across connections.
struct Reading {
    /// The position of the last entry taken.
    cursor: Option<Cursor>,
    /// The pause before the next attempt.
    pause: Duration,
    /// Whether the last attempt reached the peer.
    reached: bool,
    /// The shortest time for which the log is read before it may be read again from the last milestone.
    read_again: Duration,
    /// When the log was last begun from that milestone.
    begun: Instant,
}

impl Reading {
    /// Begins the log again. A node that wants it often waits ever longer; one that did without it for much longer than
    /// it had to starts from the `shortest` pause.
    fn again(&mut self, shortest: Duration, longest: Duration) {
        self.cursor = None;
        let is_often = self.begun.elapsed() < self.read_again * PATIENT;
        self.read_again = if is_often { (self.read_again * 2).min(longest) } else { shortest };
        self.begun = Instant::now();
    }
}

/// A node that reads a log for so many times the pause is not one that wants it again all the time.
const PATIENT: u32 = 4;

impl Puller {
    /// Reads the log of one peer until the book forgets the peer.
    async fn follow(&self, peer: &PeerId) {
        let (retry_pause, read_again) = (self.limits.pauses.retry, self.limits.sync.read_again_pause);
        let mut reading =
            Reading { cursor: None, pause: retry_pause, reached: false, read_again, begun: Instant::now() };
        while let Some(contacts) = self.book.contacts(peer) {
            let before = reading.cursor;
            let error = self.pull(peer, contacts, &mut reading).await;
            if matches!(&error, PullError::Connect(_)) && std::mem::take(&mut reading.reached) {
                // The peer may have moved: its own connections then come from the new address, and they keep
                // iroh dialling the old one. See `Connections`.
                self.connections.hang_up(peer);
            }
            reading.reached |= !matches!(&error, PullError::Connect(_) | PullError::CameAgain);
            if reading.cursor != before {
                reading.pause = retry_pause;
            }
            tracing::debug!(?error, "reading the log ended");
            match error {
                PullError::ReceiverGone => return,
                PullError::CameAgain => continue,
                PullError::Again => {
                    self.again.send_if_modified(|peers| peers.remove(peer));
                    self.metrics.logs_read_again.inc();
                    reading.again(read_again, self.limits.pauses.misbehaviour);
                    continue;
                }
                PullError::Connect(reason) => self.book.unreachable(peer, reason),
                PullError::Stalled => self.book.unreachable(peer, "stalled while sending its log"),
                PullError::Frame(error) if !error.is_misbehaviour() => self.book.unreachable(peer, error),
                PullError::Frame(error) => {
                    self.leave_alone(peer, format!("broke the sync protocol: {error}")).await;
                    continue;
                }
                PullError::Violation(what) => {
                    self.leave_alone(peer, format!("broke the sync protocol: {what}")).await;
                    continue;
                }
                PullError::Refused(SyncRefusal::WrongRun { run }) => {
                    self.book.note(peer, format!("takes part in another run, {run}"));
                    sleep(self.limits.pauses.misbehaviour).await;
                    continue;
                }
                PullError::Refused(SyncRefusal::Busy) => {
                    self.book.note(peer, "has as many readers as it may");
                    // Another neighbour is chosen, if there is one, and then this task ends.
                    self.neighbours.declined(peer);
                }
                PullError::Blamed => {
                    sleep(self.limits.pauses.misbehaviour).await;
                    self.book.pardon(peer);
                    continue;
                }
            }
            tokio::select! {
                () = sleep(reading.pause) => reading.pause = (reading.pause * 2).min(self.limits.pauses.max_retry),
                () = self.came_again(peer, contacts) => reading.pause = retry_pause,
            }
        }
    }

    /// Blames the peer, and returns when its punishment is over.
    async fn leave_alone(&self, peer: &PeerId, problem: String) {
        tracing::warn!(peer = short(peer), problem, "left alone for a while");
        self.book.blame(peer, problem);
        sleep(self.limits.pauses.misbehaviour).await;
        self.book.pardon(peer);
    }

    /// Returns when the peer has contacted this node since `contacts`, or is no longer in the book.
    async fn came_again(&self, peer: &PeerId, contacts: u64) {
        let mut changes = self.book.changes();
        loop {
            changes.borrow_and_update();
            if self.book.contacts(peer) != Some(contacts) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns when the node has blamed the peer.
    async fn blamed(&self, peer: &PeerId) {
        let mut changes = self.book.changes();
        loop {
            changes.borrow_and_update();
            if self.book.is_blamed(peer) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns when the node wants to read this log again, but not before `least` has passed.
    async fn wanted_again(&self, peer: &PeerId, least: Duration) {
        sleep(least).await;
        let mut again = self.again.subscribe();
        if again.wait_for(|peers| peers.contains(peer)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads the peer's log over one connection, from dialling to its end.
    async fn pull(&self, peer: &PeerId, contacts: u64, reading: &mut Reading) -> PullError {
        let connection = tokio::select! {
            connected = self.connect(peer) => match connected {
                Ok(connection) => connection,
                Err(reason) => return PullError::Connect(reason),
            },
            () = self.came_again(peer, contacts) => return PullError::CameAgain,
        };
        self.book.met(peer);
        self.connections.add(&connection);
        self.metrics.connections_made.inc();
        tracing::debug!("connected");
        let error = tokio::select! {
            Err(error) = self.read(peer, &connection, &mut reading.cursor) => error,
            () = self.blamed(peer) => PullError::Blamed,
            () = self.wanted_again(peer, reading.read_again) => PullError::Again,
        };
        let (code, reason): (_, &[u8]) = match &error {
            PullError::Frame(error) if error.is_misbehaviour() => (close_code::PROTOCOL, b"protocol violation"),
            PullError::Violation(_) | PullError::Blamed => (close_code::PROTOCOL, b"protocol violation"),
            PullError::Stalled => (close_code::STALLED, b"stalled"),
            _ => (close_code::DONE, b"done"),
        };
        connection.close(code, reason);
        error
    }

    async fn connect(&self, peer: &PeerId) -> Result<Connection, ForeignText> {
        let addr = self.book.dial(peer, self.connections.count(peer) > 0).map_err(ForeignText::of)?;
        match timeout(self.limits.timeouts.connect, self.endpoint.connect(addr, SYNC_ALPN)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(words::unconnected(&error)),
            Err(_) => Err(ForeignText::of("no answer")),
        }
    }

    /// Asks for the log and passes its entries on. It returns only with an error.
    async fn read(
        &self,
        peer: &PeerId,
        connection: &Connection,
        cursor: &mut Option<Cursor>,
    ) -> Result<std::convert::Infallible, PullError> {
        let lost = |error: ConnectionError| FrameError::Lost(words::lost(&error));
        let (mut send, mut recv) = connection.open_bi().await.map_err(lost)?;
        let ask =
            Ask::Log { after: *cursor, reached: self.log.milestones(MAX_MILESTONES), addrs: (self.own_addr)().addrs };
        let asked = self.clocks.ask();
        write(&mut send, &SyncRequest { run: self.log.run(), ask }, MAX_REQUEST).await?;

        // The greeting must come at once. An entry may take hours to come, but once begun it must arrive
        // without a stall.
        let mut seq = None;
        let first =
            timeout(self.limits.timeouts.stall, self.frame(&mut recv)).await.map_err(|_| PullError::Stalled)??;
        match decode(&first)? {
            SyncReply::Hello { unix_ms, peers } => {
                self.clocks.note(&self.book, peer, &asked, unix_ms);
                self.hear(peers)?;
            }
            SyncReply::Refused(refusal) => return Err(PullError::Refused(refusal)),
            _ => return Err(PullError::Violation("it did not begin with a greeting")),
        }
        let mut welcomed = false;
        loop {
            let frame = self.frame(&mut recv).await?;
            let mut next = *cursor;
            let pulled = match decode(&frame)? {
                SyncReply::Entry { seq: number, bytes } => {
                    // The first number may be any, since a peer starts over if its log is not the one that was
                    // read before.
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
                SyncReply::CaughtUp => {
                    if !self.caught_up.swap(true, Ordering::Relaxed) {
                        self.book.wake();
                    }
                    Pulled::CaughtUp { peer: *peer }
                }
                SyncReply::Refused(SyncRefusal::Busy) if seq.is_none() => {
                    return Err(PullError::Refused(SyncRefusal::Busy));
                }
                SyncReply::Hello { .. } | SyncReply::Refused(_) => {
                    return Err(PullError::Violation("a message in the wrong place"));
                }
            };
            if !std::mem::replace(&mut welcomed, true) {
                self.neighbours.welcomed(peer);
            }
            self.out.send(pulled).await.map_err(|_| PullError::ReceiverGone)?;
            // The position moves only now: if the stream ends while the channel is full, this entry must come
            // again.
            *cursor = next;
        }
    }

    /// Reads one frame. It waits for the frame as long as the connection lives, but not longer than the stall
    /// timeout for the rest of a frame that has begun.
    async fn frame(&self, recv: &mut RecvStream) -> Result<Bytes, PullError> {
        let len = read_len(recv, MAX_REPLY).await?;
        let body = timeout(self.limits.timeouts.stall, read_body(recv, len)).await;
        Ok(body.map_err(|_| PullError::Stalled)??)
    }

    /// Puts the peers that a greeting names into the book, as hearsay.
    fn hear(&self, peers: Vec<PeerAddr>) -> Result<(), PullError> {
        if peers.len() > MAX_PEERS_SENT {
            return Err(PullError::Violation("it names too many peers"));
        }
        for addr in peers.into_iter().filter_map(PeerAddr::usable) {
            self.book.learn(addr, AddrSource::Heard);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_in_peace_for_long_may_soon_read_again() {
        let second = Duration::from_secs(1);
        let mut reading =
            Reading { cursor: None, pause: second, reached: true, read_again: second, begun: Instant::now() };
        let mut pause_after = |ago: u64| {
            reading.begun = Instant::now().checked_sub(Duration::from_secs(ago)).unwrap();
            reading.again(second, 5 * second);
            reading.read_again.as_secs()
        };
        assert_eq!([1, 2, 4, 5].map(&mut pause_after), [2, 4, 5, 5], "it doubles up to the longest");
        assert_eq!(
            [19, 21, 1, 9].map(&mut pause_after),
            [5, 1, 2, 1],
            "four times the pause, and it is the shortest again"
        );
    }
}
