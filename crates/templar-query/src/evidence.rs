//! Evidence that records carry: proofs that a signer contradicted itself, and the amounts that were slashed for them.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_manifest::{
    Contradiction, Contribution, Hash, PublicKey, RecordId, RunId, SlashCause, WindowIndex, payload,
};
use templar_protocol::ClosedWindow;

use crate::error::QueryError;
use crate::find;
use crate::index::HomeIndex;
use crate::reference::{NameError, Reference, parse_window};

/// The evidence that a list is restricted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceFilter {
    /// All evidence of the run.
    All,
    /// Evidence about statements of one window.
    Window(WindowIndex),
    /// Evidence that one record carries.
    Record(Hash),
}

impl EvidenceFilter {
    /// Reads a filter: `wN` or `N` for a window, or the hash of a record or a prefix of it; `None` for all evidence.
    ///
    /// # Errors
    /// The text names neither a window nor an object.
    pub fn parse(access: &Access, context: &RunContext, text: Option<&str>) -> Result<Self, QueryError> {
        let Some(text) = text else { return Ok(Self::All) };
        if let Ok(window) = parse_window(text) {
            return Ok(Self::Window(window));
        }
        let reference: Reference = text.parse().map_err(NameError::from)?;
        match find::object(&HomeIndex::build(access, Some(context.run))?, &reference)? {
            Some(id) => Ok(Self::Record(id)),
            None => Err(NameError::NoWindow(text.to_owned()).into()),
        }
    }

    fn takes(&self, found: &RecordedEvidence) -> bool {
        match *self {
            Self::All => true,
            Self::Window(window) => found.window == window,
            Self::Record(id) => found.record.hash() == id,
        }
    }
}

/// The evidence that the records of a run carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvidenceList {
    /// The run whose records were read.
    pub run: RunId,
    /// The evidence, in the order of the records.
    pub evidence: Vec<RecordedEvidence>,
}

/// Evidence about one signer in one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedEvidence {
    /// The window of the two statements.
    pub window: WindowIndex,
    /// The key that signed both.
    pub signer: PublicKey,
    /// The kind of the statements, such as `contribution` or `vote`.
    pub kind: &'static str,
    /// The window whose record carries the evidence.
    pub recorded: WindowIndex,
    /// The record that carries the evidence.
    pub record: RecordId,
    /// The account that is slashed: of a contribution the miner's, otherwise the signer's.
    pub account: PublicKey,
    /// The amount that was slashed, in micro-ALPHA.
    pub burnt_micros: u64,
    /// The id of the first statement.
    pub first: Hash,
    /// The id of the second statement.
    pub second: Hash,
    /// The validators whose scores show the evidence.
    pub shown_by: Vec<PublicKey>,
}

impl EvidenceList {
    /// Reads the evidence of a run from its journal.
    ///
    /// # Errors
    /// The journal does not fold.
    pub fn read(access: &Access, context: &RunContext, filter: EvidenceFilter) -> Result<Self, QueryError> {
        let node = access.fold(context)?;
        let all = node.closed().iter().flat_map(recorded);
        Ok(Self { run: context.run, evidence: all.filter(|found| filter.takes(found)).collect() })
    }
}

/// The kind of the statements of a contradiction, such as `vote`.
pub fn statement_kind(found: &Contradiction) -> &'static str {
    payload::peek(&found.first.payload).map_or("statement", |(kind, _)| kind.name())
}

/// The evidence that a record carries, sorted by signer and window. Several scores may show the same.
fn recorded(closed: &ClosedWindow) -> Vec<RecordedEvidence> {
    let mut all = BTreeMap::<(PublicKey, WindowIndex), RecordedEvidence>::new();
    for score in closed.scores.iter().map(|signed| signed.payload()) {
        for found in &score.evidence {
            let entry = all.entry((found.signer, found.window)).or_insert_with(|| {
                let account = found.first.open::<Contribution>().map_or(found.signer, |signed| signed.payload().miner);
                let slashed = closed.window.body.slashes.iter().find(|slash| {
                    (slash.account, slash.window, slash.cause) == (account, found.window, SlashCause::Contradiction)
                });
                RecordedEvidence {
                    window: found.window,
                    signer: found.signer,
                    kind: statement_kind(found),
                    recorded: closed.window.header.window,
                    record: closed.record,
                    account,
                    burnt_micros: slashed.map_or(0, |slash| slash.amount_micros),
                    first: found.first.id(),
                    second: found.second.id(),
                    shown_by: Vec::new(),
                }
            });
            entry.shown_by.push(score.validator);
        }
    }
    all.into_values().collect()
}
