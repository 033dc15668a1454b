//! The swarm download fetches each blob from all peers that have it at once, verified as it arrives and resumed
//! after a stop.
//!
//! A caller registers the blobs that it waits for in the [`Plan`]. The supervisor keeps one task for each peer
//! that may deliver something. A peer task asks its peer which blobs it has, and then makes one request after
//! another, as the plan says. So callers that want the same blob share it, a slow or lying peer costs only its
//! own task, and a transfer stops when its last caller stops waiting. Invariant: every task belongs to the
//! supervisor and ends with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::config::{FetchingLimits, NetLimits};
use crate::peers::book::Book;
use crate::peers::peer::PeerId;
use crate::peers::pool::Pool;
use crate::serve::rate::TokenBucket;

mod execute;
pub(crate) mod fetch;
mod peer_task;
pub(crate) mod plan;
pub(crate) mod supervise;
mod transfer;

use plan::{FetchFailure, FetchProgress, Job, LeaseId, Local, Plan, Rules, SMALL_BYTES, Settled, Time};

/// The unit, in bytes, in which the memory for small blobs is counted.
const MEMORY_UNIT: u64 = 1 << 10;

/// The plan, and the means to stop the holders of its leases.
#[derive(Debug)]
struct Board {
    plan: Plan,
    /// Wakes the holder of each lease when the lease is void.
    holders: BTreeMap<LeaseId, Arc<Notify>>,
}

/// The swarm download of a node: its plan, and everything that the tasks which carry it out share.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) store: Store,
    pub(crate) book: Arc<Book>,
    pub(crate) pool: Pool,
    limits: FetchingLimits,
    stall_timeout: Duration,
    /// Bounds the bytes accepted per second.
    bucket: TokenBucket,
    /// The memory that is free for small blobs on their way, in units of [`MEMORY_UNIT`].
    memory: Semaphore,
    /// The moment at which the plan's time is 0.
    began: Instant,
    board: Mutex<Board>,
    /// Counts the changes that may mean new work for peer tasks, or for their supervisor.
    work: watch::Sender<u64>,
    /// Counts the changes that may have settled a want.
    settled: watch::Sender<u64>,
    progress: watch::Sender<FetchProgress>,
}

/// A caller's interest in some blobs. Dropping it says that the caller no longer waits.
#[derive(Debug)]
pub(crate) struct Interest<'a> {
    swarm: &'a Swarm,
    /// The numbers of the wants, in the caller's order.
    numbers: Vec<u64>,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let mut board = self.swarm.lock();
        self.numbers.iter().for_each(|number| board.plan.release(*number));
        board.tell_voided();
        drop(board);
        self.swarm.publish();
    }
}

impl Interest<'_> {
    /// Waits for the blob at this position in the caller's order. Returns how the wait ended, with the bytes
    /// that came for it.
    pub(crate) async fn outcome(&self, position: usize) -> (Settled, u64) {
        let closed = (Settled::Failed(FetchFailure::Closed), 0);
        let Some(number) = self.numbers.get(position) else { return closed };
        let mut settled = self.swarm.settled.subscribe();
        loop {
            settled.borrow_and_update();
            if let Some(outcome) = self.swarm.lock().plan.outcome(*number) {
                return outcome;
            }
            if settled.changed().await.is_err() {
                return closed;
            }
        }
    }
}

impl Board {
    /// Tells the holders of void leases to stop.
    fn tell_voided(&mut self) {
        for lease in self.plan.take_voided() {
            if let Some(holder) = self.holders.get(&lease) {
                holder.notify_one();
            }
        }
    }
}

/// Counts a change and wakes the tasks that wait for one.
fn bump(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count = count.wrapping_add(1));
}

