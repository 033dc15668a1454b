//! One validator's judgement of a window.

use serde::{Deserialize, Serialize};

use super::rules::{MAX_ENTRIES, ascending, ascii};
use crate::envelope::Envelope;
use crate::id::{ContributionId, CutId, Hash, RunId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// The most contradictions that one score shows. Others wait for the next score.
pub const MAX_CONTRADICTIONS: usize = 4;
/// The most challenges that one score opens. The limit is low because every validator searches for each
/// challenged state.
pub const MAX_CHALLENGES: usize = 8;
/// The most measurements that one score contests. The limit is low because every validator measures each of them
/// again.
pub const MAX_CONTESTS: usize = 4;

/// One validator's judgement of a window: the results of the replays and measurements that were drawn for it.
/// All of them are facts about bytes, so everybody can recompute them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that is judged.
    pub window: WindowIndex,
    /// The validator that judges, and signs this.
    pub validator: PublicKey,
    /// The cut that was judged.
    pub cut: CutId,
    /// The window's seed, from which pages and replays were drawn.
    pub seed: Hash,
    /// One entry for each contribution of the cut, sorted by miner.
    pub entries: Vec<ScoreEntry>,
    /// Verdicts on contributions of closed windows, sorted by window, then miner. Empty in runs where verdicts
    /// come before the record.
    pub verdicts: Vec<LateVerdict>,
    /// Evidence against signers of two statements where one is allowed, sorted by signer, then window.
    pub evidence: Vec<Contradiction>,
    /// Measurements of the window before that this validator finds false, sorted by miner.
    pub contests: Vec<Contest>,
}

/// One validator's findings about one contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreEntry {
    /// The miner (its owner key).
    pub miner: PublicKey,
    /// The id of its contribution.
    pub contribution: ContributionId,
    /// Whether this validator replayed it, and the result.
    pub replay: Replay,
    /// The proof that this validator replayed it; null unless the result is a match.
    pub proof: Option<ReplayProof>,
    /// Whether this validator tried the delta on the pages of the window, and the result.
    pub evaluation: Evaluation,
    /// BLAKE3 of the delta without its header, so that a copy with another header is recognised. Null where it
    /// does not decode.
    pub body: Option<Hash>,
    /// The miner of this cut whose delta is most like this one; null where no other delta decodes.
    pub nearest: Option<PublicKey>,
    /// The fraction of the sent positions that the two deltas share, in ppm; 1,000,000 for equal bodies.
    pub overlap_ppm: u32,
}

/// A validator's result of trying a contribution's delta on the pages of the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evaluation {
    /// Other validators were drawn to measure it.
    NotDrawn,
    /// The delta is not here, does not decode, or gives a trial step that is not finite.
    Untried,
    /// The trial step was taken, and losses were measured before and after it.
    Measured(Measurement),
}

/// The losses that a validator measured, with the proof that it did. See [`crate::proof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The losses before and after the trial step.
    pub losses: Losses,
    /// The keyed hash of the final hidden states of all pages, by this validator's key.
    pub claim: Hash,
    /// The short form of the claim that each drawn validator must make, its own included, in the order of the
    /// validators' keys.
    pub witnesses: Vec<u64>,
}

/// Mean losses of a contribution's trial step, in 1e-9 nats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Mean loss on assigned pages before the trial step.
    pub assigned_before_nanonats: u64,
    /// Mean loss on assigned pages after the trial step.
    pub assigned_after_nanonats: u64,
    /// Mean loss on unassigned pages before the trial step.
    pub unassigned_before_nanonats: u64,
    /// Mean loss on unassigned pages after the trial step.
    pub unassigned_after_nanonats: u64,
}

impl Losses {
    /// The loss that was removed on unassigned pages, in 1e-9 nats; negative where the loss rose.
    pub fn gain_nanonats(&self) -> i128 {
        i128::from(self.unassigned_before_nanonats) - i128::from(self.unassigned_after_nanonats)
    }

    /// The loss that was removed on the miner's own pages, in 1e-9 nats; negative where the loss rose.
    pub fn own_gain_nanonats(&self) -> i128 {
        i128::from(self.assigned_before_nanonats) - i128::from(self.assigned_after_nanonats)
    }
}

