//! `templar eval check`: computes a result again.

use std::path::PathBuf;

use serde_json::json;
use templar_eval::{Evaluation, Measured, Task, UnknownTask, file_id};
use templar_manifest::BlobId;

use super::measure::{Subject, measure};
use super::model::Measurable;
use super::result_files::{Inputs, ResultFiles};
use crate::compute::Compute;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::Tone;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The document of the result, evaluation-HASH.cbor
    #[arg(value_name = "RESULT")]
    result: PathBuf,
    /// The model, in the forms that `templar eval --model` takes [default: where it lay, if the result was made here]
    #[arg(long, value_name = "DIR|HASH|@|wN")]
    model: Option<String>,
    /// The files with the questions, or the text, in the order of the result [default: where they lay]
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The files with the examples, in the order of the result [default: where they lay]
    #[arg(long, value_name = "FILE")]
    fewshot_from: Vec<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

/// What a check came to.
enum Answer {
    Match { signers: Vec<String> },
    Mismatch(String),
    Unavailable(String),
}

pub(super) fn run(invocation: &Invocation, args: &CheckArgs) -> CommandResult {
    args.compute.choose(invocation)?;
    let files = ResultFiles::of_document(&args.result);
    let result = files.read()?;
    let answer = answer(invocation, args, &files, &result)?;
    let (word, tone, code, what) = match &answer {
        Answer::Match { .. } => ("match", Tone::Good, Code::Ok, None),
        Answer::Mismatch(what) => ("mismatch", Tone::Bad, Code::Verification, Some(what)),
        Answer::Unavailable(what) => ("unavailable", Tone::Unsure, Code::Partial, Some(what)),
    };
    let signers = if let Answer::Match { signers } = &answer { &signers[..] } else { &[] };
    let value = json!({ "verdict": word, "what": what, "id": result.id(), "signers": signers });
    let said = match (what, signers) {
        (Some(what), _) => what.clone(),
        (None, []) => "the result computes again, and nobody has signed it".to_owned(),
        (None, signers) => format!("the result computes again, signed by {}", signers.join(", ")),
    };
    invocation.printer.data(&value, format_args!("{}: {said}", invocation.printer.tone(tone, word)));
    Ok(code)
}

fn answer(
    invocation: &Invocation,
    args: &CheckArgs,
    files: &ResultFiles,
    result: &Evaluation,
) -> Result<Answer, CommandError> {
    let mut signers = Vec::new();
    for witness in files.read_witnesses()? {
        if let Err(error) = result.verify(&witness) {
            return Ok(Answer::Mismatch(format!("{error}: {}", witness.signer.short())));
        }
        signers.push(witness.signer.short());
    }
    let inputs = match inputs(args, files)? {
        Some(inputs) => inputs,
        None => {
            let error = CommandError::says(Code::Usage, "the result does not say where its inputs lie here");
            return Err(error.hint("name them with --model and --file, and the examples with --fewshot-from"));
        }
    };
    if let Some(missing) = missing(result, &inputs) {
        return Ok(Answer::Unavailable(missing));
    }
    let mut model = Measurable::open(invocation, &inputs.model)?;
    if model.root != Some(result.model) {
        let found = model.root.map_or_else(|| "of another architecture".to_owned(), |root| root.to_string());
        return Ok(Answer::Unavailable(format!("the model here is {found}; {} was measured", result.model)));
    }
    if model.tokenizer.id() != result.tokenizer {
        return Ok(Answer::Unavailable(format!(
            "the tokenizer here is {}; {} was used",
            model.tokenizer.id(),
            result.tokenizer
        )));
    }
    let done = measure(invocation, &mut model, &subject(result)?, &inputs, None)?;
    let Some(mut again) = done.evaluation else { return Ok(Answer::Unavailable("the model is not exact".to_owned())) };
    // A folder does not say of which run it is; the root says that it is the same model.
    again.checkpoint = again.checkpoint.and(result.checkpoint).or(result.checkpoint);
    Ok(match again.first_difference(result) {
        None => Answer::Match { signers },
        Some(what) => Answer::Mismatch(what),
    })
}

/// What was measured, by the result.
fn subject(result: &Evaluation) -> Result<Subject, CommandError> {
    match &result.measured {
        Measured::Text(_) => Ok(Subject::Text),
        Measured::Task(measured) => {
            let task: Task =
                measured.task.parse().map_err(|error: UnknownTask| CommandError::new(Code::Failed, error))?;
            Ok(Subject::Task { task, shots: measured.shots, limit: measured.limit })
        }
    }
}

/// The inputs that the command line names, and else those that lay here.
fn inputs(args: &CheckArgs, files: &ResultFiles) -> Result<Option<Inputs>, CommandError> {
    let here = files.read_inputs()?;
    let or = |named: &Vec<PathBuf>, here: Option<Vec<PathBuf>>| {
        if named.is_empty() { here.unwrap_or_default() } else { named.clone() }
    };
    let Some(model) = args.model.clone().or(here.as_ref().map(|inputs| inputs.model.clone())) else { return Ok(None) };
    let example_files = or(&args.fewshot_from, here.as_ref().map(|inputs| inputs.example_files.clone()));
    let named = or(&args.file, here.map(|inputs| inputs.files));
    if named.is_empty() {
        return Ok(None);
    }
    Ok(Some(Inputs { model, files: named, example_files }))
}

/// The first file that is not here as the result names it.
fn missing(result: &Evaluation, inputs: &Inputs) -> Option<String> {
    let (files, examples) = match &result.measured {
        Measured::Text(text) => (std::slice::from_ref(&text.file), &[][..]),
        Measured::Task(task) => (&task.files[..], &task.example_files[..]),
    };
    let first = |wanted: &[BlobId], paths: &[PathBuf], what: &str| {
        if wanted.len() != paths.len() && !wanted.is_empty() {
            return Some(format!("the result has {} {what}, and {} are named here", wanted.len(), paths.len()));
        }
        wanted.iter().zip(paths).find_map(|(wanted, path)| match file_id(path) {
            Ok(found) if found == *wanted => None,
            Ok(found) => Some(format!("{} is {found}; {wanted} was used", path.display())),
            Err(error) => Some(error.to_string()),
        })
    };
    first(files, &inputs.files, "files").or_else(|| first(examples, &inputs.example_files, "files of examples"))
}
