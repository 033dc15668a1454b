//! A running node: carries the protocol's inputs and outputs with a real clock, store and network.
//!
//! One loop owns the replica. Entries come from peers, results from tasks, deadlines from the clock. The loop
//! gives each of them to the protocol, and starts the work that the protocol wants, once, as a task that the
//! loop owns and awaits. The protocol's outputs are level-triggered: it repeats what is still to do. So a task
//! that fails is started again, and a node that was killed continues from its journal.
//!
//! # Clocks
//!
//! Nothing that is signed, drawn, scored or paid depends on a time, so a node whose clock is wrong agrees with
//! all others. A validator measures only how long it waits in a phase, and for that it reads the monotonic
//! clock of its machine, which nobody sets. If a process was suspended and continues, all its waits are over at
//! once, although others had no chance to reach it. The driver notices that, reports it, and starts the time of
//! the phase again.

mod acts;
mod challenges;
mod company;
mod config;
mod listen;
mod noticed;
mod open;
mod present;
mod prune;
mod pruner;
mod register;
mod report;
mod task;
mod train;
mod warnings;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use templar_audit::chain;
use templar_home::Home;
use templar_home::registration::Application;
use templar_home::replica::{Replica, SubmitError, Taken};
use templar_manifest::{Contribution, ContributionId, WindowIndex};
use templar_net::{Net, PeerAddr, Pulled, Reach, blob_ticket_text};
use templar_protocol::{Input, Measured, Output, Reject};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{Instrument as _, Span};

use crate::clock::agreement;
use crate::event::NodeEvent;
use crate::executor::WorkError;
use crate::local_socket::LocalAsk;
use crate::peers;
use crate::stop::stopped;
use company::{Company, Sight, Word};
pub use config::{DriverConfig, DriverError, NodeParts, NodeRole, Offer, Pacing};
use noticed::{Ears, Present};
use pruner::Pruner;
use task::{Done, TaskContext, TaskId, Tasks};

/// How long the start waits until a relay accepts this node, so that its ticket names the relay.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);

/// How often the node looks whether anybody is there, and whether warnings have come again.
const LOOK_AROUND: Duration = Duration::from_secs(2);

/// How far this node has followed the closed windows of its run.
#[derive(Debug, Default)]
struct Followed {
    /// The window with which the newest model begins that is here.
    until: WindowIndex,
    /// The open window at the last pruning.
    pruned: WindowIndex,
    /// Whether the end of the run was reported.
    finished: bool,
}

/// The knowledge of this node about its peers.
#[derive(Debug)]
struct PeerNotes {
    /// The peers that the home's file names already.
    remembered: Vec<PeerAddr>,
    /// Whether the user was warned that this machine's clock differs from those of peers.
    told_of_clock: bool,
    /// Whether anybody is there.
    company: Company,
}

/// A node at work.
struct Driver {
    replica: Replica,
    net: Net,
    config: DriverConfig,
    home: Home,
    shared: TaskContext,
    tasks: Tasks,
    followed: Followed,
    peers: PeerNotes,
    /// The number of tasks that have failed since one last succeeded.
    failures: u32,
    /// Present if the node prunes.
    pruner: Option<Pruner>,
    /// The slot that this home wants.
    application: Option<Application>,
    /// The words of peers since the start of this node.
    ears: Ears,
    /// Contributions of this miner whose challenge it has seen.
    challenged: BTreeSet<ContributionId>,
    /// The window whose roll the network knows.
    called: Option<WindowIndex>,
    /// The open window at the last look, and its span.
    span: (Option<WindowIndex>, Span),
    /// Since when the phase lasts, and when a peer was last heard.
    present: Present,
}

