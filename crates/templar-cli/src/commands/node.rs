//! `templar node`: takes part in a run by itself, window after window.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use templar_net::{PeerAddr, Ticket};
use templar_node::driver::{DriverConfig, NodeRole, Pacing};
use templar_node::event::NodeEvent;
use templar_node::trainer::{HonestTrainer, Trainer};
use templar_testkit::pacing::RandomPauses;
use templar_testkit::trainer::NoiseTrainer;

use crate::error::{Code, CommandResult};
use crate::events;
use crate::invocation::{Invocation, run_context};
use crate::network::{Listen, Stop, delays, join, run_node};

/// Take part in a run, window after window, until it is over or Ctrl-C
///
/// Ends with exit code 0 when it was asked to stop; what it was doing goes on when it is started again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the node does
    #[arg(long)]
    role: RoleName,
    /// Join the run of this ticket first
    #[arg(long, value_name = "TICKET")]
    join: Option<String>,
    /// Another node: KEY@ADDR:PORT
    #[arg(long, value_name = "PEER")]
    peer: Vec<PeerAddr>,
    /// Remove old checkpoints and states, and deltas that came too late, as windows close, by the rule of `store gc`
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    listen: Listen,
    /// Answer `/metrics` (OpenMetrics text); for this machine only, at port 9464, where no address is named
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9464")]
    metrics: Option<SocketAddr>,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// How a miner comes by its deltas; the demo starts its cheating miner with `noise`
    #[arg(long, hide = true, default_value = "honest")]
    conduct: ConductName,
    /// Wait before every act, for tests of order
    #[arg(long, hide = true, value_name = "MS:SEED", value_parser = delays)]
    delays: Option<(Duration, u64)>,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Trains
    Miner,
    /// Judges, and closes windows
    Validator,
    /// Keeps and serves all evidence
    Seeder,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ConductName {
    Honest,
    Noise,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let ticket = args.join.as_deref().map(str::parse::<Ticket>).transpose()?;
    let access = invocation.write()?;
    let settings = args.listen.settings(invocation, &access.home)?;
    let metrics = args.metrics.or(settings.metrics);
    let networking = settings.networking();
    let context = match &ticket {
        Some(ticket) => join(&access, &networking, ticket, invocation.printer)?,
        None => run_context(&access, args.run.as_deref())?,
    };
    // Only the demo, which starts this program for each of its nodes, and tests ask for what is in the testkit.
    let trainer: Arc<dyn Trainer> = match args.conduct {
        ConductName::Honest => Arc::new(HonestTrainer),
        ConductName::Noise => Arc::new(NoiseTrainer),
    };
    let pacing = args.delays.map(|(longest, seed)| Arc::new(RandomPauses::new(longest, seed)) as Arc<dyn Pacing>);
    let config = DriverConfig {
        role: match args.role {
            RoleName::Miner => NodeRole::Miner,
            RoleName::Validator => NodeRole::Validator,
            RoleName::Seeder => NodeRole::Seeder,
        },
        networking,
        metrics,
        peers: ticket.into_iter().flat_map(|ticket| ticket.peers).chain(args.peer.iter().cloned()).collect(),
        trainer,
        share: None,
        pacing,
        prune: args.prune,
    };
    let stop = if args.until_stdin_closes { Stop::WithStdin } else { Stop::OnSignal };
    let printer = invocation.printer;
    let say = |event: &NodeEvent| match event {
        NodeEvent::Started { ticket, .. } => {
            printer.data(event, ticket);
            printer.talk("others join with the ticket above: `templar run join TICKET`; Ctrl-C stops this node");
        }
        event => events::tell(&printer, event),
    };
    run_node(access, context, config, stop, say)?;
    Ok(Code::Ok)
}
