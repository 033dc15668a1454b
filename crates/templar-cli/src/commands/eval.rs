//! `templar eval`: measures a model on a benchmark or a text, and recomputes such a result.

mod check;
mod measure;
mod model;
mod progress;
mod report;
mod result_files;

use std::path::PathBuf;

use templar_eval::Task;

use crate::compute::Compute;
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
    measure: MeasureArgs,
}

#[derive(Debug, clap::Subcommand)]
enum EvalCommand {
    /// Compute a result again and compare it
    ///
    /// Ends with `match`; with `mismatch` (exit code 4) where the same model and files give another result, or a
    /// signature does not verify; or with `unavailable` (exit code 5) where the model or a file is not here.
    Check(check::CheckArgs),
}

#[derive(Debug, clap::Args)]
#[group(id = "measured", required = true, multiple = false, args = ["task", "text"])]
struct MeasureArgs {
    /// The benchmark: arc_challenge, arc_easy, hellaswag, lambada_openai, mmlu, openbookqa, piqa, sciq or winogrande
    #[arg(long, value_name = "TASK", requires = "file")]
    task: Option<Task>,
    /// A text in UTF-8 whose loss is measured
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// A file with the questions; of several, all questions are asked
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Vec<PathBuf>,
    /// The number of examples before each question
    #[arg(long, value_name = "N", default_value_t = 0, requires = "fewshot_from", conflicts_with = "text")]
    fewshot: u32,
    /// A file from which the examples are chosen
    #[arg(long, value_name = "FILE", requires = "fewshot")]
    fewshot_from: Vec<PathBuf>,
    /// Ask only the first N questions, of MMLU those of each subject
    #[arg(long, value_name = "N", conflicts_with = "text", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// The model: a Hugging Face folder, or a checkpoint of the home by its hash, @ for the current one or wN for the one
    /// after window N
    #[arg(long, value_name = "DIR|HASH|@|wN", default_value = "@")]
    model: String,
    /// Write the result into this folder, to be checked by others. An evaluation that was interrupted goes on there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Sign the result with the key of the home
    #[arg(long, requires = "out")]
    sign: bool,
    /// Write a line of JSON for each question into this file: the sums of all answers, and what was chosen
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(invocation: &Invocation, args: &EvalArgs) -> CommandResult {
    match &args.command {
        Some(EvalCommand::Check(args)) => check::run(invocation, args),
        None => measure::run(invocation, &args.measure),
    }
}
