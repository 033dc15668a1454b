//! A lane: the task that talks to one peer. It asks what the peer has, and works off what the plan gives it.
//!
//! Invariant: a lane ends when its peer can give nothing that is wanted, or when the peer fails; everything that it began
//! has been given back to the plan by then.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use templar_manifest::Hash;
use templar_store::PutError;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::plan::{Failure, Job, LeaseId, SMALL_BYTES, Task};
use super::{MEMORY_UNIT, Swarm, Time, bump};
use crate::error::ProviderAnswer;
use crate::have::{Have, MAX_ASKED, ask};
use crate::peer::{PeerId, short};
use crate::transfer::{Transfer, TransferError};

/// How often an idle lane looks whether a slower peer holds something that it could bring sooner.
const LOOK: Duration = Duration::from_millis(100);

/// The first and the longest pause before a peer that has a part is asked what else has come.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// So many answers without news, while nobody else brings anything: what is missing does not come from this peer.
const ANSWERS_WITHOUT_NEWS: u32 = 3;

/// How a piece of work ended.
enum Ended {
    /// The peer said what it has of these blobs.
    Asked { ids: Vec<Hash>, again: bool, haves: Result<Vec<Have>, String> },
    /// A request came to its end.
    Worked { lease: LeaseId, id: Hash, result: Result<(), TransferError> },
}

/// Why a lane ends before its time.
enum Parting {
    /// The peer failed as a whole.
    Failed(ProviderAnswer),
    /// The connection broke; a new lane makes a new one.
    Reconnect,
}

struct Lane {
    swarm: Arc<Swarm>,
    peer: PeerId,
    connection: Connection,
    connected: Time,
    work: JoinSet<Ended>,
    asking: bool,
    /// Answers in a row that brought nothing new while the lane was idle.
    stale_answers: u32,
    /// How long after an answer the peer is asked again, and when.
    pause: Duration,
    ask_next: Instant,
    /// It does not speak our protocol, so it is tried for everything.
    speaks: bool,
}

/// Fetches from one peer until it is of no use any more.
pub(super) async fn run(swarm: Arc<Swarm>, peer: PeerId) {
    // It is asked what it has while the connection for blobs comes about: far away, each takes several round trips.
    let mut work = JoinSet::new();
    let ids = swarm.lock().plan.to_ask(&peer, false, MAX_ASKED);
    let asking = !ids.is_empty();
    if asking {
        work.spawn(asked(swarm.clone(), peer, ids, false));
    }
    let connection = match swarm.pool.connection(&peer).await {
        Ok(connection) => connection,
        Err(reason) => {
            swarm.change(|plan, _| plan.dismiss(&peer, &ProviderAnswer::Unreachable(reason)));
            return;
        }
    };
    let connected = swarm.now();
    let mut lane = Lane {
        swarm,
        peer,
        connection,
        connected,
        work,
        asking,
        stale_answers: 0,
        pause: ASK_AGAIN.0,
        ask_next: Instant::now() + ASK_AGAIN.0,
        speaks: true,
    };
    lane.follow().await;
}

