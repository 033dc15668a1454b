//! `templar dataset`: imports text as content-addressed tokens, and lists, shows and checks datasets.

mod export;
mod facts;
mod import;
mod list;
mod merge;
mod notes;
mod reading;

use serde_json::json;
use templar_blob::ReadError;
use templar_data::{DatasetFault, PageReader, SampleError, Split, Tokenizer, sample, verify};
use templar_query::audit::findings::AuditAnswer;
use templar_query::find::dataset;

use crate::error::{Code, CommandError, CommandResult, repair_hint};
use crate::invocation::Invocation;
use crate::printer::{bytes, count};
use crate::verdict;

/// Import, list, show and check datasets: tokenised text in shards
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DatasetCommand {
    Import(Box<import::ImportArgs>),
    Merge(merge::MergeArgs),
    List(list::ListArgs),
    Export(export::ExportArgs),
    /// Print the name, licence, source and sizes of a dataset
    Show(NamedDataset),
    /// Print one page of a dataset as text
    Sample(SampleArgs),
    /// Check every shard and the tokenizer against the manifest
    Verify(NamedDataset),
}

#[derive(Debug, clap::Args)]
pub(crate) struct NamedDataset {
    /// The dataset: a hash, four or more digits of one, or a name
    dataset: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// The dataset: a hash, four or more digits of one, or a name
    dataset: String,
    /// The number of the page, from 0
    #[arg(long, default_value_t = 0, value_name = "P")]
    page: u64,
    /// The length of a page: the number of tokens that it predicts
    #[arg(long, default_value_t = 128, value_name = "T")]
    length: u32,
    /// Take the page from the held-out part
    #[arg(long)]
    held_out: bool,
}

pub(crate) fn run(invocation: &Invocation, command: &DatasetCommand) -> CommandResult {
    match command {
        DatasetCommand::Import(args) => import::run(invocation, args),
        DatasetCommand::Merge(args) => merge::run(invocation, args),
        DatasetCommand::List(args) => list::run(invocation, args),
        DatasetCommand::Export(args) => export::run(invocation, args),
        DatasetCommand::Show(args) => show(invocation, args),
        DatasetCommand::Sample(args) => page(invocation, args),
        DatasetCommand::Verify(args) => check(invocation, args),
    }
}

fn show(invocation: &Invocation, args: &NamedDataset) -> CommandResult {
    let access = invocation.read()?;
    let (id, dataset) = dataset(&access, &args.dataset)?;
    let text = format!("dataset    {id}\n{}", facts::describe(&dataset));
    invocation.printer.data(&json!({"dataset": id, "manifest": dataset}), text);
    Ok(Code::Ok)
}

fn page(invocation: &Invocation, args: &SampleArgs) -> CommandResult {
    let access = invocation.read()?;
    let (id, dataset) = dataset(&access, &args.dataset)?;
    let json = access.blobs().read(&dataset.tokenizer.hash(), templar_data::MAX_TOKENIZER_BYTES as u64)?;
    let wrong = |error| CommandError::new(Code::Verification, error);
    let tokenizer = Tokenizer::for_dataset(json, &dataset).map_err(wrong)?;
    let split = if args.held_out { Split::Validation } else { Split::Training };
    let reader = PageReader::new(access.blobs(), &dataset, split, args.length).map_err(SampleError::from)?;
    let text = sample(&reader, &tokenizer, args.page)?;
    let pages = reader.page_count();
    let value = json!({
        "dataset": id, "page": args.page, "pages": pages, "length": args.length, "held_out": args.held_out,
        "text": text,
    });
    invocation.printer.data(&value, &text);
    Ok(Code::Ok)
}

fn check(invocation: &Invocation, args: &NamedDataset) -> CommandResult {
    let access = invocation.read()?;
    let (id, dataset) = dataset(&access, &args.dataset)?;
    let found = verify(&dataset, access.blobs());
    let is_own =
        |fault: &DatasetFault| fault.unread().is_some_and(|(_, error)| !matches!(error, ReadError::TooLarge { .. }));
    let answer = match &found.faults {
        _ if found.is_sound() => AuditAnswer::Match,
        faults if faults.iter().all(is_own) => AuditAnswer::Unavailable,
        _ => AuditAnswer::Mismatch,
    };
    let damaged = |fault: &DatasetFault| fault.unread().filter(|(_, error)| error.is_damage()).map(|(blob, _)| blob);
    let hint = found.faults.iter().find_map(damaged).map(|blob| repair_hint(&blob));
    let words = |fault: &DatasetFault| {
        let words = templar_audit::chain(fault);
        if damaged(fault).is_some() { format!("damaged here: {words}") } else { words }
    };
    let faults: Vec<String> = found.faults.iter().map(words).collect();
    let mut text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    text.push_str(&format!(
        "{}: dataset {}, {}, {} tokens, {}",
        verdict::word(invocation.printer, answer),
        id.short(),
        count(found.shards, "shard"),
        found.tokens,
        bytes(found.bytes)
    ));
    let value = json!({
        "dataset": id, "verdict": answer, "shards": found.shards, "tokens": found.tokens, "bytes": found.bytes,
        "faults": faults, "hint": hint,
    });
    invocation.printer.data(&value, text);
    if let Some(hint) = hint {
        invocation.printer.talk(format_args!("hint: {hint}"));
    }
    Ok(verdict::code(answer))
}
