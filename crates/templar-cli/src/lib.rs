//! The command line of templar: it parses arguments, calls the other crates, and prints.
//!
//! Every command is a file in `commands`. It opens the home (`invocation`), calls `templar-query` for an answer or
//! `templar-node` for work, and hands the result to the `printer`. Exit codes and hints are in `error` alone. The
//! environment is read in `environment` alone. No rule of the protocol is here.
//!
//! # Example
//!
//! The program is `main`. The help of all commands is available as text:
//!
//! ```
//! let help = templar_cli::reference();
//! assert!(help.contains("# templar audit\n"));
//! ```

mod address;
mod bar;
mod bug;
mod commands;
mod compute;
mod environment;
mod error;
mod events;
mod invocation;
mod network;
mod offline;
mod printer;
mod session;
mod signals;
mod tokenizer_file;
mod verdict;

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use serde_json::json;
use templar_device::{Cpu, Isa};

use commands::{
    audit, close, dataset, demo, device, doctor, eval, evidence, explain, explore, export, fetch, generate, init, key,
    log, node, plot, register, run, score, serve, share, show, sim, status, store, train, verify,
};
use environment::Environment;
use error::{Code, CommandError, CommandResult};
use invocation::Invocation;
use offline::NetworkAccess;
use printer::{Mode, Printer};

/// The greatest width of a help text, in columns.
const COLUMNS_OF_HELP: usize = 100;

/// The end of the help of the program.
const MORE: &str = "\
Exit codes:
  0  done                           5    done in part, or an input is missing
  1  failed                        10    there is no home
  2  the command line is wrong     11    the home is in use
  3  not found                     12    the key cannot be used
  4  verification failed          130    interrupted        255  a bug

Environment:
  TEMPLAR_HOME       the home, unless --home names one
  TEMPLAR_BIND, TEMPLAR_LAN, TEMPLAR_RELAY, TEMPLAR_ADVERTISE, TEMPLAR_METRICS
                     the same as the flag of that name. The flag is stronger, config.toml in the home is weaker
  TEMPLAR_LIMITS     the same as --limit, with commas: upload=2MB,connections=64
  TEMPLAR_ISA        the instruction set of the kernels: soft, avx2, avx512 or neon
  TEMPLAR_DEVICE     the same as --device: auto, cpu, or a name that `templar device list` shows
  TEMPLAR_RECHECK    N: the CPU checks one training step and one measured page of N that a GPU computes; 0: none
                     [default: 1000]
  TEMPLAR_RECOMPUTE  if set, train in less memory with a third more work
  RAYON_NUM_THREADS  the number of threads that compute
  NO_COLOR           if set, no colour
  COLUMNS            the width at which prose is wrapped [default: that of the terminal]

No result depends on TEMPLAR_ISA, TEMPLAR_DEVICE, TEMPLAR_RECHECK, TEMPLAR_RECOMPUTE or RAYON_NUM_THREADS.";

/// Decentralised training that anyone can check: every claim can be recomputed to the same hash
#[derive(Debug, Parser)]
#[command(name = "templar", version, propagate_version = false, max_term_width = COLUMNS_OF_HELP, after_long_help = MORE)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The arguments that every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The home: a directory with a key, blobs and runs [default: TEMPLAR_HOME, or else ~/.templar]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Print JSON: one document, or one document a line for events
    #[arg(long, global = true)]
    json: bool,
    /// Print only results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more on stderr; -vv prints everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    #[command(subcommand)]
    Key(key::KeyCommand),
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    #[command(subcommand)]
    Run(run::RunCommand),
    Register(register::RegisterArgs),
    Train(train::TrainArgs),
    Score(score::ScoreArgs),
    Close(close::CloseArgs),
    Audit(audit::AuditArgs),
    Fetch(fetch::FetchArgs),
    Share(share::ShareArgs),
    Node(node::NodeArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    #[command(subcommand)]
    Device(device::DeviceCommand),
    Log(log::LogArgs),
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    Explain(explain::ExplainArgs),
    Explore(explore::ExploreArgs),
    Plot(plot::PlotArgs),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    #[command(subcommand)]
    Store(store::StoreCommand),
    Generate(generate::GenerateArgs),
    Serve(serve::ServeArgs),
    Export(export::ExportArgs),
    Eval(eval::EvalArgs),
    Sim(sim::SimArgs),
}