impl Swarm {
    /// A swarm without wants that fetches into `store`.
    pub(crate) fn new(store: Store, book: Arc<Book>, pool: Pool, own_id: PeerId, limits: &NetLimits) -> Arc<Self> {
        let (stall_timeout, limits) = (limits.timeouts.stall, limits.fetching.clone());
        // The node's id decides where it begins in a blob that other nodes fetch as well.
        let [a, b, c, d, e, f, g, h, ..] = own_id;
        let rules = Rules {
            max_range_bytes: limits.max_range_bytes,
            ranges_per_peer: limits.ranges_per_peer.max(1),
            requests_per_peer: limits.requests_per_peer.max(1),
            offset: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        };
        let units = (limits.memory / MEMORY_UNIT).max(SMALL_BYTES / MEMORY_UNIT);
        Arc::new(Self {
            store,
            book,
            pool,
            bucket: TokenBucket::new(limits.bytes_per_second),
            memory: Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)),
            limits,
            stall_timeout,
            began: Instant::now(),
            board: Mutex::new(Board { plan: Plan::new(rules), holders: BTreeMap::new() }),
            work: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            progress: watch::Sender::new(FetchProgress::default()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Every critical section leaves the plan consistent, so a panic in another thread does not spoil it.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since the swarm began, as the plan counts it.
    fn now(&self) -> Time {
        self.began.elapsed()
    }

    /// The progress of all fetches together. The channel reports its changes.
    pub(crate) fn progress(&self) -> watch::Receiver<FetchProgress> {
        self.progress.subscribe()
    }

    /// Shows the plan's progress to those who watch it.
    fn publish(&self) {
        let progress = self.lock().plan.progress();
        self.progress.send_if_modified(|shown| std::mem::replace(shown, progress) != progress);
    }

    /// Begins to fetch blobs that are not whole in the store, each with its bound in bytes.
    ///
    /// # Errors
    /// The first blob whose part in the store cannot be read, with the reason.
    pub(crate) async fn want(
        &self,
        blobs: &[(Hash, u64)],
        providers: &[PeerId],
    ) -> Result<Interest<'_>, (Hash, String)> {
        let mut interest = Interest { swarm: self, numbers: Vec::with_capacity(blobs.len()) };
        for (id, max_bytes) in blobs {
            let local = self.local(id).await.map_err(|reason| (*id, reason))?;
            interest.numbers.push(self.lock().plan.register(*id, *max_bytes, providers, &local));
        }
        self.publish();
        bump(&self.work);
        Ok(interest)
    }

    /// The part of a blob that is in the store.
    async fn local(&self, id: &Hash) -> Result<Local, String> {
        let here = self.store.blobs().observe(to_iroh(id)).await.map_err(|error| error.to_string())?;
        let size = here.validated_size().filter(|size| *size > 0);
        Ok(Local { size, here: if size.is_some() { here.ranges } else { ChunkRanges::empty() } })
    }

    /// The sum of the lengths of wanted blobs, as far as they are known.
    pub(crate) fn known_bytes(&self, ids: &[Hash]) -> u64 {
        self.lock().plan.known_bytes(ids)
    }

    /// Ends every wait, because the network shuts down.
    fn close(&self) {
        let mut board = self.lock();
        board.plan.fail_all(&FetchFailure::Closed);
        board.tell_voided();
        drop(board);
        bump(&self.settled);
    }

    /// The next request to make to a peer, with the notification that tells its holder to stop.
    fn next_job(&self, peer: &PeerId) -> Option<(Job, Arc<Notify>)> {
        let now = self.now();
        let mut board = self.lock();
        let job = board.plan.next(peer, now);
        if let Some(job) = &job {
            board.holders.insert(job.lease, Arc::default());
        }
        board.tell_voided();
        job.and_then(|job| board.holders.get(&job.lease).cloned().map(|holder| (job, holder)))
    }

    /// Changes the plan, stops the holders of void leases, and shows the progress.
    fn change<T>(&self, change: impl FnOnce(&mut Plan, Time) -> T) -> T {
        let now = self.now();
        let mut board = self.lock();
        let result = change(&mut board.plan, now);
        board.tell_voided();
        drop(board);
        self.publish();
        result
    }
}
