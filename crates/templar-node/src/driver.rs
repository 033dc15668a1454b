//! A running node: carries the protocol's inputs and outputs with a real clock, store and network.
//!
//! One loop owns the replica. Entries come from peers, results from tasks, deadlines from the clock; each is given to the
//! protocol, and what the protocol wants done is started once, as a task that this loop owns and waits for. What the
//! protocol says is level-triggered, so a task that fails is simply started again, and a node that was killed goes on from
//! its journal.
//!
//! # Clocks
//!
//! Nothing that is signed, drawn, scored or paid depends on a time, so a home whose clock is wrong agrees with all others.
//! Only how long a validator waits in a phase is measured, by the monotonic clock of its machine, which nobody sets. Where a
//! process was stopped and goes on, everything that it waits for is due at once, although others had no chance to reach it:
//! that is noticed and said, and the phase gets its time again.

mod acts;
mod damage;
mod gather;
mod prune;
mod register;
mod report;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use templar_manifest::{
    Contribution, ContributionId, Hash, LateVerdict, Outcome, PublicKey, Replay, RunId, ScoreEntry, SecretKey,
    WindowIndex,
};
use templar_net::{BindError, Net, PeerAddr, Pulled};
use templar_protocol::{Input, Measured, Output, Phase, Reject, Subject};
use templar_store::{BlockingStore, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::agreement;
use crate::compute::compute;
use crate::context::RunContext;
use crate::event::Event;
use crate::home::{Home, HomeError, HomeLock};
use crate::inventory::InventoryError;
use crate::registration::Application;
use crate::replica::{Replica, ReplicaError, SubmitError, Taken};
use crate::settings::Networking;
use crate::workbench::{Conduct, WorkError, Workbench};
use crate::{metrics, peers, socket};
pub(crate) use damage::Damage;
use damage::Watched;
pub use gather::Way;
pub(crate) use gather::{AGGREGATE_PATIENCE, Gatherer, within};
use prune::Pruner;
pub(crate) use register::{ASKED_AT_ONCE, Asked, Request};
pub use report::closed_event;

/// How long the ticket waits for a relay to take this node in.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);

/// What a node does of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trains.
    Miner,
    /// Judges and closes windows.
    Validator,
    /// Keeps and serves all evidence.
    Seeder,
    /// Serves what it has, and relays entries.
    Sharer,
}

/// How a node runs.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// What it does.
    pub role: Role,
    /// How it uses the network.
    pub networking: Networking,
    /// Where `/metrics` is answered, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Whom it knows at the start, besides those of its home.
    pub peers: Vec<PeerAddr>,
    /// How it comes by its deltas.
    pub conduct: Conduct,
    /// What a ticket of its own is wanted for.
    pub share: Option<Offer>,
    /// Waits for up to this long before each act, differently each time, drawn from the seed: for tests of order.
    pub delays: Option<(Duration, u64)>,
    /// Whether it removes what no run needs any more as windows close, see [`crate::retention`].
    pub prune: bool,
}

/// What has a ticket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// One blob.
    Blob(Hash),
    /// A collection, by its list, with all blobs on it: see [`templar_net::collect`].
    Collection(Hash),
}

