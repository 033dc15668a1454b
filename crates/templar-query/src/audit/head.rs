//! The record that an audit ends with, the signatures that make it final, and whether it is the one that is expected.

use serde::Serialize;
use templar_home::memory::Head;
use templar_manifest::{Genesis, Hash, PublicKey, RecordId, WindowIndex};
use templar_protocol::{ClosedWindow, Entry, Input, Node};

use crate::reference::Reference;

/// The greatest number of records that peers are told, so that they send only what follows.
const MAX_REACHED: usize = 32;

/// The peers of a home, as an audit asks them for what they know beyond its journal.
pub trait AskPeers: std::fmt::Debug {
    /// The entries that each peer that answers has after the newest of the records `reached`, which begins with the
    /// newest. Nothing in them is trusted.
    fn entries_after(&self, reached: &[Hash]) -> Vec<Vec<Entry>>;
}

/// The answers of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeardOfPeers {
    /// The number of peers that answered.
    pub(super) answered: usize,
    /// The last record that they know, if the journal does not lead to it.
    pub(super) ahead: Option<Head>,
}

/// Asks peers for a later record than the last one of `node`. Every entry goes through the rules, and they close a
/// window only by a certificate of more than two thirds of the stake. So no peer can invent a record.
pub(super) fn ask(node: &Node, peers: &dyn AskPeers) -> HeardOfPeers {
    let reached: Vec<Hash> = node.closed().iter().rev().take(MAX_REACHED).map(|closed| closed.record.hash()).collect();
    let heard = peers.entries_after(&reached);
    let answered = heard.len();
    let heads = heard.into_iter().filter_map(|entries| {
        let mut followed = node.clone();
        for entry in entries {
            // An entry that the rules refuse proves nothing.
            let _ = followed.take(Input::Entry(entry));
        }
        Head::of(&followed)
    });
    let own = Head::of(node).map(|head| head.window);
    let ahead = heads.max_by_key(|head| head.window).filter(|head| Some(head.window) > own);
    HeardOfPeers { answered, ahead }
}

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