/// Runs a node until `stop` becomes true, or until it cannot go on. The store is shut down when this returns.
///
/// # Errors
/// The home, the run or the network cannot be opened, the disk takes nothing more, or the rules refuse this
/// node's own entry.
pub async fn run(
    parts: NodeParts,
    config: DriverConfig,
    events: mpsc::Sender<NodeEvent>,
    stop: watch::Receiver<bool>,
) -> Result<(), DriverError> {
    let mut locals = JoinSet::new();
    let result = match Driver::open(&parts, config, events, &mut locals).await {
        Ok((mut driver, requests, metrics)) => {
            let mut looks = tokio::time::interval(LOOK_AROUND);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let inlets = Inlets { entries: driver.net.pull_entries(), requests, stop, looks };
            let result = driver.run(inlets, metrics).await;
            driver.close().await;
            result
        }
        Err(error) => Err(error),
    };
    locals.shutdown().await;
    let NodeParts { home, lock, store, .. } = parts;
    store.shutdown().await;
    let _ = std::fs::remove_file(home.socket_path());
    drop(lock);
    result
}

/// The inputs of the loop from outside.
struct Inlets {
    /// Entries that peers send.
    entries: mpsc::Receiver<Pulled>,
    /// Requests of commands in this home.
    requests: mpsc::Receiver<LocalAsk>,
    /// Becomes true when the node is to stop.
    stop: watch::Receiver<bool>,
    /// The moments at which the node looks around.
    looks: Interval,
}

impl Driver {
    async fn run(&mut self, mut inlets: Inlets, metrics: Option<SocketAddr>) -> Result<(), DriverError> {
        // With this the ticket names the relay. Without a relay it names the addresses that there are.
        self.net.relayed(RELAY_PATIENCE).await;
        let (run, window) = (self.replica.context.run, self.replica.node().state().window().0);
        let record = self.replica.node().state().record().map(|record| record.hash());
        let ticket = self.net.ticket(record).to_string();
        let blob_ticket = self.config.share.map(|offer| match offer {
            Offer::Blob(id) => blob_ticket_text(&self.net.blob_ticket(&id)),
            Offer::Collection(id) => blob_ticket_text(&self.net.collection_ticket(&id)),
        });
        let own = self.net.addr().addrs;
        let (addresses, reach) = (own.iter().map(ToString::to_string).collect(), Reach::of_all(&own));
        let key = self.replica.me();
        self.emit(NodeEvent::Started { key, run, ticket, blob_ticket, window, addresses, reach }).await;
        if let Some(addr) = metrics {
            self.emit(NodeEvent::Metrics { addr }).await;
        }
        for note in self.replica.notes().to_vec() {
            self.shared.warn(note).await;
        }
        self.call_roll();
        self.warn_without_a_slot().await;
        self.report_silence().await?;
        self.listen();
        let todo = self.replica.node().todo();
        let span = self.window_span();
        self.carry_out(todo).instrument(span).await?;
        loop {
            let span = self.window_span();
            if self.turn(&mut inlets).instrument(span).await?.is_break() {
                return Ok(());
            }
        }
    }

    /// The span of the open window. Everything that happens while the window is open is in it, also the tasks
    /// that are started for it.
    fn window_span(&mut self) -> Span {
        let window = self.replica.node().state().window();
        if self.span.0 != Some(window) {
            self.span = (Some(window), tracing::info_span!(parent: None, "window", n = %window));
        }
        self.span.1.clone()
    }

    /// Tells the network who takes part in the open window, once for each window.
    fn call_roll(&mut self) {
        let node = self.replica.node();
        let window = Some(node.state().window());
        if self.called != window {
            self.net.call_roll(peers::roll(node.state()));
        }
        self.called = window;
    }

