//! Folds a journal again and checks every entry.
//!
//! A node writes an entry to its journal when it accepts it. So when a whole journal is folded again, the rules
//! accept each entry at its turn: none is refused, and none has to wait for a later one. An entry that waits
//! shows that an earlier one is missing. No node writes an entry twice, so a second copy is damage of the file.

use templar_home::context::{RunContext, RunError};
use templar_manifest::Hash;
use templar_protocol::{Entry, Input, Node, Output};

/// The first fault of a journal, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalFault {
    /// An entry or a certificate breaks the rules.
    Wrong(String),
    /// An entry stands in the journal a second time.
    Twice(String),
}

/// A journal, folded as far as the rules accept it.
#[derive(Debug)]
pub struct Refolded {
    /// The protocol's node after the last accepted entry.
    pub node: Node,
    /// The first entry or certificate that is wrong; `None` when the journal is sound.
    pub fault: Option<JournalFault>,
}

/// Folds the `records` of a run's journal from the run's first state, and checks the certificates of every
/// closed window.
///
/// # Errors
/// The first state of the run cannot be made.
pub fn refold(context: &RunContext, records: &[Vec<u8>]) -> Result<Refolded, RunError> {
    let mut node = Node::new(context.first_state()?, None);
    let refused = records.iter().enumerate().find_map(|(index, record)| {
        let why = accept(&mut node, record).err()?;
        Some(if records[..index].contains(record) {
            JournalFault::Twice(format!("entry {index} of the journal is a copy of an earlier one"))
        } else {
            JournalFault::Wrong(format!("entry {index} of the journal is refused: {why}"))
        })
    });
    let certificates = || {
        let checks = node
            .closed()
            .iter()
            .map(|closed| (closed.window.header.window, closed.check_certificates(&context.genesis)));
        let broken = checks.into_iter().find_map(|(window, check)| Some((window, check.err()?)));
        broken.map(|(window, error)| JournalFault::Wrong(format!("window {window}: {error}")))
    };
    let fault = refused.or_else(certificates);
    Ok(Refolded { node, fault })
}

/// Hands one entry to the node; an error unless the node accepts it at once.
fn accept(node: &mut Node, record: &[u8]) -> Result<(), String> {
    let entry = Entry::decode(record).map_err(|error| error.to_string())?;
    let id: Hash = entry.id();
    let outputs = node.step(Input::Entry(entry)).map_err(|error| error.to_string())?;
    let accepted = outputs.iter().any(|output| matches!(output, Output::Accepted { entry, .. } if entry.id() == id));
    if accepted { Ok(()) } else { Err("it does not follow from those before it".to_owned()) }
}
