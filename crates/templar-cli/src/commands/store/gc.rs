//! `templar store gc`: removes what no run of the home needs any more.

use serde_json::json;
use templar_home::inventory::{self, Held};
use templar_home::retention::Sort;

use super::beside_a_node;
use super::stats::Sum;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{bytes, count, table};

/// Remove what no run of the home needs: old checkpoints and states, and parts of blobs that nobody wants
///
/// Datasets, contributions, deltas, traces, aggregates and records always stay, and of checkpoints and states those of as
/// many windows as genesis says (`state_retention_windows`). So an audit finds everything again; what went is recomputed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let access = if args.dry_run { invocation.read()? } else { invocation.write().map_err(node_runs)? };
    let stock = access.stock()?;
    let (held, snapshots) = inventory::take(&access.home, access.blobs(), &stock)?;
    let goes: Vec<&Held> = held.iter().filter(|held| !held.stays).collect();
    if !args.dry_run {
        let store = access.store();
        let store = store.ok_or_else(|| CommandError::says(Code::Failed, "the home is open for reading only"))?;
        access.runtime().block_on(store.remove(&goes.iter().map(|held| held.id).collect()))?;
        for path in &snapshots {
            std::fs::remove_file(path)?;
        }
    }
    let mut rows = vec![["", "blobs", "bytes"].map(str::to_owned).to_vec()];
    let mut sorts = Vec::new();
    for sort in Sort::ALL {
        let sum = Sum::of(goes.iter().copied().filter(|held| held.sort == sort));
        if sum.blobs > 0 {
            rows.push(vec![sort.name().to_owned(), sum.blobs.to_string(), bytes(sum.bytes)]);
            sorts.push(json!({"sort": sort.name(), "blobs": sum.blobs, "bytes": sum.bytes}));
        }
    }
    let (gone, kept) = (Sum::of(goes.iter().copied()), Sum::of(held.iter().filter(|held| held.stays)));
    let value = json!({
        "dry_run": args.dry_run, "sorts": sorts, "blobs": gone.blobs, "bytes": gone.bytes,
        "snapshots": snapshots.len(), "kept_blobs": kept.blobs, "kept_bytes": kept.bytes,
    });
    let verb = if args.dry_run { "would go" } else { "removed" };
    let mut text = if sorts.is_empty() { String::new() } else { table(&rows) };
    text.push_str(&format!("{verb}: {}, {}", count(gone.blobs, "blob"), bytes(gone.bytes)));
    if !snapshots.is_empty() {
        text.push_str(&format!(" and {}", count(snapshots.len() as u64, "stale snapshot")));
    }
    invocation.printer.data(&value, text);
    invocation.printer.talk(format_args!("{}, {} stay", count(kept.blobs, "blob"), bytes(kept.bytes)));
    Ok(Code::Ok)
}

fn node_runs(error: CommandError) -> CommandError {
    let hint = "beside a node `templar store gc --dry-run` reports; `templar node --prune` removes as windows close";
    beside_a_node(error, hint)
}
