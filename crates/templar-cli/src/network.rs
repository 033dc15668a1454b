//! The arguments of the commands that use the network, and the loop of a node until it is told to stop.
//!
//! The command line is stronger than the environment, and the environment is stronger than `config.toml` in the home.

use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use templar_home::Home;
use templar_home::access::Access;
use templar_home::context::{RunContext, read_manifest};
use templar_home::memory::Memory;
use templar_manifest::{Genesis, Hash};
use templar_net::{Addr, PeerAddr, Reach, Relays, Ticket};
use templar_node::driver::{self, DriverConfig, NodeParts};
use templar_node::event::NodeEvent;
use templar_node::exchange::{self, Destination};
use templar_node::peers as known;
use templar_node::settings::{HomeSettings, LimitSettings, NetworkSettings, Networking};
use templar_query::find::{runs_named, seen_chain};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::address::address;
use crate::bar::Bar;
use crate::error::{Code, CommandError};
use crate::invocation::Invocation;
use crate::printer::Printer;
use crate::signals::{asked_to_stop, interruptible};

/// The number of events that can wait to be printed.
const EVENTS: usize = 256;

/// The network settings of a command. The environment and config.toml supply the ones that are missing.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Listen {
    /// Listen at this address; [::] stands for all of IPv6 and IPv4 [default: any port, on loopback; on all interfaces
    /// with --lan, --relay or --advertise, and if a peer to reach is on another machine]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) bind: Option<SocketAddr>,
    /// Find nodes of the run in the local network by multicast (mDNS), and be found by them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lan: Option<bool>,
    /// Relays for nodes that cannot reach each other: none, n0 (with its name service), or URLs of your own
    #[arg(long, value_name = "RELAY")]
    relay: Option<Relays>,
    /// Advertise this address too: a UDP port that is forwarded to this node
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
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

    /// The network configuration that follows from all settings, for reaching `asked` and the peers that the home
    /// knows.
    ///
    /// # Errors
    /// None of the peers that are asked can be reached from the address that the user chose to listen at.
    pub(crate) fn networking(
        &self,
        invocation: &Invocation,
        home: &Home,
        asked: &[PeerAddr],
    ) -> Result<Networking, CommandError> {
        let settings = self.settings(invocation, home)?;
        let known = [asked, &known::load(home)?].concat();
        let networking = settings.networking(&known);
        match asked.first() {
            Some(peer) if !asked.iter().any(|peer| networking.can_try(peer)) => Err(out_of_reach(peer, &networking)),
            _ => Ok(networking),
        }
    }
}

/// The error about peers that cannot be reached with this configuration.
fn out_of_reach(peer: &PeerAddr, networking: &Networking) -> CommandError {
    let addrs: Vec<String> = peer.addrs.iter().map(ToString::to_string).collect();
    if addrs.is_empty() {
        let error = CommandError::says(Code::NotFound, "the ticket holds no address, so nobody can be asked");
        return error.hint("ask for a new ticket, from a node that listens at an address or uses a relay");
    }
    let addrs = addrs.join(", ");
    if peer.addrs.iter().all(|addr| addr.ip().is_none()) {
        let error =
            CommandError::says(Code::NotFound, format_args!("the peer is reached through the relay {addrs} alone"));
        return error.hint(format!("use that relay: --relay {addrs}"));
    }
    let text = format!("the peer is at {addrs}, and nothing can be sent there from {}", networking.bind);
    CommandError::says(Code::Usage, text).hint("listen at all addresses: leave out --bind, or pass --bind '[::]:0'")
}

/// The same error of a transfer, with a word about peers whose addresses all lead to the machine that uses them.
pub(crate) fn unreached(error: CommandError, peers: &[PeerAddr]) -> CommandError {
    match only_this_machine(peers) {
        Some(hint) if error.code() == Code::NotFound => error.more(hint),
        _ => error,
    }
}

/// What to do about peers whose addresses all lead to the machine that uses them, such as 127.0.0.1; `None` where there
/// is no peer, or one with another address.
pub(crate) fn only_this_machine(peers: &[PeerAddr]) -> Option<String> {
    let addrs: Vec<&Addr> = peers.iter().flat_map(|peer| &peer.addrs).collect();
    let is_here = |addr: &&Addr| addr.ip().is_some_and(|addr| Reach::of(addr.ip()) == Reach::Machine);
    let first = addrs.first().filter(|_| addrs.iter().all(is_here))?;
    Some(format!(
        "{first} leads to this machine itself: if the peer is on another one, ask for a ticket that it prints with --bind \
         0.0.0.0:4433"
    ))
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
        // Only an address has this letter.
        if text.contains('@') {
            peers.push(text.trim().parse()?);
        } else {
            peers.extend(text.parse::<Ticket>()?.peers);
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
        interruptible(access.runtime(), exchange::join(&to, ticket))?
            .map_err(|error| unreached(error.into(), &ticket.peers))?;
        let genesis = read_manifest::<Genesis>(access.blobs(), &ticket.run)?;
        refuse_seen_chain(access, &genesis)?;
        look_at_name(access, &genesis, printer)?;
        let (put, durable) = (|bytes| access.put(bytes), |blobs: &[Hash]| access.sync(blobs));
        RunContext::create(&access.home, access.blobs(), &put, &durable, run)?;
    } else {
        // The peers may have new addresses since the last invitation.
        known::save(&access.home, &ticket.peers)?;
    }
    if let Some(record) = ticket.record {
        Memory::vouch(&access.home.run_dir(&run), record.into())?;
    }
    access.home.set_current_run(&run)?;
    Ok(access.run(Some(run))?)
}

