//! The arguments of the commands that use the network, and the loop of a node until it is told to stop.
//!
//! The command line is stronger than the environment, and the environment is stronger than `config.toml` in the home.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use templar_home::Home;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_manifest::Hash;
use templar_net::{PeerAddr, Relays, Ticket};
use templar_node::driver::{self, DriverConfig, NodeParts};
use templar_node::event::NodeEvent;
use templar_node::exchange::{self, Destination};
use templar_node::peers as known;
use templar_node::settings::{HomeSettings, LimitSettings, NetworkSettings, Networking};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::bar::Bar;
use crate::error::{Code, CommandError};
use crate::invocation::Invocation;
use crate::printer::Printer;

/// The number of events that can wait to be printed.
const EVENTS: usize = 256;

/// The network settings of a command. The environment and config.toml supply the ones that are missing.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Listen {
    /// Listen at this address [default: any port, on loopback; with --lan, --relay or --advertise on all interfaces]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Find nodes of the run in the local network by multicast (mDNS), and be found by them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lan: Option<bool>,
    /// Relays for nodes that cannot reach each other: none, n0 (with its name service), or URLs of your own
    #[arg(long, value_name = "RELAY")]
    relay: Option<Relays>,
    /// Advertise this address too: a UDP port that is forwarded to this node
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Vec<SocketAddr>,
    /// Limit what peers may use, such as upload=2MB (a second) or connections=64; the guide to networks lists
    /// all limits
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<LimitSettings>,
}

impl Listen {
    /// The settings of the command line, completed by the environment.
    pub(crate) fn said(&self, invocation: &Invocation) -> NetworkSettings {
        let advertise = Some(self.advertise.clone()).filter(|addrs| !addrs.is_empty());
        let (bind, lan, relay) = (self.bind, self.lan, self.relay.clone());
        // If a limit is given twice, the later one counts.
        let limits = self.limit.iter().cloned().fold(LimitSettings::default(), |earlier, later| later.or(earlier));
        NetworkSettings { bind, lan, relay, advertise, metrics: None, limits }.or(invocation.network.clone())
    }

    /// The settings of the command line, the environment and the home's file.
    pub(crate) fn settings(&self, invocation: &Invocation, home: &Home) -> Result<NetworkSettings, CommandError> {
        Ok(self.said(invocation).or(HomeSettings::load(home)?.network))
    }

    /// The network configuration that follows from all settings.
    pub(crate) fn networking(&self, invocation: &Invocation, home: &Home) -> Result<Networking, CommandError> {
        Ok(self.settings(invocation, home)?.networking())
    }
}

/// The home as the destination of a transfer.
pub(crate) fn destination<'a>(access: &'a Access, networking: &'a Networking) -> Result<Destination<'a>, CommandError> {
    let store = access.store().ok_or_else(read_only)?;
    Ok(Destination {
        home: &access.home,
        store,
        secret_key: access.home.key()?.to_bytes(),
        networking,
        tally: Arc::default(),
    })
}

/// The peers that the user names: by the ticket of a run, or by single addresses.
pub(crate) fn peers(texts: &[String]) -> Result<Vec<PeerAddr>, CommandError> {
    let mut peers = Vec::new();
    for text in texts {
        match text.parse::<Ticket>() {
            Ok(ticket) => peers.extend(ticket.peers),
            Err(error) => peers.push(text.parse::<PeerAddr>().map_err(|_| error)?),
        }
    }
    Ok(peers)
}

/// Fetches the basic data of a run, unless the home has the run already, and makes it the current run.
pub(crate) fn join(
    access: &Access,
    networking: &Networking,
    ticket: &Ticket,
    printer: Printer,
) -> Result<RunContext, CommandError> {
    let run = ticket.run.into();
    if !access.home.runs()?.contains(&run) {
        let to = destination(access, networking)?;
        let _bar = Bar::of(to.tally.clone(), printer, access.runtime());
        access.runtime().block_on(exchange::join(&to, ticket))?;
        let (put, durable) = (|bytes| access.put(bytes), |blobs: &[Hash]| access.sync(blobs));
        RunContext::create(&access.home, access.blobs(), &put, &durable, run)?;
    } else {
        // The peers may have new addresses since the last invitation.
        known::save(&access.home, &ticket.peers)?;
    }
    access.home.set_current_run(&run)?;
    Ok(access.run(Some(run))?)
}

fn read_only() -> CommandError {
    CommandError::says(Code::Failed, "the home is open for reading only")
}

/// Runs a node in a home until it is told to stop, and hands its events to `say`.
pub(crate) fn run_node(
    access: Access,
    context: RunContext,
    config: DriverConfig,
    stop: Stop,
    mut say: impl FnMut(&NodeEvent),
) -> Result<(), CommandError> {
    let key = access.home.key()?;
    let (home, lock, store, runtime) = access.into_parts().ok_or_else(read_only)?;
    let (sender, mut events) = mpsc::channel(EVENTS);
    let parts = NodeParts { home, lock, store, context, key };
    let stopped = stop.watch(runtime.handle());
    let node = runtime.spawn(driver::run(parts, config, sender, stopped));
    while let Some(event) = runtime.block_on(events.recv()) {
        say(&event);
    }
    let ended = runtime.block_on(node);
    // Threads that still compute hold nothing that a restart needs.
    if let Ok(runtime) = Arc::try_unwrap(runtime) {
        runtime.shutdown_background();
    }
    match ended {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(CommandError::new(Code::Failed, error)),
    }
}

/// The signal, besides Ctrl-C, that stops a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Only Ctrl-C, or the signal by which systems end services.
    OnSignal,
    /// The end of its standard input, so that the node ends with the process that started it.
    WithStdin,
}

impl Stop {
    /// A value that becomes true when the node must stop.
    pub(crate) fn watch(self, runtime: &Handle) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        let signalled = sender.clone();
        runtime.spawn(async move {
            signal().await;
            signalled.send_replace(true);
            // A second Ctrl-C ends the process at once. Acknowledged entries are on the disk.
            signal().await;
            std::process::exit(Code::Interrupted as i32);
        });
        if self == Self::WithStdin {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
                sender.send_replace(true);
            });
        }
        receiver
    }
}

/// Waits for Ctrl-C, or for the signal by which systems end services.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Reads `MILLISECONDS:SEED`, the longest delay and the seed of all delays.
pub(crate) fn delays(text: &str) -> Result<(Duration, u64), String> {
    let parsed = text.split_once(':').and_then(|(longest, seed)| Some((longest.parse().ok()?, seed.parse().ok()?)));
    let (longest, seed) = parsed.ok_or("expected MILLISECONDS:SEED")?;
    Ok((Duration::from_millis(longest), seed))
}
