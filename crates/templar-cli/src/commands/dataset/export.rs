//! `templar dataset export`: tokenised text for other trainers.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use templar_export::tokens::{self, ListFormat, TokensSource};
use templar_query::find::dataset;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{count, path_text, shown};

/// Write the tokens of a dataset as parquet or Arrow files, for Hugging Face `datasets` and others
///
/// The folder has one file for each shard, the tokenizer, and a data card that says which files are held out. Each row
/// has a list of tokens, `input_ids`; the lists of a split, one after the other, are its tokens in order.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The dataset: a hash, four or more digits of one, or a name
    dataset: String,
    /// The format of the files
    #[arg(long, value_enum, default_value = "parquet")]
    format: FormatName,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The tokens of a row
    #[arg(long, default_value_t = 1024, value_name = "T", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    Parquet,
    Arrow,
}

pub(super) fn run(invocation: &Invocation, args: &ExportArgs) -> CommandResult {
    let access = invocation.read()?;
    let (id, dataset) = dataset(&access, &args.dataset)?;
    let format = match args.format {
        FormatName::Parquet => ListFormat::Parquet,
        FormatName::Arrow => ListFormat::Arrow,
    };
    let source = TokensSource { id, dataset: &dataset, blobs: access.blobs() };
    let files = tokens::write(&args.out, source, format, args.length)?;
    let tokens = dataset.training_tokens() + dataset.validation_tokens();
    let value = json!({
        "dataset": id, "folder": path_text(&args.out), "files": files, "tokens": tokens, "length": args.length,
    });
    invocation.printer.data(&value, args.out.display());
    let files = count(files as u64, "file");
    invocation.printer.talk(format_args!("{tokens} tokens in {files} in {}", shown(&args.out)));
    Ok(Code::Ok)
}
