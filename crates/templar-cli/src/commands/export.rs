//! `templar export`: writes a checkpoint as a Hugging Face folder, as a GGUF file, or as a patch of such folders; and a
//! run as tables.

mod contents;
mod patch;
mod tables;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;
use templar_export::gguf::vocabulary::Vocabulary;
use templar_export::gguf::{self, GgufContents, MatrixType};
use templar_home::access::Access;
use templar_model::hf::{self, WeightType};

use contents::{card, contents, tokenizer_files};

use super::generate::{Loaded, load};
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::path_text;
use crate::signals;

/// Write a checkpoint as a Hugging Face folder, as a GGUF file, or as what changed; or a run as tables
///
/// The folder states the end token of the dataset, the chat template that came with the tokenizer, and the whole
/// context of the model. Its tokenizer adds no tokens that training did not see. Its README.md is a model card with the
/// run, the checkpoint, the data, the losses, and the command that verifies the folder. A GGUF file is for llama.cpp
/// and what is built on it. A patch makes folders of an earlier checkpoint into folders of this one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group = clap::ArgGroup::new("written").required(true))]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    command: Option<ExportCommand>,
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the one after window N
    #[arg(value_name = "HASH|@|wN", required = true)]
    checkpoint: Option<String>,
    /// The folder to write, for `from_pretrained`; it must be new or empty
    #[arg(long, value_name = "DIR", group = "written")]
    hf: Option<PathBuf>,
    /// The GGUF file to write; it must be new
    #[arg(long, value_name = "FILE", group = "written")]
    gguf: Option<PathBuf>,
    /// Write what changed since this checkpoint, into the file of --out
    #[arg(long, value_name = "HASH|@|wN", group = "written", requires = "out")]
    patch: Option<String>,
    /// The patch to write; it must be new
    #[arg(long, value_name = "FILE", requires = "patch")]
    out: Option<PathBuf>,
    /// The type of the weights: bf16 for folders, f16 for the matrices of GGUF files. Both round
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: TypeName,
    /// Divide the folder's weights into files of at most so many bytes, with an index
    #[arg(long, value_name = "BYTES", requires = "hf")]
    max_shard_bytes: Option<u64>,
}

#[derive(Debug, clap::Subcommand)]
enum ExportCommand {
    Apply(patch::ApplyArgs),
    Tables(tables::TablesArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeName {
    F32,
    Bf16,
    F16,
}

impl TypeName {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

pub(crate) fn run(invocation: &Invocation, args: &ExportArgs) -> CommandResult {
    match &args.command {
        Some(ExportCommand::Apply(args)) => return patch::apply(invocation, args),
        Some(ExportCommand::Tables(args)) => return tables::run(invocation, args),
        None => {}
    }
    let access = invocation.read()?;
    // clap asks for a checkpoint where there is no subcommand.
    let loaded = load(&access, args.checkpoint.as_deref().unwrap_or("@"))?;
    if let (Some(from), Some(out)) = (&args.patch, &args.out) {
        let weights = weight_type(args.dtype)?;
        return patch::write(invocation, &access, &loaded, &patch::Wanted { from, out, weights });
    }
    let (hf, gguf) = (args.hf.clone(), args.gguf.clone());
    signals::removes(move || half_written(hf.as_deref(), gguf.as_deref()));
    let (kind, path) = match (&args.hf, &args.gguf) {
        (Some(dir), _) => {
            folder(&access, &loaded, dir, args)?;
            ("hf", dir)
        }
        (None, Some(file)) => {
            write_gguf(&loaded, file, args.dtype)?;
            ("gguf", file)
        }
        (None, None) => return Err(CommandError::says(Code::Usage, "--hf, --gguf or --patch says what to write")),
    };
    let tokenizer = &loaded.tokenizer;
    let parameters = loaded.parameters.len();
    let end = tokenizer.token(tokenizer.end_token()).unwrap_or_default();
    let dtype = args.dtype.name();
    invocation.printer.data(
        &json!({"checkpoint": loaded.id, kind: path_text(path), "parameters": parameters, "end_token": end, "dtype": dtype}),
        path.display(),
    );
    invocation.printer.talk(format_args!(
        "checkpoint {} of {parameters} parameters; texts end with {end:?}, and the context has {} tokens",
        loaded.id.short(),
        loaded.model.positions()
    ));
    Ok(Code::Ok)
}

/// The files that an export writes beside their places. They lie in a folder that was new or empty.
fn half_written(folder: Option<&Path>, file: Option<&Path>) -> Vec<PathBuf> {
    let is_partial = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "partial");
    let entries = folder.and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    let beside = |path: &Path| Some(path.with_file_name(format!(".{}.partial", path.file_name()?.to_string_lossy())));
    entries.map(|entry| entry.path()).filter(is_partial).chain(file.and_then(beside)).collect()
}

fn folder(access: &Access, loaded: &Loaded, dir: &Path, args: &ExportArgs) -> Result<(), CommandError> {
    let weights = weight_type(args.dtype)?;
    let files = tokenizer_files(loaded)?;
    let card = card(access, loaded, args.dtype.name())?;
    let options = hf::ExportOptions { weights, max_shard_bytes: args.max_shard_bytes, card: Some(&card) };
    Ok(hf::export_with(dir, &contents(loaded, &files), &options)?)
}

/// The type of the weights of a folder.
fn weight_type(dtype: TypeName) -> Result<WeightType, CommandError> {
    match dtype {
        TypeName::F32 => Ok(WeightType::F32),
        TypeName::Bf16 => Ok(WeightType::Bf16),
        TypeName::F16 => {
            let error = CommandError::says(Code::Usage, "a folder's weights are f32 or bf16");
            Err(error.hint("--dtype bf16 halves them, too"))
        }
    }
}

fn write_gguf(loaded: &Loaded, file: &Path, dtype: TypeName) -> Result<(), CommandError> {
    let matrices = match dtype {
        TypeName::F32 => MatrixType::F32,
        TypeName::F16 => MatrixType::F16,
        TypeName::Bf16 => {
            let error = CommandError::says(Code::Usage, "the matrices of a GGUF file are f32 or f16");
            return Err(error.hint("--dtype f16 halves them, too"));
        }
    };
    let Loaded { context, tokenizer, .. } = loaded;
    let source = format!("checkpoint {} of the templar run {}", loaded.id, context.run);
    let contents = GgufContents {
        spec: &loaded.model,
        params: &loaded.parameters,
        matrices,
        vocabulary: &Vocabulary::read(tokenizer.json())?,
        start: tokenizer.start_token(),
        end: tokenizer.end_token(),
        chat_template: loaded.chat_template.as_ref().map(|template| template.source()),
        name: &context.genesis.name,
        licence: Some(&context.dataset.licence),
        source: Some(&source),
    };
    Ok(gguf::write(file, &contents)?)
}
