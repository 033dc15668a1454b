//! The record that closes a window: pure computation from the cut, the reveals and the scores.

use serde::{Deserialize, Serialize};

use super::registration::Admission;
use super::rules::{MAX_ENTRIES, ascending};
use super::score::{Refusal, Weight, check_weights};
use crate::id::{BlobId, CheckpointId, ContributionId, CutId, Hash, RecordId, RunId, ScoreId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// The record of a window, certified by more than two thirds of the stake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRecord {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// The record of the window before; null for the first.
    pub previous: Option<RecordId>,
    /// The checkpoint that the window started from.
    pub checkpoint_before: CheckpointId,
    /// The certified cut.
    pub cut: CutId,
    /// The validators' hash-chain values, sorted by validator.
    pub reveals: Vec<Reveal>,
    /// The window's seed.
    pub seed: Hash,
    /// The scores that were counted, in the order of their validators' keys.
    pub scores: Vec<ScoreId>,
    /// What became of each contribution of the cut, sorted by miner.
    pub outcomes: Vec<Outcome>,
    /// The consensus weights, sorted by miner.
    pub weights: Vec<Weight>,
    /// What was minted, sorted by account and kind.
    pub mints: Vec<Mint>,
    /// What was slashed of pay that had not vested, sorted by account, cause and window.
    #[serde(rename = "burns")]
    pub slashes: Vec<Slash>,
    /// The challenges that are open after the window, sorted by window, then miner.
    pub challenges: Vec<Challenge>,
    /// What became of each registration of the cut, sorted by owner.
    pub admissions: Vec<Admission>,
    /// Root of the members of the next window.
    pub members_root: Hash,
    /// Root of the ledger after the window.
    pub ledger_root: Hash,
    /// Root of all validators' standings of all miners after the window.
    pub standings_root: Hash,
    /// The deltas that were aggregated, merged: with the model before, all that it takes to find the model after.
    pub aggregate: BlobId,
    /// Its length.
    pub aggregate_bytes: u64,
    /// The model after the window.
    pub checkpoint: CheckpointId,
    /// Mean loss of that model on the held-out pages, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
}

/// A validator's hash-chain value of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The validator.
    pub validator: PublicKey,
    /// The value; it hashes to the one before.
    pub value: Hash,
}

/// What became of a contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The miner.
    pub miner: PublicKey,
    /// Its contribution.
    pub contribution: ContributionId,
    /// Whether it was accepted.
    pub verdict: Verdict,
}

/// The verdict on a contribution: committed ⊇ accepted ⊇ aggregated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Valid, and part of the outer step.
    Aggregated,
    /// Valid, and beyond the number of contributions that genesis aggregates.
    Reserve,
    /// Valid, and kept out by the miner's standing with half of the stake or more.
    Excluded,
    /// Refused, with the reason.
    Refused(Refusal),
}

/// An amount that the window created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mint {
    /// Who receives it; for the treasury 32 zero bytes.
    pub account: PublicKey,
    /// What for.
    pub kind: MintKind,
    /// How much, in micro-ALPHA.
    pub amount_micros: u64,
}

/// What an amount was minted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MintKind {
    /// A verified contribution.
    Miner,
    /// Judging.
    Validator,
    /// Proven replays.
    Replays,
    /// The treasury's part.
    Treasury,
}

/// Pay that somebody has lost before it vested. One of 0 is listed, too: it is a strike against whoever had nothing to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slash {
    /// Who loses it.
    pub account: PublicKey,
    /// Why.
    pub cause: SlashCause,
    /// The window of what it did.
    pub window: WindowIndex,
    /// How much, in micro-ALPHA.
    pub amount_micros: u64,
}

/// A contribution of a closed window that could not be replayed, because its delta, its trace or the state before it was not
/// to be had. Everybody looks for it now, and its miner serves it; or it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The contribution's window.
    pub window: WindowIndex,
    /// Its miner.
    pub miner: PublicKey,
    /// The contribution.
    pub contribution: ContributionId,
    /// The window whose record was the first to list it.
    pub since: WindowIndex,
}

/// What pay is slashed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlashCause {
    /// A replay departs from its contribution: all that has not vested, and the standing.
    Mismatch,
    /// The same again too soon: the slot as well.
    Expulsion,
    /// A validator without a reveal: a part.
    Absence,
    /// Two statements where one is allowed: all that has not vested.
    Contradiction,
    /// A challenge without an answer: as a mismatch.
    Unanswered,
}

impl SlashCause {
    /// Whether a replay has shown it, or was kept from it: then its account is a miner's, which is not paid by the same
    /// record.
    pub const fn is_of_a_replay(self) -> bool {
        matches!(self, Self::Mismatch | Self::Expulsion | Self::Unanswered)
    }

    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mismatch => "mismatch",
            Self::Expulsion => "expulsion",
            Self::Absence => "absence",
            Self::Contradiction => "contradiction",
            Self::Unanswered => "unanswered",
        }
    }
}

impl WindowRecord {
    /// How many contributions the outer step aggregates.
    pub fn aggregated(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated).count()
    }
}

impl Payload for WindowRecord {
    const KIND: Kind = Kind::Window;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        if self.previous.is_none() != (self.window.0 == 0) {
            return Err("previous is null exactly for window 0".to_owned());
        }
        ascending("reveals", &self.reveals, |reveal| reveal.validator)?;
        if self.scores.is_empty() || self.scores.len() > MAX_ENTRIES {
            return Err(format!("scores has {} entries", self.scores.len()));
        }
        ascending("outcomes", &self.outcomes, |outcome| outcome.miner)?;
        for outcome in &self.outcomes {
            if let Verdict::Refused(refusal) = &outcome.verdict {
                refusal.check()?;
            }
        }
        ascending("admissions", &self.admissions, |admission| admission.owner)?;
        check_weights("weights", &self.weights)?;
        ascending("mints", &self.mints, |mint| (mint.account, mint.kind))?;
        ascending("burns", &self.slashes, |slash| (slash.account, slash.cause, slash.window))?;
        ascending("challenges", &self.challenges, |challenge| (challenge.window, challenge.miner))?;
        if self.challenges.iter().any(|challenge| challenge.window >= challenge.since || challenge.since > self.window)
        {
            return Err("challenges: one since a window that is not behind its own, or not closed".to_owned());
        }
        Ok(())
    }
}
