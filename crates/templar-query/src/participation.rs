//! The open window, as the entries of the journal tell it: which members have acted, and which are awaited.
//!
//! This view is for people. The protocol itself decides what happens next (`Node::todo`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use templar_manifest::{
    Contribution, ContributionId, Envelope, Inbox, Kind, PublicKey, Score, Vote, VoteOn, WindowIndex, payload,
};
use templar_protocol::{Entry, Node, RunState};

/// The stage of the open window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowStage {
    /// Miners train and commit to their deltas; the cut is not certified yet.
    Commit,
    /// The cut is certified; validators reveal the values that the window's seed is made of.
    Reveal,
    /// Validators score the contributions and vote on the record.
    Judge,
    /// The last window of the run is closed.
    Over,
}

impl WindowStage {
    /// The work of the stage, in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Commit => "miners train and commit to their updates",
            Self::Reveal => "validators draw the seed",
            Self::Judge => "validators check and measure the updates",
            Self::Over => "over",
        }
    }

    /// The name in texts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Reveal => "reveal",
            Self::Judge => "judge",
            Self::Over => "over",
        }
    }
}

/// An act that the open window waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AwaitedAct {
    /// The contribution of a miner: its commitment to a delta.
    Contribution,
    /// A validator's list of the contributions that it received.
    Inbox,
    /// A validator's vote on the cut.
    Cut,
    /// The next value of a validator's hash chain.
    Reveal,
    /// A validator's vote on the values that count.
    Reveals,
    /// The score of a validator, with its weights.
    Score,
    /// A validator's vote on the record.
    Record,
}

impl AwaitedAct {
    /// The name in texts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contribution => "contribution",
            Self::Inbox => "inbox",
            Self::Cut => "cut",
            Self::Reveal => "reveal",
            Self::Reveals => "reveals",
            Self::Score => "score",
            Self::Record => "record",
        }
    }
}

/// A member that the open window waits for, and the act that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Awaited {
    /// The miner's owner key, or the validator's key.
    pub key: PublicKey,
    /// The act that is missing.
    pub what: AwaitedAct,
}

/// The acts of the members in the open window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Participation {
    /// The window that is open.
    pub window: WindowIndex,
    /// The first contribution of each miner.
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
    /// Validators that have voted on the values that count.
    pub reveal_votes: BTreeSet<PublicKey>,
    /// Whether the values that count are agreed.
    pub is_agreed: bool,
    /// Validators that have scored.
    pub scores: BTreeSet<PublicKey>,
    /// Validators that have voted on the record.
    pub records: BTreeSet<PublicKey>,
}

impl Participation {
    /// Reads it from the journal's `records`, out of which `node` was folded.
    pub fn of(node: &Node, records: &[Vec<u8>]) -> Self {
        let window = node.state().window();
        let (is_cut, is_agreed, is_over) = (node.cut().is_some(), node.judging().is_some(), node.is_over());
        let mut found = Self { window, is_cut, is_agreed, is_over, ..Self::default() };
        for entry in records.iter().filter_map(|record| Entry::decode(record).ok()) {
            match entry {
                Entry::Reveal(reveal) if reveal.window == window => {
                    found.reveals.insert(reveal.validator);
                }
                Entry::Reveal(_) | Entry::Evidence(_) | Entry::Record(_) => {}
                Entry::Envelope(envelope) => found.note(&envelope),
            }
        }
        found
    }

    /// Notes the act of a signed entry, when it belongs to the open window.
    fn note(&mut self, envelope: &Envelope) {
        let (signer, bytes) = (envelope.signer, &envelope.payload);
        match payload::peek(bytes) {
            Ok((Kind::Contribution, _)) => {
                let Ok(found) = payload::decode::<Contribution>(bytes) else { return };
                if found.window == self.window {
                    self.contributions.entry(found.miner).or_insert(envelope.id().into());
                }
            }
            Ok((Kind::Inbox, _)) if payload::decode::<Inbox>(bytes).is_ok_and(|found| found.window == self.window) => {
                self.inboxes.insert(signer);
            }
            Ok((Kind::Score, _)) if payload::decode::<Score>(bytes).is_ok_and(|found| found.window == self.window) => {
                self.scores.insert(signer);
            }
            Ok((Kind::Vote, _)) => match payload::decode::<Vote>(bytes) {
                Ok(vote) if vote.window == self.window => {
                    let voters = match vote.on {
                        VoteOn::Cut => &mut self.cuts,
                        VoteOn::Reveals => &mut self.reveal_votes,
                        VoteOn::Window => &mut self.records,
                    };
                    voters.insert(signer);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// The stage that these acts make.
    pub fn stage(&self) -> WindowStage {
        if self.is_over {
            WindowStage::Over
        } else if !self.is_cut {
            WindowStage::Commit
        } else if !self.is_agreed {
            WindowStage::Reveal
        } else {
            WindowStage::Judge
        }
    }

    /// The members that the window waits for now.
    pub fn awaited(&self, state: &RunState) -> Vec<Awaited> {
        let genesis = state.genesis();
        let validators = || genesis.validators.iter().map(|validator| validator.key);
        let missing = |acted: &BTreeSet<PublicKey>, what| -> Vec<Awaited> {
            validators().filter(|key| !acted.contains(key)).map(|key| Awaited { key, what }).collect()
        };
        match self.stage() {
            WindowStage::Over => Vec::new(),
            WindowStage::Commit => {
                let (spec, window) = (&state.genesis().registration, state.window());
                let awaited = state.members().iter().filter(|member| !member.is_idle(spec, window));
                let owners = awaited.map(|member| member.owner);
                let miners = owners.filter(|key| !self.contributions.contains_key(key));
                let mut awaited: Vec<Awaited> =
                    miners.map(|key| Awaited { key, what: AwaitedAct::Contribution }).collect();
                if awaited.is_empty() || !self.inboxes.is_empty() {
                    awaited.extend(missing(&self.inboxes, AwaitedAct::Inbox));
                }
                if awaited.is_empty() {
                    awaited.extend(missing(&self.cuts, AwaitedAct::Cut));
                }
                awaited
            }
            WindowStage::Reveal => {
                let reveals = missing(&self.reveals, AwaitedAct::Reveal);
                if reveals.is_empty() { missing(&self.reveal_votes, AwaitedAct::Reveals) } else { reveals }
            }
            WindowStage::Judge => {
                let scores = missing(&self.scores, AwaitedAct::Score);
                if scores.is_empty() { missing(&self.records, AwaitedAct::Record) } else { scores }
            }
        }
    }
}
