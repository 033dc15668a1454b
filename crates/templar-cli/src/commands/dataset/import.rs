//! `templar dataset import`: files into shards and a manifest.
//!
//! The manifest depends only on the text, the tokenizer and the options, so the same import has the same hash
//! on every machine. The manifest is stored last: an import that fails or is interrupted leaves nothing. An import says
//! which files it takes, and which it leaves out, before it reads anything.

mod bar;
mod listed;
mod name;
mod part;
mod report;

use std::path::{Path, PathBuf};

use templar_data::{ChatTemplate, Import, ImportOptions, Imported, Listing, OnDuplicate, ReadOptions, bundled};
use templar_home::unfinished::Unfinished;
use templar_manifest::{DatasetId, HeldOut, payload};

use super::notes;
use super::reading::ReadArgs;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::shown;
use crate::tokenizer_file;

pub(super) use bar::watched;
pub(super) use report::imported;

/// Import parquet, jsonl, plain text and more
///
/// The text is in the column or field `text`, or in the one that --column names. Files may be compressed with gzip,
/// zstd, bzip2 or xz, and - is standard input. Folders are searched. Files that a person would not train on are left
/// out, such as hidden and unfinished files, licences and test splits. Each is listed with the reason, and is taken
/// where it is named. Prints the hash of the dataset.
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
    /// The licence of the text, as an SPDX expression such as CC-BY-4.0 or LicenseRef-my-terms
    #[arg(long, visible_alias = "license", required_unless_present = "bundled", value_name = "SPDX")]
    licence: Option<String>,
    /// A short name [default: made of the first path's name without its endings]
    #[arg(long)]
    name: Option<String>,
    /// The origin of the text, in words
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    source: String,
    /// The token that ends a document [default: the first customary one that the tokenizer marks as special]
    #[arg(long, value_name = "NAME")]
    end_token: Option<String>,
    /// A token to put before each document, such as "<s>" [default: none]
    #[arg(long, value_name = "NAME")]
    start_token: Option<String>,
    /// The chat template that joins the turns of conversations, a Jinja file; `none` joins them as role: content, with
    /// a blank line between turns [default: the one beside the tokenizer, or else none]
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// The number of tokens of a full shard
    #[arg(long, default_value_t = 4 << 20, value_name = "N")]
    shard_tokens: u64,
    /// Hold out one block of tokens in every N blocks
    #[arg(long, default_value_t = 20, value_name = "N")]
    held_out_every: u64,
    /// The number of tokens of a block
    #[arg(long, default_value_t = 2048, value_name = "N")]
    held_out_tokens: u64,
    /// Leave out documents that are equal to an earlier one. An import takes about 24 bytes of memory for each
    /// different document, with this and without it
    #[arg(long)]
    dedup: bool,
    /// Show what would be read and what three documents become, and import nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    part: part::PartArgs,
    /// Import the bundled text: nine plays of Shakespeare
    #[arg(long, conflicts_with_all = ["path", "tokenizer", "licence", "name", "source", "end_token", "start_token", "chat_template", "shard_tokens", "held_out_every", "held_out_tokens", "dedup", "dry_run", "part"])]
    bundled: bool,
}

/// Stores the manifest, after which the dataset is there, and brings everything to the disk.
pub(super) fn finish(mut import: Unfinished<'_>, imported: &Imported) -> Result<DatasetId, CommandError> {
    let id = import.put(payload::encode(&imported.dataset))?.into();
    import.keep()?;
    Ok(id)
}

pub(crate) fn run(invocation: &Invocation, args: &ImportArgs) -> CommandResult {
    if args.bundled {
        return import_bundled(invocation);
    }
    let printer = invocation.printer;
    let tokenizer = args.tokenizer.as_ref().ok_or_else(|| CommandError::says(Code::Usage, "--tokenizer is missing"))?;
    let json = tokenizer_file::read(tokenizer)?;
    let mut options = options(invocation, args)?;
    options.chat_template = chat_template(args.chat_template.as_deref(), tokenizer)?;
    let import = Import::new(&json, &options)?;
    for note in notes::of(import.tokenizer(), import.chat_template()) {
        printer.talk(note);
    }
    // A home that is not there, or in use, is told before a long listing.
    let access = if args.dry_run || args.part.is_some() { None } else { Some(invocation.write()?) };
    let listing = Listing::of(&args.path)?;
    printer.talk(listed::listing(&listing));
    let Some(access) = access else {
        return if args.dry_run {
            report::samples(invocation, &listing, &import.samples(&listing)?)
        } else {
            part::run(invocation, &args.part, &options.name, &import, &listing)
        };
    };
    let mut sink = Unfinished::begin(&access);
    let imported = watched(printer, listing.bytes(), |progress| import.run(&listing, progress, &mut sink))?;
    let id = finish(sink, &imported)?;
    report::imported(invocation, id, &imported, &listing.left_out, &options.read);
    Ok(Code::Ok)
}

/// The chat template that is named, or the one beside the tokenizer.
fn chat_template(named: Option<&Path>, tokenizer: &Path) -> Result<Option<ChatTemplate>, CommandError> {
    Ok(match named {
        None => ChatTemplate::beside(tokenizer)?,
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(ChatTemplate::read(path)?),
    })
}

fn import_bundled(invocation: &Invocation) -> CommandResult {
    let access = invocation.write()?;
    let mut sink = Unfinished::begin(&access);
    let imported = bundled::import(&mut sink)?;
    let id = finish(sink, &imported)?;
    report::imported(invocation, id, &imported, &[], &ReadOptions::default());
    Ok(Code::Ok)
}

fn options(invocation: &Invocation, args: &ImportArgs) -> Result<ImportOptions, CommandError> {
    let name = match (&args.name, args.path.first()) {
        (Some(name), _) => name.clone(),
        (None, None) => String::new(),
        (None, Some(path)) => {
            let name = name::name_of(path).ok_or_else(|| {
                let text = format!("no name for the dataset can be made of {:?}", shown(path));
                CommandError::says(Code::Usage, text).hint("give one with --name")
            })?;
            if path.file_stem().is_none_or(|stem| stem.to_string_lossy() != name) {
                invocation
                    .printer
                    .talk(format!("the dataset is called {name}, after its file; --name gives another name"));
            }
            name
        }
    };
    if name.is_empty() {
        return Err(CommandError::says(Code::Usage, "the dataset needs a name").hint("give one with --name"));
    }
    let mut options = ImportOptions::new(name, args.licence.clone().unwrap_or_default(), args.source.clone());
    options.end_token.clone_from(&args.end_token);
    options.start_token.clone_from(&args.start_token);
    options.read = args.read.options();
    options.shard_tokens = args.shard_tokens;
    options.held_out = HeldOut { block_tokens: args.held_out_tokens, every: args.held_out_every };
    options.on_duplicate = if args.dedup { OnDuplicate::Remove } else { OnDuplicate::Count };
    Ok(options)
}
