//! A validator's score: the replay and the measured losses of each contribution of a window.

use serde::Serialize;
use templar_manifest::{
    ContributionId, Evaluation, Hash, Losses, PublicKey, Replay, Score, ScoreEntry, WindowIndex, payload,
};
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
    /// The result of trying the delta: `measured`, `not drawn`, or `untried`.
    pub evaluation: &'static str,
    /// The measured losses; `None` when this validator measured none.
    pub losses: Option<LossesView>,
    /// The miner of this window whose delta is most similar; `None` when no other delta decodes.
    pub nearest: Option<PublicKey>,
    /// The fraction of the sent positions that the two deltas share, in millionths.
    pub overlap_ppm: u32,
}

/// Mean losses before and after a trial step, in nats a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LossesView {
    /// On the miner's own pages before the trial step.
    pub assigned_before: f64,
    /// On the miner's own pages after the trial step.
    pub assigned_after: f64,
    /// On pages that no miner trained on, before the trial step.
    pub unassigned_before: f64,
    /// On pages that no miner trained on, after the trial step.
    pub unassigned_after: f64,
}

impl From<Losses> for LossesView {
    fn from(losses: Losses) -> Self {
        Self {
            assigned_before: nats(losses.assigned_before_nanonats),
            assigned_after: nats(losses.assigned_after_nanonats),
            unassigned_before: nats(losses.unassigned_before_nanonats),
            unassigned_after: nats(losses.unassigned_after_nanonats),
        }
    }
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
        }
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
            evaluation: match &entry.evaluation {
                Evaluation::NotDrawn => "not drawn",
                Evaluation::Untried => "untried",
                Evaluation::Measured(_) => "measured",
            },
            losses: entry.evaluation.losses().map(LossesView::from),
            nearest: entry.nearest,
            overlap_ppm: entry.overlap_ppm,
        }
    }
}
