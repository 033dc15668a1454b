//! `templar store`: counts, checks and removes the blobs of a home.

mod gc;
mod scrub;
mod stats;

use clap::Subcommand;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;

/// Count, check and remove the blobs of the home
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    Scrub(scrub::ScrubArgs),
    Stats(stats::StatsArgs),
    Gc(gc::GcArgs),
}

pub(crate) fn run(invocation: &Invocation, command: &StoreCommand) -> CommandResult {
    match command {
        StoreCommand::Scrub(args) => scrub::run(invocation, args),
        StoreCommand::Stats(args) => stats::run(invocation, args),
        StoreCommand::Gc(args) => gc::run(invocation, args),
    }
}

/// Adds a hint to the error that a running node holds the home.
fn beside_a_node(error: CommandError, hint: &str) -> CommandError {
    if error.code() == Code::Locked { error.hint(hint) } else { error }
}
