//! `templar store stats`: the blobs of the home by type, and the blobs that no run needs.

use templar_query::stock::{StoreInventory, StoreReport};

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{bytes, table};

/// Count the blobs of the home by type, and say which of them no run needs
///
/// `templar store gc` removes the blobs under "may go".
#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {}

pub(crate) fn run(invocation: &Invocation, _: &StatsArgs) -> CommandResult {
    let report = StoreInventory::read(&invocation.read()?)?.report();
    invocation.printer.document(&report, text(&report));
    if !report.torn.is_empty() {
        invocation.printer.talk("some blobs are damaged; `templar store scrub` fetches them from peers");
    }
    Ok(Code::Ok)
}

fn text(report: &StoreReport) -> String {
    let row = |name: &str, blobs: u64, all: u64, may_go: u64| {
        vec![name.to_owned(), blobs.to_string(), bytes(all), bytes(all - may_go), bytes(may_go)]
    };
    let mut rows = vec![["", "blobs", "bytes", "stay", "may go"].map(str::to_owned).to_vec()];
    let present = report.sorts.iter().filter(|total| total.blobs > 0);
    rows.extend(present.map(|total| row(total.sort, total.blobs, total.bytes, total.may_go_bytes)));
    rows.push(row("all", report.blobs, report.bytes, report.may_go_bytes));
    let mut text = table(&rows);
    if report.partial_blobs > 0 {
        text.push_str(&format!("in parts: {} blobs, {}\n", report.partial_blobs, bytes(report.partial_bytes)));
    }
    text
}
