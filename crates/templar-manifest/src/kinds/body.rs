//! The body of a record: everything that a window decided. It follows from the cut, the reveals and the scores,
//! so everybody computes the same one.

use serde::{Deserialize, Serialize};

use super::registration::Admission;
use super::rules::{MAX_ENTRIES, ascending};
use super::score::{Losses, Refusal, Weight, check_weights};
use crate::id::{BlobId, CheckpointId, ContributionId, CutId, Hash, RunId, ScoreId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// The body of a window's record. Validators certify it through its hash in the
/// [header](super::WindowHeader).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowBody {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that this closes.
    pub window: WindowIndex,
    /// The checkpoint that the window started from.
    pub checkpoint_before: CheckpointId,
    /// The certified cut of the window.
    pub cut: CutId,
    /// The validators' hash-chain values, sorted by validator.
    pub reveals: Vec<Reveal>,
    /// The seed that follows from the contributions and the reveals.
    pub seed: Hash,
    /// The scores that were counted, in the order of their validators' keys.
    pub scores: Vec<ScoreId>,
    /// The verdict on each contribution of the cut with its measured losses, sorted by miner.
    pub outcomes: Vec<Outcome>,
    /// The weights by which the miners' pay is shared, sorted by miner; those that are zero are left out.
    pub weights: Vec<Weight>,
    /// The pay that the window mints, sorted by account and kind.
    pub mints: Vec<Mint>,
    /// False statements of scores that are not counted, at most one of each validator, sorted by validator. Who
    /// signs the record has recomputed them.
    pub refuted: Vec<Refuted>,
    /// The unvested pay that the window slashes, sorted by account, cause and window. The field is called
    /// `burns` in manifests.
    #[serde(rename = "burns")]
    pub slashes: Vec<Slash>,
    /// The challenges that are open after the window, sorted by window, then miner.
    pub challenges: Vec<Challenge>,
    /// The verdict on each registration of the cut, sorted by owner.
    pub admissions: Vec<Admission>,
    /// The blob with the aggregated deltas, merged. The model after the window follows from it and the model before.
    pub aggregate: BlobId,
    /// The length of the aggregate in bytes.
    pub aggregate_bytes: u64,
    /// Mean loss of the model after the window on the held-out pages, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
}

/// A validator's hash-chain value of a window, see [`crate::chain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The validator whose value it is.
    pub validator: PublicKey,
    /// The value; it hashes to the value of the window before.
    pub value: Hash,
}

/// The verdict of a record on one contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The miner (its owner key).
    pub miner: PublicKey,
    /// The id of its contribution.
    pub contribution: ContributionId,
    /// Whether it was accepted and aggregated.
    pub verdict: Verdict,
    /// The losses that the drawn validators measured; null where none of them did.
    pub losses: Option<Losses>,
}

/// The verdict on a contribution. Every aggregated contribution is accepted, and every accepted one is in the cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Valid, and part of the outer step.
    Aggregated,
    /// Valid, and beyond the number of contributions that genesis aggregates.
    Reserve,
    /// Valid, and kept out by the miner's standing, or because its trial step cannot be taken.
    Excluded,
    /// Refused, with the reason.
    Refused(Refusal),
}

/// Pay that a window creates for one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mint {
    /// The account that receives it; 32 zero bytes for the treasury.
    pub account: PublicKey,
    /// The work that it pays for.
    pub kind: MintKind,
    /// The amount in micro-ALPHA.
    pub amount_micros: u64,
}

/// The work that an amount is minted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MintKind {
    /// A miner's accepted contribution.
    Miner,
    /// A validator's measurements that the record repeats.
    Evaluations,
    /// A validator's proven replays.
    Replays,
    /// The treasury's part of the emission.
    Treasury,
}

/// A statement of a score that is false: bytes show another result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuted {
    /// The validator that signed the score.
    pub validator: PublicKey,
    /// The id of the score. It is of the window that this record closes, or for a contested measurement of the window
    /// before.
    pub score: ScoreId,
    /// The window of the contribution: this one, or an earlier one for a late verdict or a contested measurement.
    pub window: WindowIndex,
    /// The miner who contributed.
    pub miner: PublicKey,
    /// The statement that is false.
    pub statement: Statement,
}

/// A kind of statement of a score about a contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statement {
    /// That it replays to its hash, with the proof of that replay, or that it does not.
    Replay,
    /// The losses of trying its delta, with their proof, or that the trial step cannot be taken.
    Evaluation,
    /// That others measured it wrongly in the window before.
    Contest,
}

impl Refuted {
    /// Whether the score is of the window before `open`, the window of the record that refutes it. Its measurement was
    /// contested later than the score was counted.
    pub fn is_of_past_score(&self, open: WindowIndex) -> bool {
        self.statement == Statement::Evaluation && self.window < open
    }
}

impl Statement {
    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Evaluation => "evaluation",
            Self::Contest => "contest",
        }
    }
}

/// Unvested pay slashed. Zero amounts are listed, too, since a slash also counts as a strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slash {
    /// The account that loses it.
    pub account: PublicKey,
    /// The offence that it is slashed for.
    pub cause: SlashCause,
    /// The window of the offence.
    pub window: WindowIndex,
    /// The amount in micro-ALPHA.
    pub amount_micros: u64,
}

/// An open challenge: a drawn validator could not replay a contribution of a closed window, because it could
/// not fetch the delta, the trace or the state before. Every validator searches for the bytes now. Unless the
/// miner serves them in time, it is slashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The closed window of the contribution.
    pub window: WindowIndex,
    /// The miner who contributed.
    pub miner: PublicKey,
    /// The id of the contribution.
    pub contribution: ContributionId,
    /// The window whose record was the first to list the challenge.
    pub since: WindowIndex,
}

/// The offence for which pay is slashed, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlashCause {
    /// A replay gave another result than the contribution. Costs all unvested pay, and the standing.
    Mismatch,
    /// A second mismatch too soon after the first. Costs the slot as well.
    Expulsion,
    /// A validator did not reveal its value. Costs a part of its unvested pay.
    Absence,
    /// The signer made two statements where one is allowed. Costs all unvested pay.
    Contradiction,
    /// Nobody answered a challenge of the miner. Costs as much as a mismatch.
    Unanswered,
    /// A validator signed a statement that bytes refute. Costs all unvested pay.
    Falsehood,
}

impl SlashCause {
    /// Whether the offence is a miner's: a replay has shown it, or the miner kept others from replaying. The
    /// same record does not pay such a miner.
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
            Self::Falsehood => "falsehood",
        }
    }
}

impl WindowBody {
    /// How many contributions the outer step aggregates.
    pub fn aggregated(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated).count()
    }
}

impl Payload for WindowBody {
    const KIND: Kind = Kind::Body;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
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
        ascending("refuted", &self.refuted, |refuted| refuted.validator)?;
        if let Some(refuted) = self.refuted.iter().find(|refuted| self.scores.contains(&refuted.score)) {
            return Err(format!("refuted: score {} is counted", refuted.score.short()));
        }
        if self.refuted.iter().any(|refuted| refuted.window > self.window) {
            return Err("refuted: a statement on a window that is not closed".to_owned());
        }
        ascending("burns", &self.slashes, |slash| (slash.account, slash.cause, slash.window))?;
        ascending("challenges", &self.challenges, |challenge| (challenge.window, challenge.miner))?;
        if self.challenges.iter().any(|challenge| challenge.window >= challenge.since || challenge.since > self.window)
        {
            return Err("challenges: one since a window that is not behind its own, or not closed".to_owned());
        }
        Ok(())
    }
}
