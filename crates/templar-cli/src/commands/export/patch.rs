//! `templar export --patch` and `templar export apply`: what changed between two checkpoints, for servers.

use std::path::{Path, PathBuf};

use serde_json::json;
use templar_export::patch::{self, PatchContents};
use templar_home::access::Access;
use templar_model::hf::{self, ExportOptions, WeightType};

use super::contents::{card, contents, tokenizer_files};
use crate::commands::generate::{Loaded, load};
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{bytes, count, path_text, shown};

/// Make a folder of an earlier checkpoint into one of a later checkpoint
///
/// The folder is one that `templar export --hf` wrote, and the patch one that `export --patch` wrote. Afterwards its
/// files are those of an export of the later checkpoint. A folder of another checkpoint, a damaged folder and a damaged patch
/// are refused, and nothing changes. No home is needed.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// The patch
    #[arg(value_name = "PATCH")]
    patch: PathBuf,
    /// The folder to change
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// The patch that is asked for.
pub(super) struct Wanted<'a> {
    /// The name of the checkpoint that it begins with.
    pub(super) from: &'a str,
    /// The file to write.
    pub(super) out: &'a Path,
    /// The type of the weights in the folders.
    pub(super) weights: WeightType,
}

/// Writes what changed from an earlier checkpoint.
pub(super) fn write(invocation: &Invocation, access: &Access, loaded: &Loaded, wanted: &Wanted<'_>) -> CommandResult {
    let Wanted { from, out, weights } = *wanted;
    let base = load(access, from)?;
    if base.manifest.run != loaded.manifest.run {
        return Err(CommandError::says(Code::Usage, "the two checkpoints are of two runs"));
    }
    let (now, then) = (companions(access, loaded, weights)?, companions(access, &base, weights)?);
    let contents = PatchContents {
        run: loaded.manifest.run,
        from: base.id,
        to: loaded.id,
        tensors: &loaded.context.recipe.tensors,
        before: &base.parameters,
        after: &loaded.parameters,
        weights,
        files: now.into_iter().filter(|file| !then.contains(file)).collect(),
    };
    let length = patch::write(out, &contents)?;
    let value = json!({ "patch": path_text(out), "from": base.id, "checkpoint": loaded.id, "bytes": length });
    invocation.printer.data(&value, out.display());
    invocation.printer.talk(format_args!(
        "{} from checkpoint {} to {}; `templar export apply {} FOLDER` applies it",
        bytes(length),
        base.id.short(),
        loaded.id.short(),
        shown(out)
    ));
    Ok(Code::Ok)
}

/// The files of an export beside its weights.
fn companions(
    access: &Access,
    loaded: &Loaded,
    weights: WeightType,
) -> Result<Vec<(&'static str, Vec<u8>)>, CommandError> {
    let files = tokenizer_files(loaded)?;
    let dtype = match weights {
        WeightType::F32 => "f32",
        WeightType::Bf16 => "bf16",
    };
    let card = card(access, loaded, dtype)?;
    let options = ExportOptions { weights, max_shard_bytes: None, card: Some(&card) };
    Ok(hf::companions(&contents(loaded, &files), &options))
}

pub(super) fn apply(invocation: &Invocation, args: &ApplyArgs) -> CommandResult {
    let patched = patch::apply(&args.patch, &args.folder)?;
    let value = json!({
        "folder": path_text(&args.folder), "run": patched.run, "from": patched.from, "checkpoint": patched.to,
        "tensors": patched.tensors,
    });
    let tensors = match patched.tensors {
        0 => "it was patched before".to_owned(),
        changed => format!("{} changed", count(changed as u64, "tensor")),
    };
    let text = format!("{} is checkpoint {}: {tensors}", shown(&args.folder), patched.to);
    invocation.printer.data(&value, text);
    Ok(Code::Ok)
}
