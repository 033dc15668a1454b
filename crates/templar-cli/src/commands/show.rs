//! `templar show`: any object, with what it names and what names it.

mod contents;
mod delta;
mod registration;
mod standing;

use serde_json::json;
use templar_manifest::Hash;

use crate::error::{Code, CommandError, CommandResult};
use crate::index::{Index, Object};
use crate::invocation::{Invocation, closed_window, object, run_context};
use crate::printer::bytes;
use crate::reference::Reference;
use crate::view::Nature;

/// As many links back as a person is shown.
const MAX_NAMED_BY: usize = 20;

/// Print any object: what it holds, what it names, what names it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the record of window N
    #[arg(value_name = "HASH|@|wN")]
    object: Reference,
    /// The run that @ and wN are of [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let access = invocation.read()?;
    let index = Index::build(&access, None)?;
    let id = match object(&index, &args.object)? {
        Some(id) => id,
        None => {
            let node = access.fold(&run_context(&access, args.run.as_deref())?)?;
            match args.object {
                Reference::Window(window) => closed_window(&node, window)?.record.hash(),
                _ => node.state().checkpoint().hash(),
            }
        }
    };
    let stored = access.blobs().contains(&id);
    let known = index.object(&id);
    if known.is_none() && !stored {
        let error = CommandError::says(Code::NotFound, format_args!("nothing here has the hash {id}"));
        return Err(error.hint(format!("`templar fetch {id}` asks peers for it")));
    }
    let unnamed = Object { nature: Nature::Blob, payload: None, named_by: Vec::new(), signers: Vec::new() };
    let object = known.unwrap_or(&unnamed);
    let size = index.stored.get(&id).copied().or_else(|| object.payload.as_ref().map(|payload| payload.len() as u64));
    let contents = contents::of(&access, &index, id, object)?;
    let explanation = match (&object.nature, &object.payload) {
        (Nature::Manifest(kind), Some(payload)) => standing::of(&access, *kind, id, payload)?,
        _ => standing::Explanation::default(),
    };
    let named_by: Vec<_> = object.named_by.iter().map(|(by, field)| json!({"id": by, "field": field})).collect();
    let value = json!({
        "id": id, "kind": object.nature.name(), "bytes": size, "here": stored || object.payload.is_some(),
        "signers": object.signers, "contents": contents.value, "links": contents.links, "named_by": named_by,
        "explanation": explanation.value,
    });
    let lines = [contents.lines, explanation.lines].concat();
    invocation.printer.data(&value, text(&index, id, object, size, &lines));
    Ok(Code::Ok)
}

fn text(index: &Index, id: Hash, object: &Object, size: Option<u64>, lines: &[String]) -> String {
    let size = size.map_or_else(|| "not here".to_owned(), bytes);
    let mut text = format!("{} {id} ({size})\n", object.nature.name());
    for signer in &object.signers {
        text.push_str(&format!("signed by {}\n", signer.short()));
    }
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
    for (by, field) in object.named_by.iter().take(MAX_NAMED_BY) {
        let kind = index.nature(by).map_or("object", Nature::name);
        text.push_str(&format!("named by {kind} {} as {field}\n", by.short()));
    }
    if let Some(more) = object.named_by.len().checked_sub(MAX_NAMED_BY).filter(|more| *more > 0) {
        text.push_str(&format!("named by {more} more\n"));
    }
    text
}
