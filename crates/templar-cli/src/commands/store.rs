//! `templar store`: counts, checks and removes the blobs of a home.

mod gc;
mod locked;
mod scrub;
mod stats;

use clap::Subcommand;

use crate::error::CommandResult;
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
