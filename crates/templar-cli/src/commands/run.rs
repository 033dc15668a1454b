//! `templar run`: makes, joins, shows and lists runs.

mod configuration;
mod join;
mod new;
mod overview;

use serde_json::json;
use templar_query::find::{run_context, run_id};
use templar_query::runs::{RunList, RunView};

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{count, table};

/// Make, join, show and list training runs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RunCommand {
    New(new::NewRunArgs),
    Join(join::JoinArgs),
    /// Print the whole configuration of a run
    Show(ShowRunArgs),
    /// List the runs of this home
    List,
    /// Choose the current run: commands use it when they name none
    Use(UseRunArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowRunArgs {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    run: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UseRunArgs {
    /// The run: a hash, four or more digits of one, or a name
    run: String,
}

pub(crate) fn run(invocation: &Invocation, command: &RunCommand) -> CommandResult {
    match command {
        RunCommand::New(args) => new::run(invocation, args),
        RunCommand::Join(args) => join::run(invocation, args),
        RunCommand::Show(args) => show(invocation, args),
        RunCommand::List => list(invocation),
        RunCommand::Use(args) => choose(invocation, args),
    }
}

fn show(invocation: &Invocation, args: &ShowRunArgs) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    invocation.printer.document(&RunView::of(&context), configuration::lines(&context.genesis));
    invocation.printer.talk(format_args!("run {}", context.run));
    Ok(Code::Ok)
}

fn list(invocation: &Invocation) -> CommandResult {
    let list = RunList::read(&invocation.read()?)?;
    let mut rows = vec![["", "run", "name", "model"].map(str::to_owned).to_vec()];
    rows.extend(list.runs.iter().map(|listed| {
        let model =
            listed.model.as_ref().map(|model| format!("{} of {}", count(model.layers, "layer"), model.hidden_size));
        let mark = if listed.is_current { "*" } else { "" };
        let name = listed.name.clone().unwrap_or_else(|| "(its genesis is not here)".to_owned());
        vec![mark.to_owned(), listed.run.short(), name, model.unwrap_or_default()]
    }));
    let is_empty = list.runs.is_empty();
    invocation.printer.document(&list, if is_empty { String::new() } else { table(&rows) });
    if is_empty {
        invocation.printer.talk(
            "this home has no run; `templar run join TICKET` takes one from others, and `templar run new NAME --dataset D` \
             makes one",
        );
    }
    Ok(Code::Ok)
}

fn choose(invocation: &Invocation, args: &UseRunArgs) -> CommandResult {
    let access = invocation.read()?;
    let run = run_id(&access, &args.run)?;
    access.home.set_current_run(&run)?;
    invocation.printer.data(&json!({"run": run}), run);
    Ok(Code::Ok)
}