impl Evaluation {
    /// The measurement, if there is one.
    pub fn measurement(&self) -> Option<&Measurement> {
        match self {
            Self::Measured(measurement) => Some(measurement),
            Self::NotDrawn | Self::Untried => None,
        }
    }

    /// The losses, if they were measured.
    pub fn losses(&self) -> Option<Losses> {
        self.measurement().map(|measurement| measurement.losses)
    }
}

/// One validator's verdict on a contribution of a closed window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateVerdict {
    /// The closed window of the contribution.
    pub window: WindowIndex,
    /// The miner who contributed.
    pub miner: PublicKey,
    /// The id of the contribution.
    pub contribution: ContributionId,
    /// The result: a match, a refusal that blobs show, or `withheld` where the bytes that a replay needs cannot
    /// be fetched. The last is a challenge, see [`Challenge`](super::Challenge).
    pub replay: Replay,
    /// The proof of the replay; null unless the result is a match.
    pub proof: Option<ReplayProof>,
}

impl LateVerdict {
    /// Whether the verdict is `withheld`: the bytes that a replay needs could not be fetched.
    pub fn is_challenge(&self) -> bool {
        self.replay == Replay::Refused(Refusal::Withheld)
    }
}

/// A validator's objection to a measurement of the window before. A spot check was drawn for it, and it measured
/// something else than the scores that the record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contest {
    /// The miner who contributed.
    pub miner: PublicKey,
    /// The id of the contribution.
    pub contribution: ContributionId,
    /// The losses that this validator measured; null where the trial step cannot be taken.
    pub found: Option<Losses>,
}

/// Proof that a signer contradicted itself: two statements with its signature, where the protocol allows one.
/// For example two contributions of one miner in one window. The signatures prove it, so nobody has to be
/// trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contradiction {
    /// The key that signed both statements.
    pub signer: PublicKey,
    /// The window of both statements.
    pub window: WindowIndex,
    /// The statement with the lower id.
    pub first: Envelope,
    /// The statement with the higher id.
    pub second: Envelope,
}

/// A validator's proof that it replayed a contribution: only a replay gives these numbers. See [`crate::proof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayProof {
    /// The keyed hash of the tensor's state at the step that is drawn for this validator.
    pub claim: Hash,
    /// The short form of the claim that each drawn validator must make, its own included, in the order of the
    /// validators' keys.
    pub witnesses: Vec<u64>,
}

/// A validator's result of replaying a contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replay {
    /// Another validator was drawn to replay it.
    NotDrawn,
    /// The replay gave the same delta, trace and state.
    Match,
    /// The replay gave something else, or could not be begun.
    Refused(Refusal),
}

/// The reason for which a contribution is refused. `Malformed`, `WrongClaim` and `Mismatch` can be recomputed
/// from blobs at any time; `Withheld` and `NotReplayed` say that something did not come in time, which no blob
/// can show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Refusal {
    /// The delta or trace, or the state that a replay begins with, was not served before the deadline.
    Withheld,
    /// The delta does not decode; the text says where.
    Malformed {
        /// The decoder's message, with the place of the error.
        error: String,
    },
    /// The contribution does not continue from the miner's recorded state, or claims steps or tokens it cannot have.
    WrongClaim {
        /// The first field that is wrong.
        field: String,
    },
    /// The replay's trace departs from the miner's.
    Mismatch {
        /// The first leaf that differs: 0 is the start, `k` the state after inner step `k`, `steps + 1` the delta.
        step: u32,
        /// The first tensor that differs in it.
        tensor: String,
    },
    /// No validator replayed it in time.
    NotReplayed,
}

/// The weight of one miner in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// The miner (its owner key).
    pub miner: PublicKey,
    /// Its part of the miners' pay in ppm; the parts add up to at most 1,000,000.
    pub weight_ppm: u32,
}

