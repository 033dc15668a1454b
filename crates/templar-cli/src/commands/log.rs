//! `templar log`: a line for each closed window, oldest first.

use templar_query::find::run_context;
use templar_query::log::{LoggedWindow, RunLog};
use templar_query::measured::SignedEvaluation;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{alpha, table};

/// List the closed windows, with the signed evaluations that this home keeps
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &LogArgs) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let log = RunLog::read(&access, &context)?;
    invocation.printer.document(&log, text(&log.windows));
    if log.windows.is_empty() {
        invocation.printer.talk("no window is closed yet");
    }
    Ok(Code::Ok)
}

fn text(windows: &[LoggedWindow]) -> String {
    if windows.is_empty() {
        return String::new();
    }
    let heading = ["window", "record", "checkpoint", "held-out loss", "contributions", "refused", "minted"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    // Most homes evaluate nothing, and need no empty column.
    let evaluates = windows.iter().any(|window| !window.evaluations.is_empty());
    rows[0].extend(evaluates.then(|| "evaluations".to_owned()));
    rows.extend(windows.iter().map(|window| {
        let evaluations = || {
            let result = |found: &SignedEvaluation| format!("{}: {}", found.task, found.in_words());
            window.evaluations.iter().map(result).collect::<Vec<_>>().join("; ")
        };
        let mut row = vec![
            format!("w{}", window.window),
            window.record.short(),
            window.checkpoint.short(),
            format!("{:.4}", window.held_out_loss),
            window.contributions.to_string(),
            window.refused.to_string(),
            alpha(window.minted_micros),
        ];
        row.extend(evaluates.then(evaluations));
        row
    }));
    table(&rows)
}
