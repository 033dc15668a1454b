//! The open window as its entries tell it: who has said what, and who is awaited.
//!
//! Derived from the journal and the state alone, for people; the protocol decides what follows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use templar_manifest::{ContributionId, Genesis, Kind, PublicKey, VoteOn, WindowIndex, payload};
use templar_protocol::{Entry, Node, RunState};

/// What has been said in the open window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The window.
    pub window: WindowIndex,
    /// Contributions, by miner.
    pub contributions: BTreeMap<PublicKey, ContributionId>,
    /// Whether the cut is certified.
    pub is_cut: bool,
    /// Whether the last window is closed.
    pub is_over: bool,
    /// Validators that have signed an inbox.
    pub inboxes: BTreeSet<PublicKey>,
    /// Validators that have voted on the cut.
    pub cuts: BTreeSet<PublicKey>,
    /// Validators that have revealed.
    pub reveals: BTreeSet<PublicKey>,
    /// Validators that have scored.
    pub scores: BTreeSet<PublicKey>,
    /// Validators that have voted on the record.
    pub records: BTreeSet<PublicKey>,
}

/// Who is awaited, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// Who.
    pub key: PublicKey,
    /// `contribution`, `inbox`, `cut`, `reveal`, `score` or `record`.
    pub what: &'static str,
}

impl Progress {
    /// From the records of the journal that `node` was folded from.
    pub(crate) fn of(node: &Node, records: &[Vec<u8>]) -> Self {
        let window = node.state().window();
        let mut progress = Self { window, is_cut: node.cut().is_some(), is_over: node.is_over(), ..Self::default() };
        for entry in records.iter().filter_map(|record| Entry::decode(record).ok()) {
            match entry {
                Entry::Reveal(reveal) if reveal.window == window => {
                    progress.reveals.insert(reveal.validator);
                }
                Entry::Reveal(_) | Entry::Evidence(_) => {}
                Entry::Envelope(envelope) => progress.hear(&envelope),
            }
        }
        progress
    }

    fn hear(&mut self, envelope: &templar_manifest::Envelope) {
        let Ok((kind, _)) = payload::peek(&envelope.payload) else { return };
        let Ok(body) = crate::view::body(kind, &envelope.payload) else { return };
        if body["window"] != json!(self.window) {
            return;
        }
        let signer = envelope.signer;
        match kind {
            Kind::Contribution => {
                let miner = serde_json::from_value(body["miner"].clone()).unwrap_or(signer);
                self.contributions.entry(miner).or_insert(envelope.id().into());
            }
            Kind::Inbox => drop(self.inboxes.insert(signer)),
            Kind::Score => drop(self.scores.insert(signer)),
            Kind::Vote if body["on"] == json!(VoteOn::Cut) => drop(self.cuts.insert(signer)),
            Kind::Vote => drop(self.records.insert(signer)),
            _ => {}
        }
    }

    /// `commit`, `reveal`, `judge` or `over`.
    pub(crate) fn phase(&self, genesis: &Genesis) -> &'static str {
        if self.is_over {
            "over"
        } else if !self.is_cut {
            "commit"
        } else if self.reveals.len() < genesis.validators.len() {
            "reveal"
        } else {
            "judge"
        }
    }

    /// Who is awaited now.
    pub(crate) fn awaited(&self, state: &RunState) -> Vec<Awaited> {
        let genesis = state.genesis();
        let validators = || genesis.validators.iter().map(|validator| validator.key);
        let missing = |said: &BTreeSet<PublicKey>, what| -> Vec<Awaited> {
            validators().filter(|key| !said.contains(key)).map(|key| Awaited { key, what }).collect()
        };
        match self.phase(genesis) {
            "over" => Vec::new(),
            "commit" => {
                let owners = state.members().iter().map(|member| member.owner);
                let miners = owners.filter(|key| !self.contributions.contains_key(key));
                let mut awaited: Vec<Awaited> = miners.map(|key| Awaited { key, what: "contribution" }).collect();
                if awaited.is_empty() || !self.inboxes.is_empty() {
                    awaited.extend(missing(&self.inboxes, "inbox"));
                }
                if awaited.is_empty() {
                    awaited.extend(missing(&self.cuts, "cut"));
                }
                awaited
            }
            "reveal" => missing(&self.reveals, "reveal"),
            _ => {
                let scores = missing(&self.scores, "score");
                if scores.is_empty() { missing(&self.records, "record") } else { scores }
            }
        }
    }
}

/// Awaited keys as one line for people.
pub(crate) fn awaited_line(awaited: &[Awaited]) -> String {
    let parts: Vec<String> = awaited.iter().map(|one| format!("{} of {}", one.what, one.key.short())).collect();
    parts.join(", ")
}

/// Awaited keys for programs.
pub(crate) fn awaited_json(awaited: &[Awaited]) -> Value {
    awaited.iter().map(|one| json!({"key": one.key, "what": one.what})).collect()
}
