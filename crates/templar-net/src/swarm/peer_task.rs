//! A peer task talks to one peer: it asks which blobs the peer has, and makes the requests that the plan gives
//! it.
//!
//! Invariant: the task ends when its peer can deliver nothing that is wanted, or when the peer fails. By then
//! it has given all of its leases back to the plan.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use templar_manifest::Hash;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

use crate::error::ProviderAnswer;
use crate::foreign::ForeignText;
use crate::peers::peer::PeerId;
use crate::serve::have::{HAVE_ALPN, Have, MAX_ASKED, ask};
use crate::swarm::execute::local_failure;
use crate::swarm::plan::{FetchFailure, Job, LeaseId, Time};
use crate::swarm::transfer::TransferError;
use crate::swarm::{Swarm, bump};

/// The interval at which an idle task looks whether a slower peer holds a piece that its own peer could bring
/// sooner.
const LOOK: Duration = Duration::from_millis(100);

/// The first and the longest pause before a peer is asked again for blobs of which it had a part or nothing.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// The number of answers without news, while no other peer brings anything, after which the task gives up on
/// missing chunks that its peer does not have.
const ANSWERS_WITHOUT_NEWS: u32 = 3;

/// The result of one of a task's own subtasks.
enum Finished {
    /// The peer answered, or failed to answer, which of the blobs `ids` it has. `again` says that it was asked
    /// before.
    Asked { ids: Vec<Hash>, again: bool, haves: Result<Vec<Have>, ForeignText> },
    /// A request for a piece ended.
    Worked { lease: LeaseId, id: Hash, result: Result<(), TransferError> },
}

/// The reason why a task ends although its peer could still be useful.
enum Parting {
    /// The peer failed as a whole.
    Failed(ProviderAnswer),
    /// The connection broke. A new task makes a new one.
    Reconnect,
}

/// The state of one peer's task.
struct PeerTask {
    swarm: Arc<Swarm>,
    peer: PeerId,
    connection: Connection,
    /// The plan's time at which the connection came about.
    connected: Time,
    /// The running questions and requests.
    work: JoinSet<Finished>,
    /// Whether a question is running.
    asking: bool,
    /// The number of successive answers that brought no news while the task was idle.
    stale_answers: u32,
    /// The pause between an answer and the next question about the same blobs.
    pause: Duration,
    /// The moment of the next such question.
    ask_next: Instant,
    /// Whether the peer speaks the `have` protocol. A peer that does not is tried for every blob.
    speaks: bool,
}

