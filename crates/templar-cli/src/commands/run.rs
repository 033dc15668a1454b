//! `templar run`: genesis from one dial, and the runs of this home.

mod join;
mod new;

use serde_json::json;
use templar_home::context::read_manifest;
use templar_manifest::Genesis;

use crate::error::{Code, CommandResult};
use crate::invocation::{Invocation, run_context, run_id};
use crate::printer::table;
use crate::view;

/// Training runs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    New(new::Args),
    Join(join::Args),
    /// Print a run's whole configuration
    Show(Named),
    /// List the runs of this home
    List,
    /// Choose the run that commands mean when they name none
    Use(Chosen),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    run: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// The run: a hash, four or more digits of one, or a name
    run: String,
}

pub(crate) fn run(invocation: &Invocation, command: &Command) -> CommandResult {
    match command {
        Command::New(args) => new::run(invocation, args),
        Command::Join(args) => join::run(invocation, args),
        Command::Show(args) => show(invocation, args),
        Command::List => list(invocation),
        Command::Use(args) => choose(invocation, args),
    }
}

/// A genesis as sorted `key = value` lines.
fn configuration(genesis: &Genesis) -> String {
    view::lines(&serde_json::to_value(genesis).unwrap_or_default()).iter().map(|line| format!("{line}\n")).collect()
}

fn show(invocation: &Invocation, args: &Named) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let value = json!({"run": context.run, "checkpoint": context.first_checkpoint(), "genesis": *context.genesis});
    invocation.printer.data(&value, configuration(&context.genesis));
    invocation.printer.talk(format_args!("run {}", context.run));
    Ok(Code::Ok)
}

fn list(invocation: &Invocation) -> CommandResult {
    let access = invocation.read()?;
    let current = access.home.current_run()?;
    let mut rows = vec![["", "run", "name", "model"].map(str::to_owned).to_vec()];
    let mut values = Vec::new();
    for run in access.home.runs()? {
        let genesis = read_manifest::<Genesis>(access.blobs(), &run.hash()).ok();
        let name = genesis.as_ref().map(|genesis| genesis.name.clone());
        let model =
            genesis.as_ref().map(|genesis| format!("{} layers of {}", genesis.model.layers, genesis.model.hidden_size));
        let is_current = current == Some(run);
        let mark = if is_current { "*" } else { "" };
        rows.push(vec![
            mark.to_owned(),
            run.short(),
            name.clone().unwrap_or_else(|| "(genesis is not here)".to_owned()),
            model.unwrap_or_default(),
        ]);
        values.push(json!({"run": run, "name": name, "current": is_current}));
    }
    let empty = values.is_empty();
    invocation.printer.data(&json!({"runs": values}), if empty { String::new() } else { table(&rows) });
    if empty {
        invocation.printer.talk("this home has no run; `templar run new NAME --dataset D` makes one");
    }
    Ok(Code::Ok)
}

fn choose(invocation: &Invocation, args: &Chosen) -> CommandResult {
    let access = invocation.read()?;
    let run = run_id(&access, &args.run)?;
    access.home.set_current_run(&run)?;
    invocation.printer.data(&json!({"run": run}), run);
    Ok(Code::Ok)
}
