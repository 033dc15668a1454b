//! `templar store gc`: removes the blobs that no run of the home needs any more.

use serde_json::json;
use templar_home::unfinished;
use templar_query::stock::StoreInventory;

use super::locked::beside_a_node;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{bytes, count, table};

/// Remove blobs that no run of the home needs: old checkpoints and states, and unfinished downloads and imports
///
/// Datasets, contributions, deltas, traces, aggregates and records always stay. Checkpoints and states stay for
/// the number of windows that genesis sets (`state_retention_windows`). An audit recomputes the removed ones.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// List the blobs that would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &GcArgs) -> CommandResult {
    let access = if args.dry_run { invocation.read()? } else { invocation.write().map_err(node_runs)? };
    let inventory = StoreInventory::read(&access)?;
    if !args.dry_run {
        let store = access.store();
        let store = store.ok_or_else(|| CommandError::says(Code::Failed, "the home is open for reading only"))?;
        access.runtime().block_on(store.remove(&inventory.unneeded().map(|held| held.id).collect()))?;
        for path in &inventory.stale_snapshots {
            std::fs::remove_file(path)?;
        }
        unfinished::forget(&access.home)?;
    }
    let mut rows = vec![["", "blobs", "bytes"].map(str::to_owned).to_vec()];
    let mut sorts = Vec::new();
    for total in inventory.by_type().iter().filter(|total| total.may_go_blobs > 0) {
        rows.push(vec![total.sort.to_owned(), total.may_go_blobs.to_string(), bytes(total.may_go_bytes)]);
        sorts.push(json!({"sort": total.sort, "blobs": total.may_go_blobs, "bytes": total.may_go_bytes}));
    }
    let (gone, kept, snapshots) = (inventory.may_go(), inventory.stays(), inventory.stale_snapshots.len());
    let value = json!({
        "dry_run": args.dry_run, "sorts": sorts, "blobs": gone.blobs, "bytes": gone.bytes,
        "snapshots": snapshots, "kept_blobs": kept.blobs, "kept_bytes": kept.bytes,
    });
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    let mut text = if sorts.is_empty() { String::new() } else { table(&rows) };
    text.push_str(&format!("{verb}: {}, {}", count(gone.blobs, "blob"), bytes(gone.bytes)));
    if snapshots > 0 {
        text.push_str(&format!(" and {}", count(snapshots as u64, "stale snapshot")));
    }
    invocation.printer.data(&value, text);
    invocation.printer.talk(format_args!("{}, {} stay", count(kept.blobs, "blob"), bytes(kept.bytes)));
    Ok(Code::Ok)
}

fn node_runs(error: CommandError) -> CommandError {
    let hint = "beside a running node, use `templar store gc --dry-run`; `templar node --prune` removes blobs as windows close";
    beside_a_node(error, hint)
}