/// Fetches from one peer until it can deliver nothing that is wanted.
pub(super) async fn run(swarm: Arc<Swarm>, peer: PeerId) {
    // The question runs while the connection for blobs is established, because each takes several round trips.
    let mut work = JoinSet::new();
    let ids = swarm.lock().plan.to_ask(&peer, false, MAX_ASKED);
    let asking = !ids.is_empty();
    if asking {
        work.spawn(asked(swarm.clone(), peer, ids, false).in_current_span());
    }
    let connection = match swarm.pool.connection(iroh_blobs::ALPN, &peer).await {
        Ok(connection) => connection,
        Err(reason) => {
            swarm.change(|plan, _| plan.dismiss(&peer, &ProviderAnswer::Unreachable(reason)));
            return;
        }
    };
    let connected = swarm.now();
    tracing::debug!("connected");
    let mut task = PeerTask {
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
    task.follow().await;
}

/// Asks a peer which of the blobs `ids` it has.
async fn asked(swarm: Arc<Swarm>, peer: PeerId, ids: Vec<Hash>, again: bool) -> Finished {
    let haves = match swarm.pool.optional_connection(HAVE_ALPN, &peer).await {
        Ok(connection) => match timeout(swarm.stall_timeout, ask(&connection, &ids)).await {
            Ok(Ok(haves)) => Ok(haves),
            Ok(Err(error)) if error.is_misbehaviour() => {
                swarm.book.blame(&peer, format!("said what it has in a way that we cannot read: {error}"));
                Err(ForeignText::of(error))
            }
            Ok(Err(error)) => Err(ForeignText::of(error)),
            Err(_) => Err(ForeignText::of("no answer")),
        },
        Err(reason) => Err(reason),
    };
    Finished::Asked { ids, again, haves }
}

impl PeerTask {
    /// Asks the peer, makes requests, and waits for results, until the peer is of no more use.
    async fn follow(&mut self) {
        let mut changes = self.swarm.work.subscribe();
        loop {
            changes.borrow_and_update();
            // This is checked in every round, because the pause below seldom ends while many tasks are at work.
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

    /// Asks the peer which wanted blobs it has, unless a question is running. With `again`, the question
    /// includes blobs of which it had a part or nothing.
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
        self.work.spawn(asked(self.swarm.clone(), self.peer, ids, again).in_current_span());
    }

    /// Starts a request as a subtask.
    fn begin(&mut self, job: Job, holder: Arc<Notify>) {
        let (swarm, connection) = (self.swarm.clone(), self.connection.clone());
        tracing::debug!(blob = %job.id.short(), piece = ?job.piece, "requesting");
        let request = async move {
            let result = swarm.execute(&connection, &job, &holder).await;
            Finished::Worked { lease: job.lease, id: job.id, result }
        };
        self.work.spawn(request.in_current_span());
    }

    /// Records the result of a subtask. An error ends the task.
    async fn ended(&mut self, ended: Finished) -> Result<(), Parting> {
        match ended {
            Finished::Asked { ids, again, haves: Ok(haves) } => {
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
            Finished::Asked { haves: Err(reason), .. } => {
                // The peer runs another program, such as sendme, so it is tried for every blob.
                tracing::debug!(%reason, "the peer does not say what it has");
                self.asking = false;
                self.speaks = false;
                self.ask(false);
            }
            Finished::Worked { lease, id, result } => return self.worked(lease, &id, result).await,
        }
        Ok(())
    }

    /// Records the result of a request. An error ends the task.
    async fn worked(&mut self, lease: LeaseId, id: &Hash, result: Result<(), TransferError>) -> Result<(), Parting> {
        self.swarm.lock().holders.remove(&lease);
        match result {
            Ok(()) => self.swarm.change(|plan, now| plan.finish(lease, None, now)),
            // The request waited too long behind other requests of ours, whose bytes came. It is made once
            // more.
            Err(TransferError::Provider(ProviderAnswer::Stalled)) if !self.is_silent() => {
                self.swarm.change(|plan, now| plan.finish(lease, None, now));
            }
            // The broken connection had brought something, so a new one may bring more.
            Err(TransferError::Provider(ProviderAnswer::Lost(reason))) if self.may_reconnect() => {
                tracing::debug!(%reason, "the connection broke");
                self.swarm.change(|plan, now| plan.finish(lease, None, now));
                return Err(Parting::Reconnect);
            }
            Err(TransferError::Provider(answer)) => {
                tracing::debug!(blob = %id.short(), %answer, "a request failed");
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
                    TransferError::TooLarge { size } => FetchFailure::TooLarge { size },
                    TransferError::Local(error) => local_failure(&error),
                    TransferError::Provider(answer) => FetchFailure::Store(answer.to_string()),
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

    /// Whether the peer has brought nothing at all for the stall timeout.
    fn is_silent(&self) -> bool {
        let now = self.swarm.now();
        self.swarm.lock().plan.is_silent(&self.peer, self.swarm.stall_timeout, now)
    }

    /// Whether a new connection is worth trying: the old one is closed, and had brought something.
    fn may_reconnect(&self) -> bool {
        self.connection.close_reason().is_some() && self.swarm.lock().plan.has_brought(&self.peer, self.connected)
    }

    /// Gives the peer's leases back. If the peer failed as a whole, the plan asks it for nothing that is wanted
    /// now.
    async fn leave(&mut self, parting: &Parting) {
        self.swarm.change(|plan, _| match parting {
            Parting::Failed(answer) => plan.dismiss(&self.peer, answer),
            Parting::Reconnect => plan.take_back(&self.peer),
        });
        bump(&self.swarm.work);
        // The other requests have been told to stop. The bytes that they have written are counted before the
        // task ends.
        while let Some(Ok(ended)) = self.work.join_next().await {
            if let Finished::Worked { lease, id, .. } = ended {
                self.swarm.lock().holders.remove(&lease);
                self.swarm.change(|plan, now| plan.finish(lease, None, now));
                self.swarm.complete(&id).await;
            }
        }
    }
}
