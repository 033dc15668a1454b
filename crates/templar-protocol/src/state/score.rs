//! One validator's judgement: from measurements to a rating, and from ratings to a row of weights.
//!
//! The measurements need deltas and a model; everything else in a score is recomputed here by whoever receives it.

use std::collections::BTreeMap;

use templar_manifest::{PublicKey, Refusal, Replay, Score, ScoreEntry, Weight};

use super::{Judging, RunState};
use crate::consensus::ONE_PPM;

/// Why a score is not what its rules give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// A score of another run, window, cut or seed.
    #[error("score is of another {0}")]
    Foreign(&'static str),
    /// The validator has revealed nothing, so its draws cannot be recomputed.
    #[error("score by {0}, who is not a validator that revealed")]
    NoReveal(String),
    /// The entries are not those of the cut.
    #[error("score does not judge the contributions of the cut")]
    Entries,
    /// An entry says what the draw of replays does not allow, or gives a reason that a score cannot.
    #[error("score says of {miner}: {rule}")]
    Entry {
        /// The miner.
        miner: String,
        /// The broken rule.
        rule: &'static str,
    },
    /// The row does not follow from ratings and entries.
    #[error("score's row does not follow from its entries")]
    Row,
}

/// What a contribution gained: `max(0, before − after)` on unassigned pages, in nanonats; nothing where it was refused.
fn gain(entry: &ScoreEntry) -> u64 {
    match entry.replay {
        Replay::Refused(_) => 0,
        Replay::NotDrawn | Replay::Match => {
            entry.unassigned_before_nanonats.saturating_sub(entry.unassigned_after_nanonats)
        }
    }
}

impl RunState {
    /// The rating after a window in which the miner's gain was `gain_nanonats`:
    /// `⌊rating + (gain − rating) · decay⌋`.
    pub(super) fn moved_rating(&self, rating: u64, gain_nanonats: u64) -> u64 {
        let decay = u128::from(self.genesis.gauntlet.rating_decay_ppm);
        let one = u128::from(ONE_PPM);
        // A mean of two u64, so it fits.
        ((u128::from(rating) * (one - decay) + u128::from(gain_nanonats) * decay) / one) as u64
    }

    /// A validator's ratings of all registered miners after a window. Who has no contribution in it gained nothing.
    pub(super) fn moved_ratings(&self, validator: &PublicKey, entries: &[ScoreEntry]) -> BTreeMap<PublicKey, u64> {
        let gains: BTreeMap<PublicKey, u64> = entries.iter().map(|entry| (entry.miner, gain(entry))).collect();
        let miners = self.genesis.miners().iter();
        miners
            .map(|miner| {
                let gain = gains.get(miner).copied().unwrap_or(0);
                (*miner, self.moved_rating(self.rating(validator, miner), gain))
            })
            .collect()
    }

    /// The row of a validator: `⌊10^6 · rating' / Σ rating'⌋` with the ratings after the window, zeros left out.
    fn row(&self, validator: &PublicKey, entries: &[ScoreEntry]) -> Vec<Weight> {
        let ratings = self.moved_ratings(validator, entries);
        let sum: u128 = ratings.values().map(|&rating| u128::from(rating)).sum();
        let weight = |rating: u64| (u128::from(rating) * u128::from(ONE_PPM)).checked_div(sum).unwrap_or(0) as u32;
        ratings
            .into_iter()
            .map(|(miner, rating)| Weight { miner, weight_ppm: weight(rating) })
            .filter(|weight| weight.weight_ppm > 0)
            .collect()
    }

    /// The score that a validator signs for its measurements.
    pub fn score(
        &self,
        judging: &Judging,
        validator: &PublicKey,
        entries: Vec<ScoreEntry>,
    ) -> Result<Score, ScoreError> {
        let row = self.row(validator, &entries);
        let score = Score {
            run: self.run,
            window: self.window,
            validator: *validator,
            cut: judging.cut_id(),
            seed: judging.seed(),
            entries,
            row,
        };
        self.check_score(judging, &score)?;
        Ok(score)
    }

    /// Checks everything in a score that needs no delta: that it is about this window, that it judges the cut, that it
    /// replayed what was drawn for it, and its row.
    pub fn check_score(&self, judging: &Judging, score: &Score) -> Result<(), ScoreError> {
        for (what, equal) in [
            ("run", score.run == self.run),
            ("window", score.window == self.window),
            ("cut", score.cut == judging.cut_id()),
            ("seed", score.seed == judging.seed()),
        ] {
            if !equal {
                return Err(ScoreError::Foreign(what));
            }
        }
        if judging.reveal(&score.validator).is_none() {
            return Err(ScoreError::NoReveal(score.validator.short()));
        }
        let judged = score.entries.iter().map(|entry| (entry.miner, entry.contribution));
        if !judged.eq(judging.cut().contributions.iter().map(|entry| (entry.miner, entry.contribution))) {
            return Err(ScoreError::Entries);
        }
        for entry in &score.entries {
            let drawn = judging.replayers().get(&entry.miner) == Some(&score.validator);
            check_entry(entry, drawn).map_err(|rule| ScoreError::Entry { miner: entry.miner.short(), rule })?;
        }
        if self.row(&score.validator, &score.entries) != score.row {
            return Err(ScoreError::Row);
        }
        Ok(())
    }
}

/// What an entry may say, given whether its replay was drawn for this validator.
fn check_entry(entry: &ScoreEntry, drawn: bool) -> Result<(), &'static str> {
    let untried = [
        entry.assigned_before_nanonats,
        entry.assigned_after_nanonats,
        entry.unassigned_before_nanonats,
        entry.unassigned_after_nanonats,
    ] == [0; 4];
    match &entry.replay {
        Replay::NotDrawn if drawn => Err("a replay that was drawn is missing"),
        Replay::Match | Replay::Refused(Refusal::Mismatch { .. }) if !drawn => Err("a replay that was not drawn"),
        Replay::Refused(Refusal::NotReplayed) => Err("not-replayed is for the record to say"),
        Replay::Refused(Refusal::Withheld | Refusal::Malformed { .. }) if !untried => {
            Err("losses of a delta that could not be tried")
        }
        Replay::NotDrawn | Replay::Match | Replay::Refused(_) => Ok(()),
    }
}
