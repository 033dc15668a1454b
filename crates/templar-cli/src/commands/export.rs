//! `templar export`: writes a checkpoint as a Hugging Face folder.

use std::path::PathBuf;

use serde_json::json;
use templar_model::hf;

use super::generate::load;
use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;

/// Write a checkpoint as a Hugging Face folder
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
    hf::export(&args.hf, &loaded.model, &loaded.parameters, &loaded.tokenizer)?;
    let parameters = loaded.parameters.len();
    invocation
        .printer
        .data(&json!({"checkpoint": loaded.id, "hf": args.hf, "parameters": parameters}), args.hf.display());
    invocation.printer.talk(format_args!("checkpoint {} of {parameters} parameters", loaded.id.short()));
    Ok(Code::Ok)
}
