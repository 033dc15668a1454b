//! Folding a journal again, believing nothing: every entry must be accepted when its turn comes.
//!
//! A node writes an entry down when it accepts it, so in a journal that is whole no entry is refused and none has to wait
//! for a later one. One that waits tells that something before it is gone.

use templar_home::context::{RunContext, RunError};
use templar_manifest::Hash;
use templar_protocol::{Entry, Input, Node, Output};

/// The node that a journal gives, and the first thing that is wrong with the journal.
pub(crate) fn refold(context: &RunContext, records: &[Vec<u8>]) -> Result<(Node, Option<String>), RunError> {
    let mut node = Node::new(context.first_state()?, None);
    let wrong = records.iter().enumerate().find_map(|(index, record)| {
        let why = take(&mut node, record).err()?;
        Some(format!("entry {index} of the journal is refused: {why}"))
    });
    let certificates = || {
        let checks =
            node.closed().iter().map(|closed| (closed.window.window, closed.check_certificates(&context.genesis)));
        let broken = checks.into_iter().find_map(|(window, check)| Some((window, check.err()?)));
        broken.map(|(window, error)| format!("window {window}: {error}"))
    };
    let wrong = wrong.or_else(certificates);
    Ok((node, wrong))
}

fn take(node: &mut Node, record: &[u8]) -> Result<(), String> {
    let entry = Entry::decode(record).map_err(|error| error.to_string())?;
    let id: Hash = entry.id();
    let outputs = node.step(Input::Entry(entry)).map_err(|error| error.to_string())?;
    let accepted = outputs.iter().any(|output| matches!(output, Output::Accepted { entry, .. } if entry.id() == id));
    if accepted { Ok(()) } else { Err("it does not follow from those before it".to_owned()) }
}
