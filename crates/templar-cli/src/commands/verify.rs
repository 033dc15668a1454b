//! `templar verify`: every blob's hash, every entry's signature, every link; or whether a folder is a checkpoint.

use std::path::{Path, PathBuf};

use serde_json::json;
use templar_query::audit::findings::AuditAnswer;
use templar_query::find::{checkpoint, run_context};
use templar_query::folder_check::FolderCheck;
use templar_query::verify::HomeCheck;

use crate::error::{CommandResult, repair_hint};
use crate::invocation::Invocation;
use crate::printer::{bytes, count};
use crate::verdict;

/// Check everything in the home: hashes, signatures, links. Or check whether a folder is a checkpoint of a run
///
/// With FOLDER, a Hugging Face folder is compared with all checkpoints that the run's records name: weights, config and
/// tokenizer. Nothing but the records is needed for weights in f32; weights that were rounded to bf16 are compared with
/// a checkpoint of the home.
///
/// Ends with `match`; with `unavailable: damaged here` (exit code 5) where this home has lost something; or with
/// `mismatch` (exit code 4) where something is whole and breaks the rules. Blobs that are linked to but not in this
/// home are counted. They are no fault: few homes keep everything.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// A Hugging Face folder to compare with the checkpoints of a run, instead of the home to check
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long, requires = "folder")]
    run: Option<String>,
    /// The checkpoint that weights in bf16 are compared with: a hash, four or more digits of one, @ or wN
    #[arg(long, requires = "folder", value_name = "HASH|@|wN")]
    checkpoint: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &VerifyArgs) -> CommandResult {
    if let Some(folder) = &args.folder {
        return verify_folder(invocation, args, folder);
    }
    let printer = invocation.printer;
    let check = HomeCheck::run(&invocation.read().map_err(verdict::unopened)?)?;
    let answer = check.answer();
    let mut text: String = check.faults.iter().map(|fault| format!("{fault}\n")).collect();
    text.push_str(&format!(
        "{}: {} of {}, {} entries; linked to but not here: {}",
        verdict::own_word(printer, answer.verdict),
        count(check.blobs, "blob"),
        bytes(check.bytes),
        check.entries,
        count(check.missing, "blob")
    ));
    let hint = match (answer.verdict, check.damaged.first()) {
        (AuditAnswer::Match, _) => None,
        (_, Some(blob)) => Some(repair_hint(blob)),
        (_, None) => Some("`templar store scrub` repairs the files of this home".to_owned()),
    };
    let mut value = serde_json::to_value(&check).unwrap_or_default();
    (value["verdict"], value["what"], value["hint"]) = (json!(answer.verdict), json!(answer.what), json!(hint));
    printer.data(&value, text);
    if let Some(hint) = hint {
        printer.talk(format_args!("hint: {hint}"));
    }
    Ok(verdict::code(answer.verdict))
}

fn verify_folder(invocation: &Invocation, args: &VerifyArgs, folder: &Path) -> CommandResult {
    let printer = invocation.printer;
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let node = access.fold(&context)?;
    let rounded = match &args.checkpoint {
        Some(named) => Some(checkpoint(&access, Some(&node), named)?),
        None => None,
    };
    let check = FolderCheck::run(&access, &context, folder, rounded)?;
    let answer = if check.is_match() { AuditAnswer::Match } else { AuditAnswer::Mismatch };
    let mut text: String = check.differences.iter().map(|difference| format!("{difference}\n")).collect();
    text.push_str(&format!("{}: {}", verdict::own_word(printer, answer), found(&check, &context.genesis.name)));
    if !check.not_compared.is_empty() {
        printer.talk(format_args!("not compared: {}", check.not_compared.join(", ")));
    }
    let mut value = serde_json::to_value(&check).unwrap_or_default();
    value["verdict"] = json!(answer);
    printer.data(&value, text);
    Ok(verdict::code(answer))
}

/// What a folder is, in words.
fn found(check: &FolderCheck, run: &str) -> String {
    match (check.checkpoint, check.window) {
        (Some(id), Some(window)) => {
            let rounded = if check.is_rounded { ", rounded to bf16" } else { "" };
            format!("the weights are checkpoint {id} of the run {run:?}, from which window {window} starts{rounded}")
        }
        _ => format!("the folder is no checkpoint of the run {run:?}"),
    }
}
