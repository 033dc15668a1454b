//! Commit before reveal: a miner's contribution, a validator's inbox, and the cut.

use serde::{Deserialize, Serialize};

use super::registration::CutRegistration;
use super::rules::{ascending, positive};
use crate::id::{BlobId, ContributionId, InboxId, RunId, StateId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// A miner's commitment to one delta, signed by the miner and published before the delta is served to anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// Who trained.
    pub miner: PublicKey,
    /// The miner's last recorded contribution; null starts from zero state.
    pub parent: Option<ContributionId>,
    /// The state before: the parent's `state_out`, or the zero state.
    pub state_in: StateId,
    /// The state after.
    pub state_out: StateId,
    /// The compressed pseudo-gradient.
    pub delta: BlobId,
    /// Its length.
    pub delta_bytes: u64,
    /// The leaves of the trace.
    pub trace: BlobId,
    /// Its length.
    pub trace_bytes: u64,
    /// Inner steps taken, at most H.
    pub steps: u32,
    /// Tokens predicted in them.
    pub tokens: u64,
    /// Mean training loss of the last inner step, in 1e-9 nats; a claim that replay checks.
    pub loss_nanonats: u64,
}

/// What a validator had received when it stopped waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbox {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// Who received.
    pub validator: PublicKey,
    /// The contributions, sorted by miner, one of each.
    pub contributions: Vec<CutEntry>,
    /// The registrations, sorted by owner, one of each.
    pub registrations: Vec<CutRegistration>,
}

/// A miner and its contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutEntry {
    /// The miner.
    pub miner: PublicKey,
    /// Its contribution.
    pub contribution: ContributionId,
}

/// Which contributions and registrations of a window count: those in inboxes of more than a third of the stake, out of
/// inboxes of more than two thirds. Certified by validators' signatures; deltas are served only against a certified cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// The inboxes it was computed from, in the order of their validators' keys.
    pub inboxes: Vec<InboxId>,
    /// The contributions, sorted by miner.
    pub contributions: Vec<CutEntry>,
    /// The registrations that are decided with the window, sorted by owner.
    pub registrations: Vec<CutRegistration>,
}

impl Payload for Contribution {
    const KIND: Kind = Kind::Contribution;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        positive("delta_bytes", self.delta_bytes)?;
        positive("trace_bytes", self.trace_bytes)?;
        positive("steps", self.steps.into())?;
        positive("tokens", self.tokens)
    }
}

impl Payload for Inbox {
    const KIND: Kind = Kind::Inbox;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        ascending("contributions", &self.contributions, |entry| entry.miner)?;
        ascending("registrations", &self.registrations, |entry| entry.owner)
    }
}

impl Payload for Cut {
    const KIND: Kind = Kind::Cut;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        if self.inboxes.is_empty() || self.inboxes.len() > super::MAX_ENTRIES {
            return Err(format!("inboxes has {} entries", self.inboxes.len()));
        }
        ascending("contributions", &self.contributions, |entry| entry.miner)?;
        ascending("registrations", &self.registrations, |entry| entry.owner)
    }
}