/// Why a node stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The run cannot be opened.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The endpoint cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The journal cannot be written, or a vote is refused by the rules.
    #[error("this node's own entry was not taken")]
    Submit(#[from] SubmitError),
    /// Its own work cannot be done.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It is not known what may be pruned.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The local socket.
    #[error("the local socket cannot be opened")]
    Socket(#[source] std::io::Error),
    /// The address where metrics are to be answered.
    #[error("cannot answer metrics at {addr}")]
    Metrics {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Genesis does not name the key.
    #[error("key {0} is not a validator of this run")]
    NotAValidator(PublicKey),
}

/// What a task came to.
enum Done {
    Trained(Contribution),
    Judged {
        seed: Hash,
        window: WindowIndex,
        entries: Vec<ScoreEntry>,
        verdicts: Vec<LateVerdict>,
    },
    Confirmed {
        window: WindowIndex,
        subject: Subject,
        replay: Replay,
        witnesses: Vec<u64>,
    },
    Applied {
        window: WindowIndex,
        outcomes: Vec<Outcome>,
        applied: Box<templar_audit::Applied>,
    },
    Followed(usize),
    /// A challenge: the state is here, which took so many replays; none where it is lost.
    Answered {
        window: WindowIndex,
        replayed: Option<usize>,
    },
    Deadline {
        window: WindowIndex,
        phase: Phase,
    },
    Retry,
    Pruned,
}

/// What every task needs.
#[derive(Clone)]
struct Shared {
    bench: Arc<Workbench>,
    gatherer: Gatherer,
    events: mpsc::Sender<Event>,
    stopping: Arc<AtomicBool>,
}

/// A node at work.
pub struct Driver {
    replica: Replica,
    net: Net,
    config: DriverConfig,
    shared: Shared,
    tasks: JoinSet<(String, Result<Done, WorkError>)>,
    /// Names of the tasks that run.
    under_way: BTreeSet<String>,
    /// Closed windows whose model is here.
    followed: usize,
    /// Whether the end of the run was reported.
    finished: bool,
    home: Home,
    /// Acts so far, for [`DriverConfig::delays`].
    acts: u64,
    /// Attempts that failed since work last came to something.
    failures: u32,
    /// What the home has written down of where others are.
    remembered: Vec<PeerAddr>,
    /// Whether it was said that this machine's clock differs from those of peers.
    told_of_clock: bool,
    /// Where metrics are answered.
    metrics: Option<SocketAddr>,
    /// Where the node prunes.
    pruner: Option<Pruner>,
    /// Closed windows after which was pruned.
    pruned: usize,
    /// The slot that this home wants.
    application: Option<Application>,
    /// Contributions of this miner of which it has heard that they are challenged.
    challenged: BTreeSet<ContributionId>,
    /// Where commands in this home ask for one, and for other things.
    asking: register::Asking,
}

/// Everything that a driver is made of.
pub struct Parts {
    /// The home, whose lock ends with the driver.
    pub home: Home,
    /// Its lock.
    pub lock: HomeLock,
    /// Its store.
    pub store: Store,
    /// The run.
    pub context: RunContext,
    /// The key it acts with.
    pub key: SecretKey,
}

/// Runs a node until `stop` becomes true, or until it cannot go on. The store is shut down when this returns.
pub async fn run(
    parts: Parts,
    config: DriverConfig,
    events: mpsc::Sender<Event>,
    stop: watch::Receiver<bool>,
) -> Result<(), DriverError> {
    let Parts { home, lock, store, context, key } = parts;
    let result = serve(&home, &store, context, key, config, events, stop).await;
    store.shutdown().await;
    let _ = std::fs::remove_file(home.socket_path());
    drop(lock);
    result
}

async fn serve(
    home: &Home,
    store: &Store,
    context: RunContext,
    key: SecretKey,
    config: DriverConfig,
    events: mpsc::Sender<Event>,
    stop: watch::Receiver<bool>,
) -> Result<(), DriverError> {
    let me = key.public();
    if config.role == Role::Validator && context.genesis.validator(&me).is_none() {
        return Err(DriverError::NotAValidator(me));
    }

    let mut locals = JoinSet::new();
    let (asked, asking) = mpsc::channel(ASKED_AT_ONCE);
    match socket::bind(&home.socket_path()) {
        Ok(listener) => {
            locals.spawn(socket::serve(listener, store.clone(), asked));
        }
        // The system bounds the length of a socket's path, which is no reason not to take part in a run.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            let message =
                format!("reading commands cannot work beside this node, its home's path is too long: {error}");
            let _ = events.send(Event::Warning { message }).await;
        }
        Err(error) => return Err(DriverError::Socket(error)),
    }

    let (secret_key, run) = (key.to_bytes(), context.run);
    let damage = Damage::default();
    let bench = workbench(home, store, context.clone(), damage.clone())?;
    let known = peers::load(home)?;
    // Folding a long journal is computing.
    let opened = {
        let home = home.clone();
        move || Replica::open(&home, context, key)
    };
    let replica = compute(opened).await?;
    let pruner = if config.prune { Some(pruner(home, store, replica.context.run).await?) } else { None };
    let metrics_at = match config.metrics {
        Some(addr) => Some(metrics::listen(addr).await.map_err(|source| DriverError::Metrics { addr, source })?),
        None => None,
    };
    let net = Net::bind(config.networking.config(secret_key), store.clone(), replica.log(), Arc::new(replica.policy()))
        .await?;
    for peer in known.into_iter().chain(config.peers.iter().cloned()) {
        if let Err(error) = net.add_peer(peer) {
            tracing::warn!(%error, "a peer's address is of no use");
        }
    }
    let mut metrics_addr = None;
    if let Some(listener) = metrics_at {
        metrics_addr = listener.local_addr().ok();
        let source = metrics::Source::new(net.clone(), replica.standing(), home.store_dir());
        locals.spawn(metrics::serve(listener, Arc::new(source)));
    }
    let shared = Shared {
        bench: Arc::new(bench),
        gatherer: Gatherer::new(net.clone(), store.clone(), Arc::default(), damage),
        events,
        stopping: Arc::new(AtomicBool::new(false)),
    };
    let mut driver = Driver {
        replica,
        net,
        config,
        shared,
        tasks: JoinSet::new(),
        under_way: BTreeSet::new(),
        followed: 0,
        finished: false,
        home: home.clone(),
        acts: 0,
        failures: 0,
        remembered: Vec::new(),
        told_of_clock: false,
        metrics: metrics_addr,
        pruner,
        pruned: 0,
        application: Application::kept(home, &run)?,
        challenged: BTreeSet::new(),
        asking,
    };
    let result = driver.run(stop).await;
    driver.close().await;
    locals.shutdown().await;
    result
}

/// Returns when `stop` is true, or when nobody is left who could make it so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn pruner(home: &Home, store: &Store, run: RunId) -> Result<Pruner, InventoryError> {
    let blobs = Arc::new(BlockingStore::new(store.clone(), tokio::runtime::Handle::current()));
    let (home, store) = (home.clone(), store.clone());
    compute(move || Pruner::new(&home, store, blobs, run)).await
}