/// Asks what a peer has.
async fn asked(swarm: Arc<Swarm>, peer: PeerId, ids: Vec<Hash>, again: bool) -> Ended {
    let haves = match swarm.pool.have_connection(&peer).await {
        Ok(connection) => match timeout(swarm.limits.stall_timeout, ask(&connection, &ids)).await {
            Ok(Ok(haves)) => Ok(haves),
            Ok(Err(error)) if error.is_misbehaviour() => {
                swarm.book.blame(&peer, format!("said what it has in a way that we cannot read: {error}"));
                Err(error.to_string())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        },
        Err(reason) => Err(reason),
    };
    Ended::Asked { ids, again, haves }
}

impl Lane {
    async fn follow(&mut self) {
        let mut changes = self.swarm.work.subscribe();
        loop {
            changes.borrow_and_update();
            // Here and not when the pause below ends: with many lanes at work it seldom does.
            self.ask(Instant::now() >= self.ask_next);
            while let Some((job, holder)) = self.swarm.next_job(&self.peer) {
                self.begin(job, holder);
            }
            let idle = self.work.is_empty();
            if idle && !self.swarm.lock().plan.is_useful(&self.peer) {
                return;
            }
            tokio::select! {
                Some(ended) = self.work.join_next() => match ended {
                    Ok(ended) => {
                        if let Err(parting) = self.ended(ended).await {
                            self.leave(&parting).await;
                            return;
                        }
                    }
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return,
                },
                _ = changes.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Asks what the peer has of what is wanted, unless it is being asked. With `again`, also what it had not whole.
    fn ask(&mut self, again: bool) {
        if self.asking {
            return;
        }
        let ids = self.swarm.lock().plan.to_ask(&self.peer, again, MAX_ASKED);
        if ids.is_empty() {
            return;
        }
        if !self.speaks {
            self.swarm.change(|plan, _| {
                for id in &ids {
                    plan.set_have(&self.peer, id, Have::All);
                }
            });
            return;
        }
        self.asking = true;
        self.work.spawn(asked(self.swarm.clone(), self.peer, ids, again));
    }

    fn begin(&mut self, job: Job, holder: Arc<Notify>) {
        let (swarm, connection) = (self.swarm.clone(), self.connection.clone());
        self.work.spawn(async move {
            let result = swarm.work_off(&connection, &job, &holder).await;
            Ended::Worked { lease: job.lease, id: job.id, result }
        });
    }

    /// Takes in how a piece of work ended. An error ends the lane.
    async fn ended(&mut self, ended: Ended) -> Result<(), Parting> {
        match ended {
            Ended::Asked { ids, again, haves: Ok(haves) } => {
                self.asking = false;
                self.pause = (self.pause * 2).min(ASK_AGAIN.1);
                let peer = self.peer;
                let news = self.swarm.change(|plan, _| {
                    ids.iter().zip(haves).fold(false, |news, (id, have)| plan.set_have(&peer, id, have) | news)
                });
                if news {
                    self.stale_answers = 0;
                    self.pause = ASK_AGAIN.0;
                } else if again && self.work.is_empty() {
                    self.stale_answers += 1;
                    if self.stale_answers >= ANSWERS_WITHOUT_NEWS {
                        self.swarm.change(|plan, _| plan.give_up_on(&peer));
                    }
                }
                self.ask_next = Instant::now() + self.pause;
                bump(&self.swarm.work);
            }
            Ended::Asked { haves: Err(reason), .. } => {
                // Another program, such as sendme: it is tried for everything.
                tracing::debug!(peer = short(&self.peer), reason, "a peer does not say what it has");
                self.asking = false;
                self.speaks = false;
                self.ask(false);
            }
            Ended::Worked { lease, id, result } => return self.worked(lease, &id, result).await,
        }
        Ok(())
    }

    async fn worked(&mut self, lease: LeaseId, id: &Hash, result: Result<(), TransferError>) -> Result<(), Parting> {
        self.swarm.lock().holders.remove(&lease);
        match result {
            Ok(()) => self.swarm.change(|plan, now| plan.finish(lease, None, now)),
            // One request had to wait too long behind others of ours, which came: it is made once more.
            Err(TransferError::Provider(ProviderAnswer::Stalled)) if !self.is_silent() => {
                self.swarm.change(|plan, now| plan.finish(lease, None, now));
            }
            // The connection broke that had brought something, so another may bring more.
            Err(TransferError::Provider(ProviderAnswer::Lost(reason))) if self.may_reconnect() => {
                tracing::debug!(peer = short(&self.peer), reason, "a connection broke");
                self.swarm.change(|plan, now| plan.finish(lease, None, now));
                return Err(Parting::Reconnect);
            }
            Err(TransferError::Provider(answer)) => {
                tracing::debug!(peer = short(&self.peer), blob = %id.short(), %answer, "a provider failed");
                self.swarm.change(|plan, now| plan.finish(lease, Some(answer.clone()), now));
                bump(&self.swarm.work);
                match &answer {
                    ProviderAnswer::BadData(_) | ProviderAnswer::ClaimsTooLarge { .. } => {
                        self.swarm.book.blame(&self.peer, format!("{answer} for blob {id}"));
                        return Err(Parting::Failed(answer));
                    }
                    ProviderAnswer::Stalled => {
                        self.swarm.book.note(&self.peer, format!("{answer} for blob {id}"));
                        return Err(Parting::Failed(answer));
                    }
                    ProviderAnswer::Aborted { .. } => {
                        self.swarm.book.note(&self.peer, format!("{answer} for blob {id}"));
                    }
                    ProviderAnswer::Lost(_) if self.connection.close_reason().is_some() => {
                        return Err(Parting::Failed(answer));
                    }
                    _ => {}
                }
            }
            Err(error) => {
                let failure = match error {
                    TransferError::TooLarge { size } => Failure::TooLarge { size },
                    TransferError::Local(error) if is_disk_full(&error) => Failure::DiskFull,
                    TransferError::Local(error) => Failure::Store(error.to_string()),
                    TransferError::Provider(answer) => Failure::Store(answer.to_string()),
                };
                self.swarm.change(|plan, now| {
                    plan.finish(lease, None, now);
                    plan.fail(id, failure);
                });
                bump(&self.swarm.settled);
            }
        }
        self.swarm.complete(id).await;
        Ok(())
    }

    fn is_silent(&self) -> bool {
        let now = self.swarm.now();
        self.swarm.lock().plan.is_silent(&self.peer, self.swarm.limits.stall_timeout, now)
    }

    fn may_reconnect(&self) -> bool {
        self.connection.close_reason().is_some() && self.swarm.lock().plan.has_brought(&self.peer, self.connected)
    }

    /// What the peer held goes back, and, where it failed as a whole, it is asked for nothing that is wanted now.
    async fn leave(&mut self, parting: &Parting) {
        self.swarm.change(|plan, _| match parting {
            Parting::Failed(answer) => plan.dismiss(&self.peer, answer),
            Parting::Reconnect => plan.take_back(&self.peer),
        });
        bump(&self.swarm.work);
        // Its other requests are told to stop; what they have written is counted before the lane ends.
        while let Some(Ok(ended)) = self.work.join_next().await {
            if let Ended::Worked { lease, id, .. } = ended {
                self.swarm.lock().holders.remove(&lease);
                self.swarm.change(|plan, now| plan.finish(lease, None, now));
                self.swarm.complete(&id).await;
            }
        }
    }
}

impl Swarm {
    /// Does what a lease says.
    async fn work_off(&self, connection: &Connection, job: &Job, holder: &Notify) -> Result<(), TransferError> {
        let lease = job.lease;
        let transfer = Transfer {
            store: &self.store,
            connection,
            id: job.id,
            max_bytes: job.max_bytes,
            stall_timeout: self.limits.stall_timeout,
            bucket: &self.bucket,
        };
        match &job.task {
            Task::Range { size, left } => {
                let came = |next| self.come(|plan, now| plan.advance(lease, next, now));
                transfer.range(*size, left.clone(), came, holder.notified()).await
            }
            Task::Proof { start } => {
                let (size, stored) = tokio::select! {
                    biased;
                    () = holder.notified() => return Ok(()),
                    proof = transfer.proof(*start) => proof?,
                };
                self.change(|plan, _| plan.proved(lease, size, &stored));
                bump(&self.work);
                Ok(())
            }
            Task::Whole => tokio::select! {
                biased;
                () = holder.notified() => Ok(()),
                whole = self.whole(&transfer, job) => whole,
            },
        }
    }

    async fn whole(&self, transfer: &Transfer<'_>, job: &Job) -> Result<(), TransferError> {
        let units = job.max_bytes.min(SMALL_BYTES).div_ceil(MEMORY_UNIT).max(1);
        let room = self.memory.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        let _room = room.map_err(|_| TransferError::Local(io::Error::other("the network is shut down")))?;
        let came = |bytes| self.come(|plan, now| plan.advance_whole(job.lease, bytes, now));
        let Some(bytes) = transfer.whole(came).await? else { return Ok(()) };
        let size = bytes.len() as u64;
        self.store.put(bytes).await.map_err(put_error)?;
        self.change(|plan, _| plan.came_whole(job.lease, size));
        bump(&self.settled);
        Ok(())
    }

    /// Counts what came. Cheaper than [`change`](Self::change): a gigabyte is 65,536 chunks.
    fn come<T>(&self, change: impl FnOnce(&mut super::Plan, super::Time) -> T) -> T {
        let now = self.now();
        let mut board = self.lock();
        let result = change(&mut board.plan, now);
        let progress = board.plan.progress();
        drop(board);
        self.progress.send_if_modified(|shown| {
            let step = progress.received.abs_diff(shown.received) >= PROGRESS_STEP;
            if step {
                *shown = progress;
            }
            step
        });
        result
    }

    /// Settles a blob of which nothing is missing any more.
    async fn complete(&self, id: &Hash) {
        let Some(size) = self.lock().plan.is_whole(id) else { return };
        let kept = match self.store.has(id).await {
            Ok(true) => self.store.keep(id).await.map_err(put_error),
            Ok(false) => match self.local(id).await {
                // A request that was stopped in between took a chunk along.
                Ok(local) if self.change(|plan, _| plan.recount(id, &local)) => return bump(&self.work),
                Ok(_) => self.store.keep(id).await.map_err(put_error),
                Err(reason) => Err(TransferError::Local(io::Error::other(reason))),
            },
            Err(error) => Err(TransferError::Local(io::Error::other(error))),
        };
        self.change(|plan, _| match kept {
            Ok(()) => plan.done(id, size),
            Err(TransferError::Local(error)) if is_disk_full(&error) => plan.fail(id, Failure::DiskFull),
            Err(TransferError::Local(error)) => plan.fail(id, Failure::Store(error.to_string())),
            Err(_) => {}
        });
        bump(&self.settled);
    }
}

/// Progress is shown anew after so many bytes.
const PROGRESS_STEP: u64 = 1 << 20;

fn put_error(error: PutError) -> TransferError {
    TransferError::Local(match error {
        PutError::DiskFull => io::ErrorKind::StorageFull.into(),
        PutError::Io(error) => error,
        other => io::Error::other(other),
    })
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