    /// Starts the work that is due, then takes the next event. Breaks if the node is to stop.
    async fn turn(&mut self, inlets: &mut Inlets) -> Result<ControlFlow<()>, DriverError> {
        self.ask_for_a_slot().await?;
        self.follow();
        self.report_end().await;
        self.answer_challenges().await;
        self.prune();
        self.notice_phase();
        self.call_roll();
        tokio::select! {
            () = stopped(&mut inlets.stop) => return Ok(ControlFlow::Break(())),
            pulled = inlets.entries.recv() => match pulled {
                Some(Pulled::Entry { peer, bytes }) => {
                    self.notice_entry();
                    self.take_entry(&peer, &bytes).await?;
                }
                Some(Pulled::CaughtUp { .. }) => {
                    self.remember_peers();
                    self.compare_clocks().await;
                    self.have_listened(true).await?;
                }
                None => return Ok(ControlFlow::Break(())),
            },
            Some(asked) = inlets.requests.recv() => self.take_request(asked).await?,
            Some((id, result)) = self.tasks.next() => self.finish(id, result).await?,
            _ = inlets.looks.tick() => self.look_around().await,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Looks whether anybody is there, and reports it if nobody is. Reports the warnings that have come again.
    async fn look_around(&mut self) {
        match self.peers.company.look(&Sight::of(&self.net), self.shared.warnings.now()) {
            Some(Word::Trouble(trouble)) => {
                let message = format!("{trouble}; this node goes on trying, and `templar doctor` looks closer");
                self.shared.warn(message).await;
            }
            Some(Word::Over(seconds)) => self.emit(NodeEvent::Reconnected { seconds }).await,
            None => {}
        }
        self.shared.warn_again().await;
    }

    /// Ends the tasks, then the network. Training saves its state after the current step, and this waits for
    /// it. All other work is dropped: a restart loses nothing with it, and judging takes as long as training
    /// did.
    async fn close(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.gatherer.stop();
        self.tasks.shutdown().await;
        self.remember_peers();
        self.net.shutdown().await;
    }

    /// Writes the addresses of peers into the home, if they have changed. A node that is killed has no later
    /// chance to do so, and without it would not find peers again that have moved.
    fn remember_peers(&mut self) {
        let peers = self.net.peers();
        if peers == self.peers.remembered {
            return;
        }
        match peers::save(&self.home, &peers) {
            Ok(()) => self.peers.remembered = peers,
            Err(error) => tracing::warn!(%error, "peers are not remembered"),
        }
    }

    /// Warns once if this machine's clock differs from the clocks of most peers.
    async fn compare_clocks(&mut self) {
        if self.peers.told_of_clock {
            return;
        }
        if let Some(problem) = agreement(&self.net.skews()).problem() {
            self.peers.told_of_clock = true;
            self.shared.warn(problem).await;
        }
    }

    async fn emit(&self, event: NodeEvent) {
        self.shared.emit(event).await;
    }

    /// Takes an entry from a peer. An entry that no honest node accepts is the peer's fault.
    async fn take_entry(&mut self, peer: &[u8; 32], bytes: &[u8]) -> Result<(), DriverError> {
        let taken = self.replica.take(bytes)?;
        self.report_silence().await?;
        match taken {
            Taken::In(outputs) => self.carry_out(outputs).await,
            Taken::OutOfTime => Ok(()),
            Taken::TooEarly => {
                self.net.read_again(peer);
                Ok(())
            }
            Taken::Faulty(reason) => {
                self.net.blame(peer, &reason);
                self.shared.warn(format!("an entry was refused: {reason}")).await;
                Ok(())
            }
        }
    }

    /// Carries out the protocol's outputs: reports events, signs at once, and starts work that is not under way.
    async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), DriverError> {
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                // The same output comes again when this node may sign.
                Output::Sign(_) | Output::Reveal { .. } if !self.may_sign() => {}
                Output::Sign(document) if self.config.role == NodeRole::Validator => {
                    self.pause().await;
                    tracing::debug!(kind = document.kind().name(), "signs");
                    let outputs = self.replica.sign(document)?;
                    // Each answer repeats what is still to do, so the outputs that were queued before are stale.
                    queue = outputs.into();
                }
                Output::Reveal { .. } if self.config.role == NodeRole::Validator => {
                    self.pause().await;
                    tracing::debug!("reveals its value for the seed");
                    queue = self.replica.reveal()?.into();
                }
                Output::Sign(_) | Output::Reveal { .. } => {}
                output => {
                    if let Output::Closed { window, .. } = &output {
                        self.shared.executor.close(*window);
                        self.tasks.cancel(|task| task.judges_until(*window));
                    }
                    self.report(&output).await;
                    self.start(output);
                }
            }
        }
        Ok(())
    }

    async fn finish(&mut self, id: TaskId, result: Result<Done, WorkError>) -> Result<(), DriverError> {
        let is_wait = |done: &Done| matches!(done, Done::Retry | Done::Pruned | Done::Deadline { .. } | Done::Listened);
        if result.as_ref().is_ok_and(|done| !is_wait(done)) {
            self.failures = 0;
        }
        let input = match result {
            Ok(Done::Trained(contribution)) => return self.contribute(contribution).await,
            Ok(Done::Judged { seed, window, entries, verdicts, contests }) => {
                self.report_judged(window, &entries).await;
                Input::Measured(Measured::Judged { window, seed, entries, verdicts, contests })
            }
            Ok(Done::Confirmed { window, subject, upto, replay, witnesses }) => {
                Input::Measured(Measured::Confirmed { window, subject, upto, replay, witnesses })
            }
            Ok(Done::Remeasured { window, subject, found }) => {
                Input::Measured(Measured::Remeasured { window, subject, found })
            }
            Ok(Done::Applied { window, outcomes, applied }) => {
                Input::Measured(Measured::Applied { window, outcomes, stepped: applied.stepped })
            }
            Ok(Done::Deadline { window, phase }) => {
                self.report_deadline(window, phase).await;
                Input::Deadline { window, phase }
            }
            Ok(Done::Followed(window)) => {
                self.followed.until = window;
                let todo = self.replica.node().todo();
                return self.carry_out(todo).await;
            }
            Ok(Done::Answered { window, replayed }) => {
                let state = format!("the state before this miner's contribution to window {window}");
                let message = match replayed {
                    Some(count) => format!("{state} is here and served; replayed contributions: {count}"),
                    None => format!("{state} is lost: its blobs and the states before it are missing here"),
                };
                self.shared.warn(message).await;
                return Ok(());
            }
            Ok(Done::Retry) => {
                let todo = self.replica.node().todo();
                return self.carry_out(todo).await;
            }
            Ok(Done::Listened) => return self.have_listened(false).await,
            Ok(Done::Pruned) | Err(WorkError::Stopped) => return Ok(()),
            Err(error @ (WorkError::Put(_) | WorkError::Home(_))) => return Err(error.into()),
            Err(error) => {
                let left = self.shared.executor.leave_device(&error);
                let message = match left {
                    Some(device) => format!("{id}: {}; {device} is not used any more, the CPU goes on", chain(&error)),
                    None => format!("{id}: {error}; trying again"),
                };
                self.shared.warn(message).await;
                self.start_retry();
                return Ok(());
            }
        };
        match self.replica.submit(input) {
            Ok(outputs) => self.carry_out(outputs).await,
            // The window has closed while the work was under way.
            Err(SubmitError::Reject(Reject::Measurement(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Signs a trained contribution and sends it, if the window still takes it.
    async fn contribute(&mut self, contribution: Contribution) -> Result<(), DriverError> {
        let window = contribution.window;
        let outputs = match self.replica.contribute(contribution) {
            Ok(outputs) => outputs,
            // A slow miner loses a window, not its place in the run.
            Err(SubmitError::Reject(Reject::NotInCut(_))) => {
                let message = format!("this node trained window {window} too slowly: its update came after the cut");
                self.shared.warn(message).await;
                self.replica.node().todo()
            }
            // Its key was heard elsewhere while it trained, or it may have contributed already.
            Err(SubmitError::Silent(silence)) => {
                self.shared.warn(format!("the contribution to window {window} is not sent: {silence}")).await;
                self.replica.node().todo()
            }
            Err(error) => return Err(error.into()),
        };
        self.shared.executor.forget_snapshot(window);
        self.carry_out(outputs).await
    }
}
