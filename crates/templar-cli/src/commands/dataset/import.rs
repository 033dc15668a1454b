//! `templar dataset import`: files into shards and a manifest.
//!
//! The manifest depends only on the text, the tokenizer and the options, so the same import has the same hash
//! on every machine. The manifest is stored last: an import that fails leaves no dataset.

use std::path::PathBuf;

use serde_json::json;
use templar_data::{ImportOptions, Imported, ReadReport, ShardSink, SinkError, bundled, import};
use templar_home::access::Access;
use templar_manifest::{BlobId, DatasetId, Hash, HeldOut, payload};

use super::reading::{self, ReadArgs};
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::session::sync;

/// Import parquet, jsonl, plain text and more
///
/// The text is in the column or field `text`, or in the one that --column names. Files may be compressed with gzip,
/// zstd, bzip2 or xz. Folders are searched, and - is standard input. Prints the hash of the dataset.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// Files of text, or folders of them; - is standard input
    #[arg(required_unless_present = "bundled")]
    path: Vec<PathBuf>,
    /// The tokenizer: a Hugging Face tokenizer.json
    #[arg(long, required_unless_present = "bundled", value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// The licence of the text, as an SPDX expression
    #[arg(long, required_unless_present = "bundled", value_name = "SPDX")]
    licence: Option<String>,
    /// A short name [default: the first path's name without its extension]
    #[arg(long)]
    name: Option<String>,
    /// The origin of the text, in words
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    source: String,
    /// The token that ends a document [default: the first known one that the tokenizer has]
    #[arg(long, value_name = "TOKEN")]
    end_token: Option<String>,
    /// The number of tokens of a full shard
    #[arg(long, default_value_t = 4 << 20, value_name = "N")]
    shard_tokens: u64,
    /// Hold out one block of tokens in every N blocks
    #[arg(long, default_value_t = 20, value_name = "N")]
    held_out_every: u64,
    /// The number of tokens of a block
    #[arg(long, default_value_t = 2048, value_name = "N")]
    held_out_tokens: u64,
    /// Import the bundled text: nine plays of Shakespeare
    #[arg(long, conflicts_with_all = ["path", "tokenizer", "licence", "name", "source", "end_token", "shard_tokens", "held_out_every", "held_out_tokens"])]
    bundled: bool,
}

/// Puts the shards of an import into the store of the home.
struct StoreSink<'a> {
    access: &'a Access,
    kept: Vec<Hash>,
}

impl ShardSink for StoreSink<'_> {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        let id = self.access.put(bytes).map_err(|error| SinkError(Box::new(error)))?;
        self.kept.push(id);
        Ok(BlobId::new(id))
    }
}

pub(crate) fn run(invocation: &Invocation, args: &ImportArgs) -> CommandResult {
    let access = invocation.write()?;
    let mut sink = StoreSink { access: &access, kept: Vec::new() };
    let imported = if args.bundled {
        Imported { dataset: bundled::import_shakespeare(&mut sink)?, report: ReadReport::default() }
    } else {
        let tokenizer =
            args.tokenizer.as_ref().ok_or_else(|| CommandError::says(Code::Usage, "--tokenizer is missing"))?;
        let json = read_tokenizer(tokenizer)?;
        import(&args.path, &json, &options(args)?, &mut sink)?
    };
    let Imported { dataset, report } = imported;
    let mut kept = sink.kept;
    let id: DatasetId = access.put(payload::encode(&dataset))?.into();
    kept.push(id.hash());
    sync(&access, &kept)?;
    let shards = dataset.training.len() + dataset.validation.len();
    let value = json!({
        "dataset": id, "name": dataset.name, "tokenizer": dataset.tokenizer, "documents": dataset.documents,
        "training_tokens": dataset.training_tokens(), "held_out_tokens": dataset.validation_tokens(), "shards": shards, "read": reading::to_json(&report),
    });
    invocation.printer.data(&value, id);
    invocation.printer.talk(reading::describe(dataset.documents, &report, &args.read.options()));
    invocation.printer.talk(super::facts::describe(&dataset));
    Ok(Code::Ok)
}

fn read_tokenizer(path: &PathBuf) -> Result<Vec<u8>, CommandError> {
    let said = |error: std::io::Error| {
        let code = CommandError::from(error);
        let text = format!("the tokenizer {} cannot be read: {}", path.display(), code.lines().join(": "));
        CommandError::says(code.code(), text)
    };
    let bytes = std::fs::metadata(path).map_err(said)?.len();
    if bytes > templar_data::MAX_TOKENIZER_BYTES as u64 {
        let text = format!("the tokenizer {} is too large: {bytes} bytes", path.display());
        return Err(CommandError::says(Code::Failed, text));
    }
    std::fs::read(path).map_err(said)
}

fn options(args: &ImportArgs) -> Result<ImportOptions, CommandError> {
    let stem = || args.path.first().and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(stem).unwrap_or_default();
    if name.is_empty() {
        return Err(CommandError::says(Code::Usage, "the dataset needs a name").hint("give one with --name"));
    }
    let mut options = ImportOptions::new(name, args.licence.clone().unwrap_or_default(), args.source.clone());
    options.end_token.clone_from(&args.end_token);
    options.read = args.read.options();
    options.shard_tokens = args.shard_tokens;
    options.held_out = HeldOut { block_tokens: args.held_out_tokens, every: args.held_out_every };
    Ok(options)
}
