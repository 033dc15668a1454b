//! `templar node`: takes part in a run automatically, window after window.

mod evaluator;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use templar_net::{PeerAddr, Ticket};
use templar_node::driver::{DriverConfig, NodeRole, Pacing};
use templar_node::event::NodeEvent;
use templar_node::trainer::{HonestTrainer, Trainer};
use templar_query::find::run_context;
use templar_testkit::pacing::RandomPauses;
use templar_testkit::trainer::NoiseTrainer;

use evaluator::{Evaluator, Plan};

use crate::address::address;
use crate::commands::eval::schedule::Schedule;
use crate::commands::explore::{self, BesideNode};
use crate::compute::Compute;
use crate::error::{Code, CommandResult};
use crate::events;
use crate::invocation::Invocation;
use crate::network::{Listen, Stop, delays, join, run_node, tell_addresses};

/// Take part in a run, window after window, until it is over or Ctrl-C
///
/// Ends with exit code 0 when it is told to stop. Interrupted work resumes at the next start.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// The role of the node in the run
    #[arg(long)]
    role: RoleName,
    /// Join the run of this ticket before starting
    #[arg(long, value_name = "TICKET")]
    join: Option<String>,
    /// The address of another node: KEY@ADDR:PORT
    #[arg(long, value_name = "PEER")]
    peer: Vec<PeerAddr>,
    /// Run `store gc` as windows close: remove old checkpoints, old states, and deltas that came too late
    #[arg(long)]
    prune: bool,
    /// Measure the models of the run as this file says, and keep the signed results, which `templar log` and model
    /// cards show [default: the run's own benchmarks, by all but miners]
    #[arg(long, value_name = "FILE.toml")]
    evaluate: Option<PathBuf>,
    /// Leave the run's own benchmarks to others
    #[arg(long, conflicts_with = "evaluate")]
    no_evaluate: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    listen: Listen,
    /// Serve metrics at http://ADDR:PORT/metrics (OpenMetrics text) [without a value: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9464", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Show the run in a browser at http://ADDR:PORT, as `explore` does [without a value: 127.0.0.1:8460]
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = explore::ADDRESS, value_parser = address)]
    http: Option<SocketAddr>,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// How a miner comes by its deltas; the demo starts its cheating miner with `noise`
    #[arg(long, hide = true, default_value = "honest")]
    conduct: ConductName,
    /// Delay every act, to test other orders of events
    #[arg(long, hide = true, value_name = "MS:SEED", value_parser = delays)]
    delays: Option<(Duration, u64)>,
    /// Stop when standard input is closed
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Trains the model and sends deltas
    Miner,
    /// Scores contributions and closes windows
    Validator,
    /// Stores and serves everything that audits need
    Seeder,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ConductName {
    Honest,
    Noise,
}

pub(crate) fn run(invocation: &Invocation, args: &NodeArgs) -> CommandResult {
    args.compute.choose(invocation)?;
    let schedule = args.evaluate.as_deref().map(Schedule::read).transpose()?;
    let mut explorer = args.http.map(BesideNode::bind).transpose()?;
    let ticket = args.join.as_deref().map(str::parse::<Ticket>).transpose()?;
    let access = invocation.write()?;
    let metrics = args.metrics.or(args.listen.settings(invocation, &access.home)?.metrics);
    let named: Vec<PeerAddr> = ticket.iter().flat_map(|ticket| &ticket.peers).chain(&args.peer).cloned().collect();
    let networking = args.listen.networking(invocation, &access.home, &named)?;
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
        peers: named,
        trainer,
        share: None,
        pacing,
        prune: args.prune,
    };
    let stop = if args.until_stdin_closes { Stop::WithStdin } else { Stop::OnSignal };
    let printer = invocation.printer;
    let measures = !args.no_evaluate && !matches!(args.role, RoleName::Miner) && !context.genesis.benchmarks.is_empty();
    let plan = schedule.map(Plan::Own).or_else(|| measures.then(|| Plan::Run(context.genesis.clone())));
    let evaluator = plan.map(|plan| Evaluator::start(invocation, plan)).transpose()?;
    let mine = context.run;
    let say = |event: &NodeEvent| {
        match event {
            NodeEvent::Started { ticket, .. } => {
                printer.data(event, ticket);
                printer.talk("others join with `templar run join TICKET` and the ticket above; Ctrl-C stops this node");
                tell_addresses(&printer, event);
                if let Some(Err(error)) = explorer.take().map(|explorer| explorer.start(invocation, mine)) {
                    printer.warn(format_args!("the explorer does not run: {error}"));
                }
            }
            event => events::tell(&printer, event),
        }
        if let (Some(evaluator), NodeEvent::Closed { window, checkpoint, .. }) = (&evaluator, event) {
            evaluator.closed(*window, *checkpoint);
        }
        ControlFlow::Continue(())
    };
    run_node(access, context, config, stop, say)?;
    Ok(Code::Ok)
}
