//! A validator's score: the replay and the measured losses of each contribution of a window.

use serde::Serialize;
use templar_manifest::{ContributionId, Hash, PublicKey, Replay, Score, ScoreEntry, Weight, WindowIndex, payload};
use templar_train::nats;

/// A score as a person reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreView {
    /// The window that was scored.
    pub window: WindowIndex,
    /// The validator that signed the score.
    pub validator: PublicKey,
    /// The id of the score.
    pub score: Hash,
    /// The seed of the window, from which pages and replays were drawn.
    pub seed: Hash,
    /// One entry for each contribution of the cut, sorted by miner.
    pub entries: Vec<MeasuredContribution>,
    /// The weights that the validator gives to miners.
    pub row: Vec<Weight>,
}

/// The findings of a validator about one contribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredContribution {
    /// The miner that trained it.
    pub miner: PublicKey,
    /// The id of the contribution.
    pub contribution: ContributionId,
    /// The result of the replay in words: `match`, `not drawn`, or the reason of a refusal.
    pub replay: String,
    /// The mean loss on the miner's own pages before the trial step, in nats a token; 0 when it was not measured.
    pub assigned_before: f64,
    /// The mean loss on the miner's own pages after the trial step.
    pub assigned_after: f64,
    /// The mean loss on pages that no miner trained on, before the trial step.
    pub unassigned_before: f64,
    /// The mean loss on pages that no miner trained on, after the trial step.
    pub unassigned_after: f64,
    /// The miner of this window whose delta is most similar; `None` when no other delta decodes.
    pub nearest: Option<PublicKey>,
    /// The fraction of the sent positions that the two deltas share, in millionths.
    pub overlap_ppm: u32,
}

impl ScoreView {
    /// The view of a score.
    pub fn of(score: &Score) -> Self {
        Self {
            window: score.window,
            validator: score.validator,
            score: payload::id_of(score),
            seed: score.seed,
            entries: score.entries.iter().map(MeasuredContribution::from).collect(),
            row: score.row.clone(),
        }
    }

    /// The weight that the validator gives to a miner, in millionths.
    pub fn weight_ppm(&self, miner: &PublicKey) -> u32 {
        self.row.iter().find(|weight| weight.miner == *miner).map_or(0, |weight| weight.weight_ppm)
    }
}

impl From<&ScoreEntry> for MeasuredContribution {
    fn from(entry: &ScoreEntry) -> Self {
        let replay = match &entry.replay {
            Replay::NotDrawn => "not drawn".to_owned(),
            Replay::Match => "match".to_owned(),
            Replay::Refused(refusal) => refusal.to_string(),
        };
        Self {
            miner: entry.miner,
            contribution: entry.contribution,
            replay,
            assigned_before: nats(entry.assigned_before_nanonats),
            assigned_after: nats(entry.assigned_after_nanonats),
            unassigned_before: nats(entry.unassigned_before_nanonats),
            unassigned_after: nats(entry.unassigned_after_nanonats),
            nearest: entry.nearest,
            overlap_ppm: entry.overlap_ppm,
        }
    }
}
