//! A validator's vote: how a window's cut and record are agreed on, whoever proposes.

use serde::{Deserialize, Serialize};

use crate::id::{Hash, RunId, WindowIndex};
use crate::payload::{Kind, Payload};

/// One step of one attempt to agree. It does not say who votes: all who vote alike sign the same payload, and those
/// signatures together are the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// What is decided.
    pub on: VoteOn,
    /// Which attempt, from 0.
    pub attempt: u32,
    /// Which of its two steps.
    pub step: VoteStep,
    /// The id of the cut or record; null for none in this attempt.
    pub value: Option<Hash>,
}

/// What validators decide together in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoteOn {
    /// Which contributions count.
    Cut,
    /// The record that closes the window.
    Window,
}

/// The steps of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoteStep {
    /// What a validator finds right.
    Prevote,
    /// What more than two thirds of the stake have found right.
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
