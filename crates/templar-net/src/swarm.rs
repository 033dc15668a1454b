//! The swarm download: blobs from all who have them at once, verified as they arrive, continued where they stopped.
//!
//! A caller registers the blobs that it waits for in the [`Plan`]; a supervisor keeps a lane (one task) for each peer
//! that may give something; a lane asks its peer what it has, then takes one request after another from the plan. So
//! callers who want the same blob share it, one slow or lying peer costs its own lane only, and a caller that stops
//! waiting stops the transfer when it was the last. Invariant: every task here is the supervisor's, and ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::book::Book;
use crate::config::Limits;
use crate::error::ProviderAnswer;
use crate::peer::PeerId;
use crate::pool::Pool;
use crate::rate::Bucket;

mod lane;
pub(crate) mod plan;
pub(crate) mod ranges;

pub use plan::Progress;
use plan::{Failure, Job, LeaseId, Local, Plan, Rules, SMALL_BYTES, Settled, Time};

/// Memory for small blobs is counted in pieces of so many bytes.
const MEMORY_UNIT: u64 = 1 << 10;

/// The plan, and how to reach those who work by it.
#[derive(Debug)]
struct Board {
    plan: Plan,
    /// Tells the holder of a lease that it is void.
    holders: BTreeMap<LeaseId, Arc<Notify>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) store: Store,
    pub(crate) book: Arc<Book>,
    pub(crate) pool: Pool,
    limits: Limits,
    bucket: Bucket,
    /// Bytes of small blobs that may be on their way into memory, in units.
    memory: Semaphore,
    began: Instant,
    board: Mutex<Board>,
    /// There may be new work for lanes, or for the supervisor.
    work: watch::Sender<u64>,
    /// Some want is settled.
    settled: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
}

/// What somebody waits for; released when dropped.
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
    /// Returns when the story of the blob at this place in the caller's order has ended, with the bytes that came for it.
    pub(crate) async fn outcome(&self, position: usize) -> (Settled, u64) {
        let closed = (Settled::Failed(Failure::Closed), 0);
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
    fn tell_voided(&mut self) {
        for lease in self.plan.take_voided() {
            if let Some(holder) = self.holders.get(&lease) {
                holder.notify_one();
            }
        }
    }
}

fn bump(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count = count.wrapping_add(1));
}

impl Swarm {
    pub(crate) fn new(store: Store, book: Arc<Book>, pool: Pool, own_id: PeerId, limits: Limits) -> Arc<Self> {
        let [a, b, c, d, e, f, g, h, ..] = own_id;
        let rules = Rules {
            max_range_bytes: limits.max_range_bytes,
            ranges_per_peer: limits.ranges_per_peer.max(1),
            requests_per_peer: limits.requests_per_peer.max(1),
            offset: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        };
        let units = (limits.fetch_memory / MEMORY_UNIT).max(SMALL_BYTES / MEMORY_UNIT);
        Arc::new(Self {
            store,
            book,
            pool,
            bucket: Bucket::new(limits.download_bytes_per_second),
            memory: Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)),
            limits,
            began: Instant::now(),
            board: Mutex::new(Board { plan: Plan::new(rules), holders: BTreeMap::new() }),
            work: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Every critical section leaves the plan whole, so a panic elsewhere does not spoil it.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        self.began.elapsed()
    }

    /// What is under way, for people.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn publish(&self) {
        let progress = self.lock().plan.progress();
        self.progress.send_if_modified(|shown| std::mem::replace(shown, progress) != progress);
    }

    /// Begins to fetch blobs, each with its limit in bytes, that are not here whole.
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

    /// What is here of a blob that is not here whole.
    async fn local(&self, id: &Hash) -> Result<Local, String> {
        let here = self.store.blobs().observe(to_iroh(id)).await.map_err(|error| error.to_string())?;
        let size = here.validated_size().filter(|size| *size > 0);
        Ok(Local { size, here: if size.is_some() { here.ranges } else { ChunkRanges::empty() } })
    }

    /// The lengths of wanted blobs together, as far as they are known by now.
    pub(crate) fn known_bytes(&self, ids: &[Hash]) -> u64 {
        self.lock().plan.known_bytes(ids)
    }

    /// Ends every wait with this failure.
    fn close(&self) {
        let mut board = self.lock();
        board.plan.fail_all(&Failure::Closed);
        board.tell_voided();
        drop(board);
        bump(&self.settled);
    }

    /// Work for a lane, with what tells it to stop.
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

    /// Changes the plan, and tells everybody whom it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Plan, Time) -> T) -> T {
        let now = self.now();
        let mut board = self.lock();
        let result = change(&mut board.plan, now);
        board.tell_voided();
        drop(board);
        self.publish();
        result
    }

    /// Keeps a lane for each peer that may give something, until `stop` says so.
    pub(crate) async fn supervise(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut work = self.work.subscribe();
        let mut book = self.book.changes();
        let mut running: BTreeMap<tokio::task::Id, PeerId> = BTreeMap::new();
        let mut lanes = JoinSet::new();
        loop {
            work.borrow_and_update();
            book.borrow_and_update();
            for peer in self.candidates(&running.values().copied().collect()) {
                let lane = lanes.spawn(lane::run(self.clone(), peer));
                running.insert(lane.id(), peer);
            }
            tokio::select! {
                _ = work.changed() => {}
                _ = book.changed() => {}
                Some(ended) = lanes.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, ())) => *id,
                        Err(error) => {
                            tracing::error!(%error, "a lane of the swarm ended badly");
                            error.id()
                        }
                    };
                    if let Some(peer) = running.remove(&id) {
                        self.lane_ended(&peer, ended.is_err());
                    }
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        lanes.shutdown().await;
        self.close();
    }

    fn lane_ended(&self, peer: &PeerId, badly: bool) {
        self.change(|plan, now| {
            if badly {
                plan.dismiss(peer, &ProviderAnswer::Lost("an error of ours".to_owned()));
            }
            if let Some(rate) = plan.farewell(peer, now) {
                self.book.served(peer, rate);
            }
        });
    }

    /// Peers that need a lane now, the best first. Blobs that nobody can give any more fail.
    fn candidates(&self, running: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let mut board = self.lock();
        let named: Vec<PeerId> = board.plan.named_providers().into_iter().collect();
        let everybody = self.book.order(&named);
        if board.plan.fail_exhausted(&everybody) {
            bump(&self.settled);
        }
        let (blamed, good): (Vec<PeerId>, Vec<PeerId>) =
            everybody.iter().copied().partition(|peer| self.book.is_blamed(peer));
        let mut candidates: Vec<PeerId> = good.iter().copied().filter(|peer| board.plan.is_useful(peer)).collect();
        // Whoever misbehaved is asked only for what nobody else can give.
        candidates.extend(blamed.into_iter().filter(|peer| board.plan.is_last_hope(peer, &good)));
        candidates.retain(|peer| !running.contains(peer));
        candidates.truncate(self.limits.providers_at_once.max(1).saturating_sub(running.len()));
        for peer in &candidates {
            board.plan.welcome(peer, self.book.rate(peer));
        }
        candidates
    }
}
