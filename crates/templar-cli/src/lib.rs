//! The command line of templar: parses, configures, prints.
//!
//! Every command is a file of `commands`. Each opens the home that it means (`invocation`), asks the crates below for
//! what it shows or does, and gives it to the `printer`; what an error means to a person is said in `error` alone, and
//! the environment is read in `environment` alone. There are no rules here: whoever reimplements this crate trains,
//! judges and audits the same.

mod bar;
mod bug;
mod commands;
mod environment;
mod error;
mod events;
mod index;
mod invocation;
mod network;
mod offline;
mod participant;
mod printer;
mod progress;
mod reference;
mod refold;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use serde_json::json;
use templar_numerics::Isa;

use commands::{
    audit, close, dataset, demo, doctor, evidence, export, fetch, generate, init, key, log, node, register, run, score,
    share, show, sim, status, store, train, verify,
};
use environment::Environment;
use error::{Code, CommandError, CommandResult};
use invocation::Invocation;
use offline::Network;
use printer::{Mode, Printer};

/// What the help of the whole says at its end.
const MORE: &str = "\
Exit codes:
  0  done                           5    done in part, or something is missing
  1  not done                      10    there is no home
  2  the command line is wrong     11    the home is in use
  3  not found                     12    the key cannot be used
  4  verification failed          130    interrupted        255  a bug

Environment:
  TEMPLAR_HOME       the home, where --home names none
  TEMPLAR_BIND, TEMPLAR_LAN, TEMPLAR_RELAY, TEMPLAR_ADVERTISE, TEMPLAR_METRICS
                     what the flag of that name says, where it does not; config.toml in the home is asked last
  TEMPLAR_LIMITS     likewise for --limit, with commas: upload=2MB,connections=64
  TEMPLAR_ISA        soft, avx2, avx512 or neon: the kernels that compute; no result depends on it
  TEMPLAR_RECOMPUTE  set: train in less memory, with a third more work; no result depends on it
  RAYON_NUM_THREADS  threads that compute; no result depends on it
  NO_COLOR           no colour";

/// Decentralised training in which every claim can be recomputed: nothing to trust but hashes.
#[derive(Debug, Parser)]
#[command(name = "templar", version, propagate_version = false, max_term_width = 100, after_long_help = MORE)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The home: a directory with a key, blobs and runs [default: TEMPLAR_HOME, else ~/.templar]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Print JSON: one document, or one a line where things come one after the other
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors, and nothing on the way
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr; -vv says all
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Init(init::Args),
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Dataset(dataset::Command),
    #[command(subcommand)]
    Run(run::Command),
    Register(register::Args),
    Train(train::Args),
    Score(score::Args),
    Close(close::Args),
    Audit(audit::Args),
    Fetch(fetch::Args),
    Share(share::Args),
    Node(node::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Log(log::Args),
    #[command(subcommand)]
    Evidence(evidence::Command),
    Show(show::Args),
    Verify(verify::Args),
    #[command(subcommand)]
    Store(store::Command),
    Generate(generate::Args),
    Export(export::Args),
    Sim(sim::Args),
}

/// The program. Reads the command line and the environment, does what they ask, and says how it ended.
pub fn main() -> ExitCode {
    let environment = Environment::read();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // A network namespace is a thread's: it must be left before there is a second one.
    let network = match &cli.command {
        Command::Audit(args) if args.offline => offline::leave(),
        _ => Network::Kept,
    };
    let mode = match &cli.global {
        Global { json: true, .. } => Mode::Json,
        Global { quiet: true, .. } => Mode::Quiet,
        _ => Mode::Human,
    };
    let printer = Printer::new(mode, environment.no_color);
    speak_up(cli.global.verbose);
    bug::remember_panics();
    match catch_unwind(AssertUnwindSafe(|| start(cli, &environment, network, printer))) {
        Ok(Ok(code)) => code.into(),
        Ok(Err(error)) => {
            error.report(&printer);
            error.code().into()
        }
        Err(_) => {
            bug::report(&printer);
            Code::Bug.into()
        }
    }
}

fn start(cli: Cli, environment: &Environment, network: Network, printer: Printer) -> CommandResult {
    let usage = |error: &dyn std::fmt::Display| CommandError::says(Code::Usage, format_args!("TEMPLAR_ISA: {error}"));
    if let Some(name) = &environment.isa {
        let isa: Isa = name.parse().map_err(|error| usage(&error))?;
        Isa::force(isa).map_err(|error| usage(&error))?;
    }
    templar_model::recompute_by_default(environment.recompute);
    templar_numerics::check_environment().map_err(|error| CommandError::new(Code::Failed, error))?;
    let named = cli.global.home.clone();
    let root = cli.global.home.or_else(|| environment.home.clone());
    let network_said = environment.network.clone().map_err(|error| CommandError::says(Code::Usage, error))?;
    let invocation = Invocation { root, network: network_said, printer };
    match cli.command {
        Command::Demo(args) => demo::run(&invocation, &args, named),
        Command::Init(args) => init::run(&invocation, &args),
        Command::Key(command) => key::run(&invocation, &command),
        Command::Dataset(command) => dataset::run(&invocation, &command),
        Command::Run(command) => run::run(&invocation, &command),
        Command::Register(args) => register::run(&invocation, &args),
        Command::Train(args) => train::run(&invocation, &args),
        Command::Score(args) => score::run(&invocation, &args),
        Command::Close(args) => close::run(&invocation, &args),
        Command::Audit(args) => audit::run(&invocation, &args, network),
        Command::Fetch(args) => fetch::run(&invocation, &args),
        Command::Share(args) => share::run(&invocation, &args),
        Command::Node(args) => node::run(&invocation, &args),
        Command::Status(args) => status::run(&invocation, &args),
        Command::Doctor(args) => doctor::run(&invocation, &args),
        Command::Log(args) => log::run(&invocation, &args),
        Command::Evidence(command) => evidence::run(&invocation, &command),
        Command::Show(args) => show::run(&invocation, &args),
        Command::Verify(args) => verify::run(&invocation, &args),
        Command::Store(command) => store::run(&invocation, &command),
        Command::Generate(args) => generate::run(&invocation, &args),
        Command::Export(args) => export::run(&invocation, &args),
        Command::Sim(args) => sim::run(&invocation, &args),
    }
}

/// Help, version, or a command line that makes no sense.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ");
        eprintln!("{}", json!({"type": "error", "error": text, "causes": [], "hint": null, "code": Code::Usage as u8}));
    } else {
        // Who closed the pipe has read enough.
        let _ = error.print();
    }
    if error.use_stderr() { Code::Usage.into() } else { Code::Ok.into() }
}

/// Lets the libraries' traces through to stderr.
fn speak_up(verbose: u8) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // That the store's collector ends with the store is no error, though it says so.
    let targets = Targets::new().with_default(level).with_target("iroh_blobs::store::gc", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(targets);
    // A second subscriber in one process is refused; the first goes on.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// The help of every command, one after the other: what the reference test keeps.
pub fn reference() -> String {
    let mut text = String::new();
    let mut command = Cli::command();
    command.build();
    describe(&mut command, &mut text);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn describe(command: &mut clap::Command, text: &mut String) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).replace('-', " ");
    text.push_str(&format!("# {name}\n\n{}\n", command.render_long_help().to_string().trim_end()));
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        text.push('\n');
        describe(sub, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
        let text = reference();
        for command in ["# templar\n", "# templar dataset import\n", "# templar run new\n", "# templar audit\n"] {
            assert!(text.contains(command), "{command}");
        }
    }
}
