//! A validator's vote on the cut, the reveal set or the record of a window.

use serde::{Deserialize, Serialize};

use crate::id::{Hash, RunId, WindowIndex};
use crate::payload::{Kind, Payload};

/// One vote in one attempt to agree on a cut, reveal set or record. The payload does not name the voter, so that all
/// validators who vote alike sign the same bytes; their signatures together are the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window whose cut, reveal set or record is voted on.
    pub window: WindowIndex,
    /// The decision that the vote is on.
    pub on: VoteOn,
    /// The number of the attempt, from 0. A new attempt begins when one ends without agreement.
    pub attempt: u32,
    /// Which of the two steps of the attempt.
    pub step: VoteStep,
    /// The id of the cut, reveal set or record that the voter supports; null for none in this attempt.
    pub value: Option<Hash>,
}

/// The three things that validators decide together in a window, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoteOn {
    /// The cut: which contributions and registrations count.
    Cut,
    /// The reveal set: which hash-chain values the seed is made of.
    Reveals,
    /// The record that closes the window.
    Window,
}

/// The two steps of an attempt, as in Tendermint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoteStep {
    /// The voter finds this cut, reveal set or record right.
    Prevote,
    /// The voter has seen prevotes for this value by more than two thirds of the stake.
    Precommit,
}

impl Payload for Vote {
    const KIND: Kind = Kind::Vote;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