/// A workbench on an open store, which remembers what it finds corrupt there.
pub(crate) fn workbench(
    home: &Home,
    store: &Store,
    context: RunContext,
    damage: Damage,
) -> Result<Workbench, WorkError> {
    let handle = tokio::runtime::Handle::current();
    let blobs = Arc::new(Watched { blobs: BlockingStore::new(store.clone(), handle.clone()), damage });
    let keeping = store.clone();
    let keep = Arc::new(move |bytes: Vec<u8>| handle.block_on(keeping.put(bytes)));
    Workbench::new(context, home.clone(), blobs, keep)
}

impl Driver {
    async fn run(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), DriverError> {
        let mut entries = self.net.pull_entries();
        // So that the ticket names the relay; without one it names what there is.
        self.net.relayed(RELAY_PATIENCE).await;
        let (run, window) = (self.replica.context.run, self.replica.node().state().window().0);
        let record = self.replica.node().state().record().map(|record| record.hash());
        let ticket = self.net.ticket(record).to_string();
        let blob_ticket = self.config.share.map(|offer| match offer {
            Offer::Blob(id) => self.net.blob_ticket(&id).to_string(),
            Offer::Collection(id) => self.net.collection_ticket(&id).to_string(),
        });
        self.emit(Event::Started { key: self.replica.me(), run, ticket, blob_ticket, window }).await;
        if let Some(addr) = self.metrics {
            self.emit(Event::Metrics { addr }).await;
        }
        self.warn_without_a_slot().await;
        let todo = self.replica.node().todo();
        self.carry_out(todo).await?;
        loop {
            self.ask_for_a_slot().await?;
            self.follow();
            self.report_end().await;
            self.answer_challenges().await;
            self.prune();
            tokio::select! {
                () = stopped(&mut stop) => return Ok(()),
                pulled = entries.recv() => match pulled {
                    Some(Pulled::Entry { peer, bytes }) => self.take_entry(&peer, &bytes).await?,
                    Some(Pulled::CaughtUp { .. }) => {
                        self.remember_peers();
                        self.compare_clocks().await;
                    }
                    None => return Ok(()),
                },
                Some(asked) = self.asking.recv() => self.take_request(asked).await?,
                Some(joined) = self.tasks.join_next() => match joined {
                    Ok((name, result)) => {
                        self.under_way.remove(&name);
                        self.finish(&name, result).await?;
                    }
                    // Its name would stay among those under way, and the node would wait for it for ever.
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(error) => tracing::error!(%error, "a task was cancelled"),
                }
            }
        }
    }

    /// Ends the tasks, then the network. Training saves what it has after the step that it is in, and is waited for. What else
    /// computes has nothing that a restart would miss, so nobody waits for it: judging takes as long as training did.
    async fn close(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.gatherer.stop();
        while self.under_way.iter().any(|name| name.starts_with(acts::TRAINING)) {
            match self.tasks.join_next().await {
                Some(Ok((name, _))) => drop(self.under_way.remove(&name)),
                Some(Err(_)) => {}
                None => break,
            }
        }
        self.tasks.shutdown().await;
        self.remember_peers();
        self.net.shutdown().await;
    }

    /// Writes down where others are, if that is news: a node that is killed has no other time for it, and without it would
    /// find nobody again that has moved meanwhile.
    fn remember_peers(&mut self) {
        let peers = self.net.peers();
        if peers == self.remembered {
            return;
        }
        match peers::save(&self.home, &peers) {
            Ok(()) => self.remembered = peers,
            Err(error) => tracing::warn!(%error, "peers are not remembered"),
        }
    }

