//! `templar show`: any object, with its links in both directions.

mod delta;
mod explanation;
mod summary;

use templar_manifest::Hash;
use templar_query::find::{closed_window, object, run_context};
use templar_query::index::HomeIndex;
use templar_query::manifest_view::{self, ObjectKind};
use templar_query::object::ObjectView;
use templar_query::object::contents::Contents;
use templar_query::object::trace::TraceView;
use templar_query::reference::Reference;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Printer, bytes};

/// The number of backlinks that a person is shown.
const MAX_NAMED_BY: usize = 20;

/// Show an object, its links to other objects, and the links to it
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the record of window N
    #[arg(value_name = "HASH|@|wN")]
    object: Reference,
    /// The run that @ and wN belong to [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &ShowArgs) -> CommandResult {
    let access = invocation.read()?;
    let index = HomeIndex::build(&access, None)?;
    let (id, role) = match object(&index, &args.object)? {
        Some(id) => (id, String::new()),
        None => {
            let context = run_context(&access, args.run.as_deref())?;
            let node = access.fold(&context)?;
            match args.object {
                Reference::Window(window) => (closed_window(&node, window)?.record.hash(), String::new()),
                _ => {
                    (node.state().checkpoint().hash(), format!("The current model of run {:?}:", context.genesis.name))
                }
            }
        }
    };
    let view = ObjectView::read(&access, &index, id)?.ok_or_else(|| {
        let error = CommandError::says(Code::NotFound, format_args!("no object here has the hash {id}"));
        error.hint(format!("`templar fetch {id}` asks peers for it"))
    })?;
    invocation.printer.document(&view, text(invocation.printer, &view, &role));
    Ok(Code::Ok)
}

/// The object for a person: its type, its fields, and the manifests that name it. `role` says more about it.
fn text(printer: Printer, view: &ObjectView, role: &str) -> String {
    let size = view.bytes.map_or_else(|| "not here".to_owned(), bytes);
    let mut text = format!("{} {} ({size})\n", view.kind.name(), view.id);
    text.push_str(&format!("{}\n", printer.prose(&summary::sentence(view, role), "")));
    for signer in &view.signers {
        text.push_str(&format!("signed by {}\n", signer.short()));
    }
    for line in contents(&view.contents).into_iter().chain(explanation::lines(&view.explanation)) {
        text.push_str(&format!("{}\n", printer.prose(&format!("  {line}"), "    ")));
    }
    for link in view.named_by.iter().take(MAX_NAMED_BY) {
        let kind = link.kind.map_or("object", ObjectKind::name);
        text.push_str(&format!("named by {kind} {} as {}\n", link.id.short(), link.field));
    }
    if let Some(more) = view.named_by.len().checked_sub(MAX_NAMED_BY).filter(|more| *more > 0) {
        text.push_str(&format!("named by {more} more\n"));
    }
    text
}

fn contents(contents: &Contents) -> Vec<String> {
    match contents {
        Contents::None => Vec::new(),
        Contents::Manifest(body) => manifest_view::lines(body).iter().map(|line| shorten(line)).collect(),
        Contents::Delta(delta) => delta::lines(delta),
        Contents::Trace(trace) => trace_lines(trace),
    }
}

fn trace_lines(trace: &TraceView) -> Vec<String> {
    let mut lines = vec![format!("steps = {}", trace.losses.len()), format!("tensors = {}", trace.tensors)];
    let losses = trace.losses.iter().enumerate();
    lines.extend(losses.map(|(step, loss)| format!("loss of step {} = {loss:.6}", step + 1)));
    lines
}

/// A line with every hash cut to ten digits.
fn shorten(line: &str) -> String {
    let mut text = String::new();
    for piece in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        match word.parse::<Hash>() {
            Ok(hash) => text.push_str(&format!("{}{}", hash.short(), &piece[word.len()..])),
            Err(_) => text.push_str(piece),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_in_a_line_are_cut() {
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        let line = format!("outcomes[0].x = [\"{a}\",\"{b}\"], 12");
        assert_eq!(shorten(&line), format!("outcomes[0].x = [\"{}\",\"{}\"], 12", a.short(), b.short()));
        assert_eq!(shorten("name = a b"), "name = a b");
    }
}
