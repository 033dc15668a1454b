//! A run's own files in a home: its journal, and what the home remembers beside it.
//!
//! Data that this home has lost says nothing about others. So damage here is `unavailable`, and its reason begins with
//! `damaged here`. Only data that is whole and breaks the rules is a `mismatch`.

use templar_blob::ReadError;
use templar_home::HomeError;
use templar_home::access::Access;
use templar_home::context::{RunContext, RunError};
use templar_home::journal::{Journal, JournalError};
use templar_home::memory::Memory;
use templar_manifest::{AuditVerdict, RunId};
use templar_protocol::Node;
use templar_train::tensors::LoadError;

use crate::error::{QueryError, error_line};
use crate::refold::{JournalFault, Refolded, refold};

pub(crate) fn mismatch(what: impl std::fmt::Display) -> AuditVerdict {
    AuditVerdict::Mismatch { what: what.to_string() }
}

/// The first words of every reason that is about this home alone.
pub(crate) const DAMAGED: &str = "damaged here: ";

pub(crate) fn damaged(what: impl std::fmt::Display) -> AuditVerdict {
    AuditVerdict::Unavailable { what: format!("{DAMAGED}{what}") }
}

/// The journal of a run, with every entry taken through the rules again.
#[derive(Debug)]
pub(crate) struct OwnJournal {
    /// The number of its whole entries.
    pub(crate) entries: usize,
    /// The protocol's node after the last entry that the rules accept; `None` if the journal is damaged.
    pub(crate) node: Option<Node>,
    /// The verdict on the journal.
    pub(crate) verdict: AuditVerdict,
}

impl OwnJournal {
    /// Reads the journal of the run of `context`.
    ///
    /// # Errors
    /// The first state of the run cannot be made. A damaged journal is a verdict, not an error.
    pub(crate) fn read(access: &Access, context: &RunContext) -> Result<Self, QueryError> {
        let found = match Journal::look(&access.home.run_dir(&context.run)) {
            Ok(found) => found,
            Err(error @ (JournalError::Damaged { .. } | JournalError::Home(HomeError::Io { .. }))) => {
                return Ok(Self { entries: 0, node: None, verdict: damaged(error_line(&error)) });
            }
            Err(error) => return Err(error.into()),
        };
        let Refolded { node, fault } = refold(context, &found.records)?;
        let verdict = match (fault, found.torn_bytes) {
            (Some(JournalFault::Wrong(what)), _) => mismatch(what),
            (Some(JournalFault::Twice(what)), _) => damaged(what),
            // A running node may be writing its next entry.
            (None, torn) if torn > 0 && !access.is_beside_a_node() => {
                damaged(format_args!("the last {torn} bytes of the journal are no whole entry"))
            }
            _ => AuditVerdict::Match,
        };
        Ok(Self { entries: found.records.len(), node: Some(node), verdict })
    }
}

/// Compares a journal with the last record that the home remembers, which tells a journal that has lost its end from
/// one that is whole. `None` if they agree.
pub(crate) fn forgotten(access: &Access, run: RunId, node: &Node) -> Option<AuditVerdict> {
    match Memory::read(&access.home.run_dir(&run)) {
        Ok(memory) => memory.head.and_then(|head| head.problem(node)).map(damaged),
        Err(error) => Some(damaged(error_line(&error))),
    }
}

/// The record for which the giver of a ticket vouched, if this journal does not lead to it.
pub(crate) fn not_reached(access: &Access, run: RunId, node: &Node) -> Option<AuditVerdict> {
    let vouched = Memory::read(&access.home.run_dir(&run)).ok()?.vouched?;
    let is_here = node.closed().iter().any(|closed| closed.record == vouched);
    let count = node.closed().len();
    (!is_here).then(|| AuditVerdict::Unavailable {
        what: format!(
            "the ticket of this run vouches for record {vouched}, which is not among the {count} of this journal"
        ),
    })
}

/// The verdict on a run that cannot be opened; `None` if the error is about neither its blobs nor its files.
pub(crate) fn unopened(error: &RunError) -> Option<AuditVerdict> {
    let source = match error {
        RunError::Read { source, .. } | RunError::Load(LoadError::Read { source, .. }) => source,
        RunError::Start { .. } => return Some(damaged(error_line(error))),
        RunError::Decode { .. } | RunError::Load(_) => return Some(mismatch(error_line(error))),
        _ => return None,
    };
    let is_wrong = matches!(source, ReadError::TooLarge { .. });
    Some(if is_wrong { mismatch(error_line(error)) } else { damaged(error_line(error)) })
}