    /// Says once that this machine's clock is off, as far as peers tell.
    async fn compare_clocks(&mut self) {
        if self.told_of_clock {
            return;
        }
        if let Some(problem) = agreement(&self.net.skews()).problem() {
            self.told_of_clock = true;
            self.emit(Event::Warning { message: problem }).await;
        }
    }

    async fn emit(&self, event: Event) {
        // Nobody listening is not the node's trouble.
        let _ = self.shared.events.send(event).await;
    }

    /// An entry from a peer. One that no honest node accepts is the peer's fault.
    async fn take_entry(&mut self, peer: &[u8; 32], bytes: &[u8]) -> Result<(), DriverError> {
        match self.replica.take(bytes)? {
            Taken::In(outputs) => self.carry_out(outputs).await,
            Taken::OutOfTime => Ok(()),
            Taken::TooEarly => {
                self.net.read_again(peer);
                Ok(())
            }
            Taken::Faulty(reason) => {
                self.net.blame(peer, &reason);
                self.emit(Event::Warning { message: format!("an entry was refused: {reason}") }).await;
                Ok(())
            }
        }
    }

    /// Events are reported, signatures made at once, and work is started unless it is under way.
    async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), DriverError> {
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Sign(document) if self.config.role == Role::Validator => {
                    self.pause().await;
                    let outputs = self.replica.sign(document)?;
                    // Each answer repeats what is still to do, so what was queued before is stale.
                    queue = outputs.into();
                }
                Output::Reveal { .. } if self.config.role == Role::Validator => {
                    self.pause().await;
                    queue = self.replica.reveal()?.into();
                }
                Output::Sign(_) | Output::Reveal { .. } => {}
                output => {
                    self.report(&output).await;
                    self.start(output);
                }
            }
        }
        Ok(())
    }

    async fn finish(&mut self, name: &str, result: Result<Done, WorkError>) -> Result<(), DriverError> {
        if result.as_ref().is_ok_and(|done| !matches!(done, Done::Retry | Done::Pruned | Done::Deadline { .. })) {
            self.failures = 0;
        }
        let input = match result {
            Ok(Done::Trained(contribution)) => return self.contribute(contribution).await,
            Ok(Done::Judged { seed, window, entries, verdicts }) => {
                self.report_judged(window, &entries).await;
                Input::Measured(Measured::Judged { window, seed, entries, verdicts })
            }
            Ok(Done::Confirmed { window, subject, replay, witnesses }) => {
                Input::Measured(Measured::Confirmed { window, subject, replay, witnesses })
            }
            Ok(Done::Applied { window, outcomes, applied }) => {
                Input::Measured(Measured::Applied { window, outcomes, stepped: applied.stepped })
            }
            Ok(Done::Deadline { window, phase }) => {
                self.report_deadline(window, phase).await;
                Input::Deadline { window, phase }
            }
            Ok(Done::Followed(windows)) => {
                self.followed += windows;
                let todo = self.replica.node().todo();
                return self.carry_out(todo).await;
            }
            Ok(Done::Answered { window, replayed }) => {
                let state = format!("the state before this miner's contribution to window {window}");
                let message = match replayed {
                    Some(count) => format!("{state} is here and served; contributions replayed for it: {count}"),
                    None => format!("{state} is lost: neither its blobs nor what it follows from is here"),
                };
                self.emit(Event::Warning { message }).await;
                return Ok(());
            }
            Ok(Done::Retry) => {
                let todo = self.replica.node().todo();
                return self.carry_out(todo).await;
            }
            Ok(Done::Pruned) | Err(WorkError::Stopped) => return Ok(()),
            Err(error @ (WorkError::Put(_) | WorkError::Home(_))) => return Err(error.into()),
            Err(error) => {
                self.emit(Event::Warning { message: format!("{name}: {error}; trying again") }).await;
                self.start_retry();
                return Ok(());
            }
        };
        match self.replica.submit(input) {
            Ok(outputs) => self.carry_out(outputs).await,
            // The window closed while the work was under way.
            Err(SubmitError::Reject(Reject::Measurement(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Signs what was trained, and sends it where the window still takes it.
    async fn contribute(&mut self, contribution: Contribution) -> Result<(), DriverError> {
        let window = contribution.window;
        let outputs = match self.replica.contribute(contribution) {
            Ok(outputs) => outputs,
            // A slow miner loses a window, not its place in the run.
            Err(SubmitError::Reject(Reject::NotInCut(_))) => {
                let message = format!("window {window} was cut while this node trained it");
                self.emit(Event::Warning { message }).await;
                self.replica.node().todo()
            }
            Err(error) => return Err(error.into()),
        };
        self.shared.bench.forget_snapshot(window);
        self.carry_out(outputs).await
    }
}