impl Refusal {
    /// Whether anybody who replays the contribution from its blobs finds the same refusal.
    pub fn is_in_blobs(&self) -> bool {
        match self {
            Self::Withheld | Self::NotReplayed => false,
            Self::Malformed { .. } | Self::WrongClaim { .. } | Self::Mismatch { .. } => true,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Withheld | Self::NotReplayed => Ok(()),
            Self::Malformed { error } => ascii("malformed.error", error, 512),
            Self::WrongClaim { field } => ascii("wrong-claim.field", field, 64),
            Self::Mismatch { tensor, .. } => ascii("mismatch.tensor", tensor, 256),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Withheld => f.write_str("withheld: the delta was not served in time"),
            Self::Malformed { error } => write!(f, "malformed delta: {error}"),
            Self::WrongClaim { field } => write!(f, "wrong claim: {field}"),
            Self::Mismatch { step, tensor } => write!(f, "replay differs from step {step}, first in {tensor}"),
            Self::NotReplayed => f.write_str("not replayed in time"),
        }
    }
}

/// A match has a proof and nothing else has one.
fn check_replay(replay: &Replay, proof: Option<&ReplayProof>) -> Result<(), String> {
    if let Replay::Refused(refusal) = replay {
        refusal.check()?;
    }
    if (*replay == Replay::Match) != proof.is_some() {
        return Err("proof is there exactly for a match".to_owned());
    }
    if proof.is_some_and(|proof| proof.witnesses.len() > MAX_ENTRIES) {
        return Err(format!("proof.witnesses has more than {MAX_ENTRIES} entries"));
    }
    Ok(())
}

pub(super) fn check_weights(field: &str, weights: &[Weight]) -> Result<(), String> {
    ascending(field, weights, |weight| weight.miner)?;
    if weights.iter().any(|weight| weight.weight_ppm == 0) {
        return Err(format!("{field} lists a weight of zero"));
    }
    if weights.iter().map(|weight| u64::from(weight.weight_ppm)).sum::<u64>() > 1_000_000 {
        return Err(format!("{field} adds up to more than 1000000"));
    }
    Ok(())
}

impl Score {
    /// Checks the nearest delta that an entry names: it must be another entry, whose own overlap is at least as
    /// large.
    fn check_nearest(&self, entry: &ScoreEntry) -> Result<(), String> {
        let Some(nearest) = entry.nearest else {
            return if entry.overlap_ppm == 0 { Ok(()) } else { Err("entries: an overlap with nobody".to_owned()) };
        };
        let other = self.entries.binary_search_by_key(&nearest, |other| other.miner).ok();
        let other = other.map(|index| &self.entries[index]).filter(|other| other.miner != entry.miner);
        let (Some(other), Some(body)) = (other, entry.body) else {
            return Err("entries: a nearest that is no other delta".to_owned());
        };
        if entry.overlap_ppm > 1_000_000 || other.overlap_ppm < entry.overlap_ppm || other.body.is_none() {
            return Err("entries: an overlap that the other entry contradicts".to_owned());
        }
        if other.body == Some(body) && entry.overlap_ppm != 1_000_000 {
            return Err("entries: equal bodies that do not overlap whole".to_owned());
        }
        Ok(())
    }
}

impl Payload for Score {
    const KIND: Kind = Kind::Score;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        ascending("entries", &self.entries, |entry| entry.miner)?;
        for entry in &self.entries {
            check_replay(&entry.replay, entry.proof.as_ref())?;
            if entry.evaluation.measurement().is_some_and(|measured| measured.witnesses.len() > MAX_ENTRIES) {
                return Err(format!("evaluation.witnesses has more than {MAX_ENTRIES} entries"));
            }
            self.check_nearest(entry)?;
        }
        ascending("verdicts", &self.verdicts, |verdict| (verdict.window, verdict.miner))?;
        for verdict in &self.verdicts {
            check_replay(&verdict.replay, verdict.proof.as_ref())?;
        }
        ascending("evidence", &self.evidence, |evidence| (evidence.signer, evidence.window))?;
        if self.evidence.len() > MAX_CONTRADICTIONS {
            return Err(format!("evidence has more than {MAX_CONTRADICTIONS} entries"));
        }
        ascending("contests", &self.contests, |contest| contest.miner)?;
        if self.contests.len() > MAX_CONTESTS {
            return Err(format!("contests has more than {MAX_CONTESTS} entries"));
        }
        Ok(())
    }
}
