//! Commit before reveal: a miner's contribution, a validator's inbox, and the cut.

use serde::{Deserialize, Serialize};

use super::registration::CutRegistration;
use super::rules::{ascending, positive};
use crate::id::{BlobId, ContributionId, InboxId, RunId, StateId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// A miner's commitment to one delta. The miner's node key (hotkey) signs it and publishes it before the delta
/// is served to anyone, so that nobody can copy the delta first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window in which the miner trained.
    pub window: WindowIndex,
    /// The miner: the owner key (coldkey) of its slot.
    pub miner: PublicKey,
    /// The miner's last recorded contribution; null starts from zero state.
    pub parent: Option<ContributionId>,
    /// The miner's state before the window: the parent's `state_out`, or the zero state.
    pub state_in: StateId,
    /// The miner's state after the window.
    pub state_out: StateId,
    /// The blob with the compressed pseudo-gradient.
    pub delta: BlobId,
    /// The length of the delta in bytes.
    pub delta_bytes: u64,
    /// The blob with the leaves of the [trace](crate::trace).
    pub trace: BlobId,
    /// The length of the trace in bytes.
    pub trace_bytes: u64,
    /// Inner steps taken, at most H.
    pub steps: u32,
    /// Tokens predicted in those steps.
    pub tokens: u64,
    /// Mean training loss of the last inner step, in 1e-9 nats. Replay checks the claim.
    pub loss_nanonats: u64,
}

/// The contributions and registrations that one validator had received when it stopped waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbox {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that they are for.
    pub window: WindowIndex,
    /// The validator that received them.
    pub validator: PublicKey,
    /// The contributions, sorted by miner, one of each miner.
    pub contributions: Vec<CutEntry>,
    /// The registrations, sorted by owner, one of each owner.
    pub registrations: Vec<CutRegistration>,
}

/// The entry of one miner in an inbox or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutEntry {
    /// The miner (its owner key).
    pub miner: PublicKey,
    /// The id of its contribution.
    pub contribution: ContributionId,
}

/// The contributions and registrations of a window that count: those in the inboxes of validators with more
/// than a third of the stake, out of inboxes of more than two thirds. Validators certify it with votes, and
/// deltas are served only once it is certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that is cut.
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
