//! `templar store`: what lies on the disk, whether it is still what it was, and what of it may go.

mod gc;
mod scrub;
mod stats;

use clap::Subcommand;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;

/// Look after the blobs of the home
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Scrub(scrub::Args),
    Stats(stats::Args),
    Gc(gc::Args),
}

pub(crate) fn run(invocation: &Invocation, command: &Command) -> CommandResult {
    match command {
        Command::Scrub(args) => scrub::run(invocation, args),
        Command::Stats(args) => stats::run(invocation, args),
        Command::Gc(args) => gc::run(invocation, args),
    }
}

/// What to do instead while a node runs in the home.
fn beside_a_node(error: CommandError, hint: &str) -> CommandError {
    if error.code() == Code::Locked { error.hint(hint) } else { error }
}
