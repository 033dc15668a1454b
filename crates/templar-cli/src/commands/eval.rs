//! `templar eval`: measures a model on a benchmark or a text, and recomputes such a result.

mod check;
pub(crate) mod measure;
pub(crate) mod model;
mod progress;
pub(crate) mod report;
pub(crate) mod result_files;
pub(crate) mod schedule;

use crate::error::CommandResult;
use crate::invocation::Invocation;

/// Measure a model on a benchmark or on a text
///
/// The questions come from files that you name: parquet, jsonl or Arrow, as they are published. Prompts, examples and
/// scores are those of lm-evaluation-harness 0.4.13. The numbers of Llama models are the same on every machine, to the
/// last bit; those of other architectures go through candle, whose last bits may differ, and are not signed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    command: Option<EvalCommand>,
    #[command(flatten)]
    measure: measure::MeasureArgs,
}

#[derive(Debug, clap::Subcommand)]
enum EvalCommand {
    /// Compute a result again and compare it
    ///
    /// Ends with `match`; with `mismatch` (exit code 4) where the same model and files give another result, or a
    /// signature does not verify; or with `unavailable` (exit code 5) where the model or a file is not here.
    Check(check::CheckArgs),
}

pub(crate) fn run(invocation: &Invocation, args: &EvalArgs) -> CommandResult {
    match &args.command {
        Some(EvalCommand::Check(args)) => check::run(invocation, args),
        None => measure::run(invocation, &args.measure),
    }
}
