//! `templar export`: writes a checkpoint as a Hugging Face folder.

use std::path::PathBuf;

use serde_json::json;
use templar_model::hf;

use super::generate::load;
use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::path_text;

/// Write a checkpoint as a Hugging Face folder
///
/// The folder states the end token of the dataset, the chat template that came with the tokenizer, and the whole
/// context of the model. Its tokenizer adds no tokens that training did not see.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the one after window N
    #[arg(value_name = "HASH|@|wN")]
    checkpoint: String,
    /// The folder to write, for `from_pretrained`; it must be new or empty
    #[arg(long, value_name = "DIR")]
    hf: PathBuf,
}

pub(crate) fn run(invocation: &Invocation, args: &ExportArgs) -> CommandResult {
    let access = invocation.read()?;
    let loaded = load(&access, &args.checkpoint)?;
    let tokenizer = &loaded.tokenizer;
    let files = tokenizer.hugging_face_files(loaded.model.positions(), loaded.chat_template.as_ref())?;
    let contents = hf::FolderContents {
        spec: &loaded.model,
        params: &loaded.parameters,
        special: hf::SpecialIds { start: tokenizer.start_token(), end: tokenizer.end_token() },
        tokenizer: &files.tokenizer,
        tokenizer_config: &files.config,
    };
    hf::export(&args.hf, &contents)?;
    let parameters = loaded.parameters.len();
    let end = tokenizer.token(tokenizer.end_token()).unwrap_or_default();
    invocation.printer.data(
        &json!({"checkpoint": loaded.id, "hf": path_text(&args.hf), "parameters": parameters, "end_token": end}),
        args.hf.display(),
    );
    invocation.printer.talk(format_args!(
        "checkpoint {} of {parameters} parameters; texts end with {end:?}, and the context has {} tokens",
        loaded.id.short(),
        loaded.model.positions()
    ));
    Ok(Code::Ok)
}
