//! What the commands that use the network share: its arguments, and running a node until it is told to stop.
//!
//! What the command line says is stronger than the environment, which is stronger than the home's `config.toml`.

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

/// Events that may wait to be printed.
const EVENTS: usize = 256;

/// How a command uses the network. What is not said here, the environment or the home's config.toml may say.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Listen {
    /// Listen at this address [default: any port, for this machine only; with --lan, --relay or --advertise for all]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Find nodes of the run in the local network by multicast (mDNS), and be found
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lan: Option<bool>,
    /// Relays for nodes that cannot reach each other: none, n0 (with its name service), or URLs of your own
    #[arg(long, value_name = "RELAY")]
    relay: Option<Relays>,
    /// Others reach this node here too: a UDP port that is forwarded to it
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Vec<SocketAddr>,
    /// Bound what peers may use, such as upload=2MB a second or connections=64; the guide to networks lists all
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<LimitSettings>,
}

impl Listen {
    /// What the command line says, then the environment.
    pub(crate) fn said(&self, invocation: &Invocation) -> NetworkSettings {
        let advertise = Some(self.advertise.clone()).filter(|addrs| !addrs.is_empty());
        let (bind, lan, relay) = (self.bind, self.lan, self.relay.clone());
        // Of two words about the same, the later counts.
        let limits = self.limit.iter().cloned().fold(LimitSettings::default(), |earlier, later| later.or(earlier));
        NetworkSettings { bind, lan, relay, advertise, metrics: None, limits }.or(invocation.network.clone())
    }

    /// All that was said, the home's file included.
    pub(crate) fn settings(&self, invocation: &Invocation, home: &Home) -> Result<NetworkSettings, CommandError> {
        Ok(self.said(invocation).or(HomeSettings::load(home)?.network))
    }

    /// What follows from it.
    pub(crate) fn networking(&self, invocation: &Invocation, home: &Home) -> Result<Networking, CommandError> {
        Ok(self.settings(invocation, home)?.networking())
    }
}

/// Where what a command fetches goes.
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

/// The peers that texts name: tickets of a run, or single addresses.
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

/// Fetches what a run needs, unless the home has it already, and makes it the current one.
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
        // Whoever invites again may have moved.
        known::save(&access.home, &ticket.peers)?;
    }
    access.home.set_current_run(&run)?;
    Ok(access.run(Some(run))?)
}

fn read_only() -> CommandError {
    CommandError::says(Code::Failed, "the home is open for reading only")
}

/// Runs a node in a home until it is told to stop; `say` hears its events.
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
    // Threads that still compute hold nothing that a restart would miss.
    if let Ok(runtime) = Arc::try_unwrap(runtime) {
        runtime.shutdown_background();
    }
    match ended {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(CommandError::new(Code::Failed, error)),
    }
}

/// What ends a node besides Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing else.
    OnSignal,
    /// The end of its standard input: it lives as long as whoever started it.
    WithStdin,
}

impl Stop {
    /// Becomes true when the node is to stop.
    pub(crate) fn watch(self, runtime: &Handle) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        let signalled = sender.clone();
        runtime.spawn(async move {
            signal().await;
            signalled.send_replace(true);
            // A second time ends the process at once; what was acknowledged is on the disk.
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

/// Ctrl-C, or the signal by which systems end services.
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

/// `MILLISECONDS:SEED`.
pub(crate) fn delays(text: &str) -> Result<(Duration, u64), String> {
    let parsed = text.split_once(':').and_then(|(longest, seed)| Some((longest.parse().ok()?, seed.parse().ok()?)));
    let (longest, seed) = parsed.ok_or("expected MILLISECONDS:SEED")?;
    Ok((Duration::from_millis(longest), seed))
}
