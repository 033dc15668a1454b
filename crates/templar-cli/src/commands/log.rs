//! `templar log`: a line for each closed window, the oldest first.

use serde_json::json;
use templar_manifest::Verdict;
use templar_train::nats;

use crate::error::{Code, CommandResult};
use crate::invocation::{Invocation, run_context};
use crate::printer::{alpha, table};

/// List the closed windows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let node = access.fold(&context)?;
    let heading = ["window", "record", "checkpoint", "held-out loss", "contributions", "refused", "minted"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut values = Vec::new();
    for closed in node.closed() {
        let record = &closed.window;
        let refused = record.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Refused(_))).count();
        let minted = record.mints.iter().map(|mint| mint.amount_micros).sum();
        rows.push(vec![
            format!("w{}", record.window),
            closed.record.short(),
            record.checkpoint.short(),
            format!("{:.4}", nats(record.held_out_loss_nanonats)),
            record.outcomes.len().to_string(),
            refused.to_string(),
            alpha(minted),
        ]);
        values.push(json!({
            "window": record.window, "record": closed.record, "checkpoint": record.checkpoint,
            "held_out_loss": nats(record.held_out_loss_nanonats), "contributions": record.outcomes.len(),
            "refused": refused, "minted_micros": minted,
        }));
    }
    let empty = values.is_empty();
    let text = if empty { String::new() } else { table(&rows) };
    invocation.printer.data(&json!({"run": context.run, "windows": values}), text);
    if empty {
        invocation.printer.talk("no window is closed yet");
    }
    Ok(Code::Ok)
}
