//! One measurement, from the files to the result.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use templar_eval::{
    Benchmark, Evaluation, Measured, Outcome, Request, Score, Scoring, Table, Tally, Task, TaskResult, TextResult,
    file_id, read_text,
};
use templar_home::Home;
use templar_home::evaluations::KeptEvaluations;
use templar_home::files::{Privacy, write_whole};
use templar_manifest::Arithmetic;

use super::model::Measurable;
use super::progress::{self, Saved};
use super::report;
use super::result_files::{Inputs, ResultFiles};
use crate::compute::Compute;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;

#[derive(Debug, clap::Args)]
#[group(id = "measured", required = true, multiple = false, args = ["task", "text"])]
pub(crate) struct MeasureArgs {
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
    /// The model: a Hugging Face folder, or a checkpoint of the home by its hash, @ for the current one or wN for the
    /// one after window N
    #[arg(long, value_name = "DIR|HASH|@|wN", default_value = "@")]
    model: String,
    /// Write the result into this folder, to be checked by others. An evaluation that was interrupted goes on there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Sign the result with the key of the home
    #[arg(long, requires = "out")]
    sign: bool,
    /// Sign the result and keep it in the home, where `templar log`, model cards and tables show it. The model must be
    /// a checkpoint of the home
    #[arg(long)]
    keep: bool,
    /// Write a line of JSON for each question into this file: the sums of all answers, and what was chosen
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

/// What is measured, with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A benchmark.
    Task { task: Task, shots: u32, limit: Option<u64> },
    /// The loss on the one file.
    Text,
}

/// A finished measurement.
pub(crate) struct Done {
    /// The result as a document, where the arithmetic is exact.
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) measured: Measured,
    /// The questions, where there are any.
    outcomes: Vec<Outcome>,
}

pub(crate) fn run(invocation: &Invocation, args: &MeasureArgs) -> CommandResult {
    args.compute.choose(invocation)?;
    let key = (args.sign || args.keep).then(|| Home::open(invocation.root()?)?.key().map_err(CommandError::from));
    let key = key.transpose()?;
    let inputs = Inputs {
        model: args.model.clone(),
        files: args.text.iter().chain(&args.file).cloned().collect(),
        example_files: args.fewshot_from.clone(),
    };
    let subject =
        args.task.map_or(Subject::Text, |task| Subject::Task { task, shots: args.fewshot, limit: args.limit });
    let mut model = Measurable::open(invocation, &args.model)?;
    if !model.scorer.is_exact() {
        invocation.printer.warn("this architecture is computed by candle: the last bits differ between machines");
        if args.out.is_some() || args.keep {
            let error = CommandError::says(Code::Failed, "the result of this architecture cannot be written or signed");
            return Err(error.hint("leave out --out, --sign and --keep; others could not compute the same numbers"));
        }
    }
    if args.keep && model.run.is_none() {
        let error = CommandError::says(Code::Usage, "a folder is no checkpoint of a run, so no run keeps the result");
        return Err(error.hint("name a checkpoint with --model @, or write the result with --out DIR"));
    }
    args.samples.as_deref().map_or(Ok(()), can_be_written)?;
    let done = measure(invocation, &mut model, &subject, &inputs, args.out.as_deref())?;
    let mut value = report::value(&done.measured, model.root.as_ref(), model.checkpoint.as_ref());
    let mut written = None;
    if let (Some(out), Some(evaluation)) = (&args.out, &done.evaluation) {
        let files = ResultFiles::in_folder(out, evaluation);
        files.write(evaluation, key.as_ref().map(|key| evaluation.sign(key)), &inputs)?;
        value["result"] = json!(files.document());
        written = Some(files);
    }
    if let (true, Some(run), Some(evaluation), Some(key)) = (args.keep, model.run, &done.evaluation, &key) {
        let home = Home::open(invocation.root()?)?;
        KeptEvaluations::of(&home, run).keep(evaluation, evaluation.sign(key))?;
        invocation.printer.talk("the home keeps the signed result; `templar log` shows it");
    }
    if let Some(path) = &args.samples {
        write_whole(path, samples(&done.outcomes).as_bytes(), Privacy::Everybody)?;
    }
    value["id"] = json!(done.evaluation.as_ref().map(Evaluation::id));
    value["exact"] = json!(model.scorer.is_exact());
    invocation.printer.data(&value, report::table(&done.measured));
    if let Some(files) = written {
        let signed = if key.is_some() { "signed" } else { "not signed" };
        let path = files.document();
        invocation.printer.talk(format_args!("{} ({signed}); `templar eval check` computes it again", path.display()));
    }
    Ok(Code::Ok)
}

