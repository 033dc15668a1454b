//! `templar store stats`: the blobs of the home by what they are, and what of them may go.

use serde_json::json;
use templar_home::inventory::{self, Held};
use templar_home::retention::Sort;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{bytes, table};

/// Count the blobs of the home, by what they are and whether a run needs them
///
/// What may go is what `templar store gc` removes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(invocation: &Invocation, _: &Args) -> CommandResult {
    let access = invocation.read()?;
    let stock = access.stock()?;
    let (held, snapshots) = inventory::take(&access.home, access.blobs(), &stock)?;
    let mut rows = vec![["", "blobs", "bytes", "stay", "may go"].map(str::to_owned).to_vec()];
    let mut sorts = Vec::new();
    for sort in Sort::ALL {
        let all = Sum::of(held.iter().filter(|held| held.sort == sort));
        let goes = Sum::of(held.iter().filter(|held| held.sort == sort && !held.stays));
        sorts.push(json!({
            "sort": sort.name(), "blobs": all.blobs, "bytes": all.bytes, "may_go_blobs": goes.blobs,
            "may_go_bytes": goes.bytes,
        }));
        if all.blobs > 0 {
            rows.push(row(sort.name(), &all, &goes));
        }
    }
    let (all, goes) = (Sum::of(held.iter()), Sum::of(held.iter().filter(|held| !held.stays)));
    rows.push(row("all", &all, &goes));
    let partial = Sum::of(held.iter().filter(|held| !held.whole));
    let value = json!({
        "sorts": sorts, "blobs": all.blobs, "bytes": all.bytes, "may_go_blobs": goes.blobs, "may_go_bytes": goes.bytes,
        "partial_blobs": partial.blobs, "partial_bytes": partial.bytes, "torn": stock.torn,
        "stale_snapshots": snapshots.len(),
    });
    let mut text = table(&rows);
    if partial.blobs > 0 {
        text.push_str(&format!("in parts: {} blobs, {}\n", partial.blobs, bytes(partial.bytes)));
    }
    invocation.printer.data(&value, text);
    if !stock.torn.is_empty() {
        invocation.printer.talk("some blobs are damaged; `templar store scrub` fetches them from peers");
    }
    Ok(Code::Ok)
}

fn row(name: &str, all: &Sum, goes: &Sum) -> Vec<String> {
    vec![name.to_owned(), all.blobs.to_string(), bytes(all.bytes), bytes(all.bytes - goes.bytes), bytes(goes.bytes)]
}

/// Blobs and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) blobs: u64,
    pub(super) bytes: u64,
}

impl Sum {
    pub(super) fn of<'a>(held: impl Iterator<Item = &'a Held>) -> Self {
        held.fold(Self::default(), |sum, held| Self { blobs: sum.blobs + 1, bytes: sum.bytes + held.bytes })
    }
}
