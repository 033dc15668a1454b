//! The record that an audit ends with: what makes it final, and whether it is the one that is expected.

use serde::Serialize;
use templar_manifest::{Genesis, PublicKey, RecordId, WindowIndex};
use templar_protocol::ClosedWindow;

use crate::reference::Reference;

/// A record, and the signatures that make it final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditedHead {
    /// The window of the record.
    pub window: WindowIndex,
    /// The id of the record.
    pub record: RecordId,
    /// The validators that have signed it.
    pub signers: Vec<PublicKey>,
    /// The number of validators of the run.
    pub validators: usize,
    /// The stake of those that have signed it.
    pub stake: u64,
    /// The stake of all validators.
    pub total_stake: u64,
}

impl AuditedHead {
    /// The record of a closed window.
    pub fn of(genesis: &Genesis, closed: Option<&ClosedWindow>) -> Option<Self> {
        let closed = closed?;
        let signers: Vec<PublicKey> =
            closed.record_certificate.witnesses.iter().map(|witness| witness.signer).collect();
        let stake = signers.iter().filter_map(|key| genesis.validator(key)).map(|validator| validator.stake).sum();
        Some(Self {
            window: closed.window.header.window,
            record: closed.record,
            validators: genesis.validators.len(),
            stake,
            total_stake: genesis.total_stake(),
            signers,
        })
    }
}

/// Whether one of these windows has the expected record.
pub(super) fn is_among(expected: &Reference, closed: &[ClosedWindow]) -> bool {
    closed.iter().any(|closed| match expected {
        Reference::Whole(hash) => closed.record.hash() == *hash,
        Reference::Prefix(prefix) => closed.record.to_string().starts_with(prefix),
        Reference::Current | Reference::Window(_) => false,
    })
}

/// The record that is expected, as a person named it.
pub(super) fn name(expected: &Reference) -> String {
    match expected {
        Reference::Whole(hash) => hash.to_string(),
        Reference::Prefix(prefix) => format!("{prefix}…"),
        Reference::Current => "@".to_owned(),
        Reference::Window(window) => format!("w{window}"),
    }
}