/// Measures a model. With a folder, work that was interrupted goes on.
pub(crate) fn measure(
    invocation: &Invocation,
    model: &mut Measurable,
    subject: &Subject,
    inputs: &Inputs,
    folder: Option<&Path>,
) -> Result<Done, CommandError> {
    let printer = invocation.printer;
    let (measured, outcomes) = match *subject {
        Subject::Text => {
            let path = one(&inputs.files)?;
            let (file, text) = (file_id(path)?, read_text(path)?);
            let requests = model.encoder().text(&text)?;
            let tokens = requests.iter().map(|request| request.scored as u64).sum();
            let scores =
                scored(model, &requests, &mut |scoring, scorer| progress::run(printer, folder, scoring, scorer))?;
            (Measured::Text(TextResult::new(file, text.len() as u64, tokens, &scores)), Vec::new())
        }
        Subject::Task { task, shots, limit } => {
            let questions = Table::read(task, &inputs.files, limit)?;
            let examples = Table::read(task, if shots > 0 { &inputs.example_files } else { &[] }, None)?;
            let shown = (shots as usize, &examples.sources[..]);
            let mut encoder = model.encoder();
            let benchmark = Benchmark::new(task, &questions.sources, shown, &mut encoder)?;
            let shortened = encoder.shortened();
            if shortened > 0 {
                printer.warn(format_args!(
                    "{shortened} of {} answers do not fit the model's context of {} tokens with all that stands before \
                     them; the beginning is left out, as lm-evaluation-harness does",
                    benchmark.requests().len(),
                    model.scorer.positions()
                ));
            }
            let requests = benchmark.requests();
            let scores =
                scored(model, requests, &mut |scoring, scorer| progress::run(printer, folder, scoring, scorer))?;
            let outcomes = benchmark.outcomes(&scores);
            let tally: Tally = benchmark.tally(&outcomes);
            let mut result = TaskResult::new(task, shots, limit, &tally, &scores);
            (result.files, result.example_files) = (questions.files, examples.files);
            (Measured::Task(result), outcomes)
        }
    };
    let encoder = model.encoder();
    let evaluation = model.root.map(|root| Evaluation {
        arithmetic: Arithmetic::F32,
        model: root,
        checkpoint: model.checkpoint,
        tokenizer: model.tokenizer.id(),
        positions: model.scorer.positions() as u32,
        before: encoder.before().to_vec(),
        alone: encoder.alone(),
        measured: measured.clone(),
    });
    Ok(Done { evaluation, measured, outcomes })
}

type Work<'a> = dyn FnMut(&mut Scoring, &mut templar_eval::Scorer) -> Result<Saved, CommandError> + 'a;

/// The scores of all requests.
fn scored(model: &mut Measurable, requests: &[Request], work: &mut Work<'_>) -> Result<Vec<Score>, CommandError> {
    let mut scoring = Scoring::new(model.root.unwrap_or_default(), requests);
    let saved = work(&mut scoring, &mut model.scorer)?;
    let scores = scoring.scores().ok_or_else(|| CommandError::says(Code::Bug, "a request has no score"))?;
    saved.remove();
    Ok(scores)
}

/// Refuses the path of a file that cannot be written, before the work is done.
fn can_be_written(path: &Path) -> Result<(), CommandError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let error = match std::fs::metadata(folder) {
        Err(error) => error,
        Ok(found) if !found.is_dir() => ErrorKind::NotADirectory.into(),
        Ok(_) if path.is_dir() => ErrorKind::IsADirectory.into(),
        Ok(_) => return Ok(()),
    };
    Err(progress::unwritable(path, error))
}

fn one(files: &[PathBuf]) -> Result<&PathBuf, CommandError> {
    match files {
        [file] => Ok(file),
        _ => Err(CommandError::says(Code::Usage, "a text is one file")),
    }
}

/// A line of JSON for each question.
fn samples(outcomes: &[Outcome]) -> String {
    let line = |(number, outcome): (usize, &Outcome)| {
        let sums: Vec<f64> = outcome.scores.iter().map(|score| score.log_likelihood).collect();
        let greedy: Vec<bool> = outcome.scores.iter().map(|score| score.is_greedy).collect();
        let value: Value = json!({
            "question": number + 1, "gold": outcome.gold, "chosen": outcome.chosen,
            "chosen_normalised": outcome.chosen_normalised, "correct": outcome.is_correct,
            "log_likelihoods": sums, "greedy": greedy,
        });
        format!("{value}\n")
    };
    outcomes.iter().enumerate().map(line).collect()
}