fn read_only() -> CommandError {
    CommandError::says(Code::Failed, "the home is open for reading only")
}

/// Refuses a run in which a validator has the hash chain of another run of this home: the values of that run, which
/// are public, foretell the seeds of this one.
pub(crate) fn refuse_seen_chain(access: &Access, genesis: &Genesis) -> Result<(), CommandError> {
    let Some((run, validator)) = seen_chain(access, genesis)? else { return Ok(()) };
    let text = format!("validator {} has the hash chain that it had in run {}", validator.short(), run.short());
    Err(CommandError::says(Code::Failed, text)
        .hint("a chain serves one run: `templar key show --anchor NAME` in the validator's home makes another"))
}

/// Says that another run of this home has the same name.
fn look_at_name(access: &Access, genesis: &Genesis, printer: Printer) -> Result<(), CommandError> {
    for (run, _) in runs_named(access, &genesis.name)? {
        let (run, name) = (run.short(), &genesis.name);
        printer.talk(format_args!("run {run} of this home is called {name:?} too: name them by their hashes"));
    }
    Ok(())
}

/// Says which addresses the tickets of a node hold, and who can use them.
pub(crate) fn tell_addresses(printer: &Printer, started: &NodeEvent) {
    if let NodeEvent::Started { addresses, reach, .. } = started {
        tell_reach(printer, addresses, *reach);
    }
}

/// Says which addresses a ticket holds, and which machines can use them.
pub(crate) fn tell_reach(printer: &Printer, addresses: &[String], reach: Option<Reach>) {
    let list = addresses.join(", ");
    match reach {
        None => printer.warn(
            "the ticket holds no address, so nobody finds this node with it; bring a network interface up, or use a relay",
        ),
        Some(Reach::Machine) => printer.talk(format_args!(
            "only this machine can use the ticket, which holds {list}; others can with --bind 0.0.0.0:4433, where this machine is in a network"
        )),
        Some(Reach::Local) => printer.talk(format_args!("the ticket holds {list}, for the local network")),
        Some(Reach::Global) => printer.talk(format_args!("the ticket holds {list}")),
    }
}

/// Runs a node in a home until it is told to stop, and hands its events to `say`, which may stop it as well.
pub(crate) fn run_node(
    access: Access,
    context: RunContext,
    config: DriverConfig,
    stop: Stop,
    mut say: impl FnMut(&NodeEvent) -> ControlFlow<()>,
) -> Result<(), CommandError> {
    let key = access.home.key()?;
    let (home, lock, store, runtime) = access.into_parts().ok_or_else(read_only)?;
    let (sender, mut events) = mpsc::channel(EVENTS);
    let parts = NodeParts { home, lock, store, context, key };
    let (stopper, stopped) = watch::channel(false);
    stop.tell(runtime.handle(), stopper.clone());
    let node = runtime.spawn(driver::run(parts, config, sender, stopped));
    while let Some(event) = runtime.block_on(events.recv()) {
        if say(&event).is_break() {
            stopper.send_replace(true);
        }
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

/// The events that stop a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Only Ctrl-C, the end of its terminal, or the signal by which systems end services.
    OnSignal,
    /// Also the end of its standard input, so that the node ends with the process that started it.
    WithStdin,
}

impl Stop {
    /// A value that becomes true when the node must stop.
    pub(crate) fn watch(self, runtime: &Handle) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        self.tell(runtime, sender);
        receiver
    }

    /// Sends `true` when the node must stop.
    fn tell(self, runtime: &Handle, sender: watch::Sender<bool>) {
        let (signalled, asked) = (sender.clone(), asked_to_stop());
        runtime.spawn(async move {
            asked.await;
            signalled.send_replace(true);
        });
        if self == Self::WithStdin {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
                sender.send_replace(true);
            });
        }
    }
}

/// Reads `MILLISECONDS:SEED`, the longest delay and the seed of all delays.
pub(crate) fn delays(text: &str) -> Result<(Duration, u64), String> {
    let parsed = text.split_once(':').and_then(|(longest, seed)| Some((longest.parse().ok()?, seed.parse().ok()?)));
    let (longest, seed) = parsed.ok_or("expected MILLISECONDS:SEED")?;
    Ok((Duration::from_millis(longest), seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_nowhere_else_are_told() {
        let peer = |addrs: &str| format!("58{}@{addrs}", "66".repeat(31)).parse::<PeerAddr>().unwrap();
        let here = only_this_machine(&[peer("127.0.0.1:4433")]).unwrap();
        assert!(here.starts_with("127.0.0.1:4433 leads to this machine itself"), "{here}");
        assert!(only_this_machine(&[peer("[::1]:4433")]).is_some());
        assert_eq!(only_this_machine(&[peer("127.0.0.1:4433"), peer("10.77.0.1:4433")]), None);
        assert_eq!(only_this_machine(&[]), None);
    }
}
