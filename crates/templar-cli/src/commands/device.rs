//! `templar device`: the devices that can compute, and whether they compute as specified.

mod bench;
mod list;
mod test;
mod words;

use clap::Subcommand;

use crate::error::CommandResult;
use crate::invocation::Invocation;

/// List, test and time the devices that can compute: the CPU, and GPUs if this program has code for them
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    List(list::ListArgs),
    Test(test::TestArgs),
    Bench(bench::BenchArgs),
}

pub(crate) fn run(invocation: &Invocation, command: &DeviceCommand) -> CommandResult {
    match command {
        DeviceCommand::List(args) => list::run(invocation, args),
        DeviceCommand::Test(args) => test::run(invocation, args),
        DeviceCommand::Bench(args) => bench::run(invocation, args),
    }
}