/// The program: reads the command line and the environment, runs the command, and gives its exit code.
pub fn main() -> ExitCode {
    let environment = Environment::read();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // A thread enters a network namespace by itself, so this must happen before there is a second thread.
    let network = match &cli.command {
        Command::Audit(args) if args.offline => offline::leave(),
        _ => NetworkAccess::Kept,
    };
    let mode = match &cli.global {
        Global { json: true, .. } => Mode::Json,
        Global { quiet: true, .. } => Mode::Quiet,
        _ => Mode::Human,
    };
    let printer = Printer::new(mode, environment.no_color, environment.columns);
    speak_up(cli.global.verbose);
    bug::remember_panics();
    let code = match catch_unwind(AssertUnwindSafe(|| start(cli, &environment, network, printer))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            error.report(&printer);
            error.code()
        }
        Err(_) => {
            bug::report(&printer);
            Code::Bug
        }
    };
    written(code, &printer).into()
}

/// The exit code of a command that ended with `code`, after a look whether its output was written. A command that
/// failed anyway keeps its code.
fn written(code: Code, printer: &Printer) -> Code {
    let Some(error) = printer::unwritten() else { return code };
    let error = CommandError::says(Code::Failed, format_args!("cannot write: {error}"));
    let error = error.hint("a part of the output is missing; give it a place that takes it, and run the command again");
    error.report(printer);
    if code == Code::Ok { error.code() } else { code }
}

fn start(cli: Cli, environment: &Environment, network: NetworkAccess, printer: Printer) -> CommandResult {
    let usage = |error: &dyn std::fmt::Display| CommandError::says(Code::Usage, format_args!("TEMPLAR_ISA: {error}"));
    if let Some(name) = &environment.isa {
        let isa: Isa = name.parse().map_err(|error| usage(&error))?;
        Cpu::set_default_isa(isa).map_err(|error| usage(&error))?;
    }
    signals::obey(printer);
    templar_model::recompute_by_default(environment.recompute);
    let recheck = environment.recheck.clone().map_err(|error| CommandError::says(Code::Usage, error))?;
    recheck.into_iter().for_each(templar_train::recheck_one_in);
    templar_numerics::check_environment().map_err(|error| CommandError::new(Code::Failed, error))?;
    let named = cli.global.home.clone();
    let root = cli.global.home.or_else(|| environment.home.clone());
    let network_said = environment.network.clone().map_err(|error| CommandError::says(Code::Usage, error))?;
    let (device, device_cache) = (environment.device.clone(), environment.device_cache.clone());
    let chooses_threads = environment.chooses_threads;
    let invocation = Invocation { root, network: network_said, chooses_threads, device, device_cache, printer };
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
        Command::Device(command) => device::run(&invocation, &command),
        Command::Log(args) => log::run(&invocation, &args),
        Command::Explain(args) => explain::run(&invocation, &args),
        Command::Explore(args) => explore::run(&invocation, &args),
        Command::Plot(args) => plot::run(&invocation, &args),
        Command::Evidence(command) => evidence::run(&invocation, &command),
        Command::Show(args) => show::run(&invocation, &args),
        Command::Verify(args) => verify::run(&invocation, &args),
        Command::Store(command) => store::run(&invocation, &command),
        Command::Generate(args) => generate::run(&invocation, &args),
        Command::Serve(args) => serve::run(&invocation, &args),
        Command::Export(args) => export::run(&invocation, &args),
        Command::Eval(args) => eval::run(&invocation, &args),
        Command::Sim(args) => sim::run(&invocation, &args),
    }
}

/// Prints the help, the version, or the error about a wrong command line.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ");
        let value = json!({"type": "error", "error": text, "causes": [], "hint": null, "code": Code::Usage as u8});
        Printer::new(Mode::Json, true, None).error(&value, text);
    } else {
        let printed = error.print().and_then(|()| io::stdout().flush());
        if !error.use_stderr() {
            printer::note_unwritten(printed);
        }
    }
    if error.use_stderr() {
        return Code::Usage.into();
    }
    written(Code::Ok, &Printer::new(if json { Mode::Json } else { Mode::Human }, true, None)).into()
}

/// Prints the traces of the libraries on stderr.
fn speak_up(verbose: u8) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // The store's collector reports an error when it ends with the store. It is none.
    let targets = Targets::new().with_default(level).with_target("iroh_blobs::store::gc", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(targets);
    // A second subscriber in one process is refused, and the first stays.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// The help of every command, one after the other. A test compares it with the snapshot that is kept.
pub fn reference() -> String {
    let mut text = String::new();
    // Not wrapped: the same text in every terminal.
    let mut command = Cli::command().term_width(0);
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
