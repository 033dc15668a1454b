//! One validator's score: from its measurements to the conduct of every miner, and from that to standings and a
//! row of weights.
//!
//! The measurements need deltas and a model. Everything else in a score is recomputed here by every node that
//! receives it. How conduct changes a standing is in [`crate::gauntlet`].

use std::collections::BTreeMap;

use templar_manifest::{
    MAX_CHALLENGES, Outcome, PublicKey, Refusal, Replay, Score, ScoreEntry, Slash, Verdict, Weight,
};

use super::RunState;
use super::closing::Counted;
use super::evidence::EvidenceError;
use super::judging::{Judgement, Judging};
use super::late::VerdictError;
use super::late::check_proof;
use crate::gauntlet::{self, Assessment, Conducts, Copied, MinerConduct, Standings, assess};
use crate::ledger::consensus::ONE_PPM;

/// The reasons for which a score does not follow from its parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// The score belongs to another run, window, cut or seed.
    #[error("score is of another {0}")]
    Foreign(&'static str),
    /// The validator did not reveal a value, so its draws cannot be recomputed.
    #[error("score by {0}, who is not a validator that revealed")]
    NoReveal(String),
    /// The entries are not about exactly the contributions of the cut.
    #[error("score does not judge the contributions of the cut")]
    Entries,
    /// An entry contradicts the draw of replays, or gives a reason that no score may give.
    #[error("score says of {miner}: {rule}")]
    Entry {
        /// The miner, in short.
        miner: String,
        /// The rule that is broken, in words.
        rule: &'static str,
    },
    /// A verdict on a contribution of a closed window does not count.
    #[error("verdict in a score does not count: {0}")]
    Verdict(#[from] VerdictError),
    /// The score opens more challenges than one may.
    #[error("score opens {0} challenges, at most {MAX_CHALLENGES} are allowed")]
    Challenges(usize),
    /// The score shows evidence that proves nothing.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The row does not follow from standings and entries.
    #[error("score's row does not follow from its entries")]
    Row,
}

impl RunState {
    /// The assessment of a window: how it changes a validator's standings, with every step. Without `outcomes`
    /// it is the one of the validator's own score. With the `outcomes` of the record it is the final one, which
    /// also knows what others have replayed.
    pub fn assessment(
        &self,
        judging: &Judging,
        validator: &PublicKey,
        entries: &[ScoreEntry],
        outcomes: Option<&[Outcome]>,
    ) -> Assessment {
        let none = BTreeMap::new();
        let before = self.standings.get(validator).unwrap_or(&none);
        let conducts = self.conducts(judging, entries, outcomes.unwrap_or(&[]));
        assess(&self.genesis.gauntlet, self.window, before, &conducts)
    }

    /// The conduct of every member. A refusal by the record holds even if this validator measured the delta.
    /// `not-replayed` is an exception: it is no fault of the miner.
    fn conducts(&self, judging: &Judging, entries: &[ScoreEntry], outcomes: &[Outcome]) -> Conducts {
        let conduct = |miner: &PublicKey| {
            let Ok(index) = entries.binary_search_by_key(miner, |entry| entry.miner) else {
                return MinerConduct::Missing;
            };
            let entry = &entries[index];
            let outcome = outcomes.binary_search_by_key(miner, |outcome| outcome.miner);
            let recorded = outcome.ok().and_then(|index| match &outcomes[index].verdict {
                Verdict::Refused(refusal) if *refusal != Refusal::NotReplayed => Some(refusal),
                _ => None,
            });
            let own = match &entry.replay {
                Replay::Refused(refusal) => Some(refusal),
                Replay::NotDrawn | Replay::Match => None,
            };
            match recorded.or(own) {
                Some(Refusal::Withheld) => MinerConduct::Withheld,
                Some(Refusal::Malformed { .. } | Refusal::WrongClaim { .. }) => MinerConduct::Invalid,
                Some(Refusal::Mismatch { step, .. }) => {
                    MinerConduct::Departed { at_start: *step == 0, copied: self.copied(entry) }
                }
                Some(Refusal::NotReplayed) | None if !self.genesis.gauntlet.measures() && entry.body.is_some() => {
                    MinerConduct::Unmeasured
                }
                Some(Refusal::NotReplayed) | None if losses(entry) == [0; 4] => MinerConduct::Invalid,
                Some(Refusal::NotReplayed) | None => MinerConduct::Measured {
                    gain_nanonats: gain(entry.unassigned_before_nanonats, entry.unassigned_after_nanonats),
                    own_gain_nanonats: gain(entry.assigned_before_nanonats, entry.assigned_after_nanonats),
                },
            }
        };
        let restarted = |miner: &PublicKey| {
            let contribution = judging.contributions().get(miner);
            contribution.is_some_and(|claimed| claimed.parent.is_none()) && self.parent(miner).is_some()
        };
        let miners = self.members.iter().map(|member| &member.owner);
        miners.map(|miner| (*miner, (conduct(miner), restarted(miner)))).collect()
    }

    /// The delta that this one may be a copy of: an earlier one with the same body, or else its nearest delta
    /// of this window.
    ///
    /// Likeness alone is no offence, and it does not matter which of two like deltas came first. Every delta is
    /// replayed, and a replay that reproduces the delta acquits it, however like another it is. Only a delta
    /// whose replay departs pays for the likeness as well. For example, of a delta and two copies of it both
    /// copies lose and the original does not.
    fn copied(&self, entry: &ScoreEntry) -> Option<Copied> {
        let earlier = entry.body.and_then(|body| self.contributed.bodies.get(&body));
        let whole = ONE_PPM as u32;
        let earlier = earlier.map(|&(window, of)| Copied { overlap_ppm: whole, of, window });
        let nearest = entry.nearest.map(|of| Copied { overlap_ppm: entry.overlap_ppm, of, window: self.window });
        earlier.or(nearest)
    }

    /// All standings after a window with these counted scores and slashes.
    pub(super) fn settled(&self, judging: &Judging, counted: Counted<'_>, slashes: &[Slash]) -> Standings {
        let mut standings = self.standings.clone();
        for score in counted.scores {
            let found = self.assessment(judging, &score.validator, &score.entries, Some(counted.outcomes));
            standings.insert(score.validator, found.standings);
        }
        self.reset_slashed_standings(slashes, &mut standings);
        standings
    }

    /// The row of a validator: the weights that genesis' rule gives to the miners that it measured and that are
    /// not excluded.
    fn row(&self, judging: &Judging, validator: &PublicKey, entries: &[ScoreEntry]) -> Vec<Weight> {
        let found = self.assessment(judging, validator, entries, None);
        self.row_of(judging, found.scores)
    }

    /// The weights that genesis' rule gives to miners of the cut with these scores.
    pub(super) fn row_of(&self, judging: &Judging, scores: BTreeMap<PublicKey, u64>) -> Vec<Weight> {
        let steps = |miner: &PublicKey| judging.contributions().get(miner).map_or(0, |claimed| claimed.steps);
        gauntlet::row(&self.genesis.gauntlet.weights, scores, steps)
    }

    /// The score that a validator signs for its findings.
    ///
    /// # Errors
    /// [`ScoreError`], if the findings break a rule.
    pub fn score(&self, judging: &Judging, validator: &PublicKey, found: Judgement) -> Result<Score, ScoreError> {
        let Judgement { entries, verdicts, evidence } = found;
        let row = self.row(judging, validator, &entries);
        let score = Score {
            run: self.run,
            window: self.window,
            validator: *validator,
            cut: judging.cut_id(),
            seed: judging.seed(),
            entries,
            verdicts,
            evidence,
            row,
        };
        self.check_but_row(judging, &score)?;
        Ok(score)
    }

    /// Checks everything in a score that needs no delta: that it belongs to this window, that it judges the
    /// contributions of the cut, that the drawn replays are there, and that its row follows.
    ///
    /// # Errors
    /// [`ScoreError`]
    pub fn check_score(&self, judging: &Judging, score: &Score) -> Result<(), ScoreError> {
        self.check_but_row(judging, score)?;
        if self.row(judging, &score.validator, &score.entries) != score.row {
            return Err(ScoreError::Row);
        }
        Ok(())
    }

    fn check_but_row(&self, judging: &Judging, score: &Score) -> Result<(), ScoreError> {
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
            let drawn = self.genesis.replay.before_close && judging.is_drawn(&entry.miner, &score.validator);
            let mut checked = check_entry(entry, drawn);
            if losses(entry) != [0; 4] && !self.genesis.gauntlet.measures() {
                checked = Err("losses in a run that measures none");
            }
            if let (Ok(()), Some(proof)) = (checked, &entry.proof) {
                let drawn = judging.replayers().get(&entry.miner).map_or(&[][..], Vec::as_slice);
                checked = check_proof(proof, drawn, &score.validator);
            }
            checked.map_err(|rule| ScoreError::Entry { miner: entry.miner.short(), rule })?;
        }
        for verdict in &score.verdicts {
            self.check_verdict(&score.validator, verdict)?;
        }
        let opens = self.opens(score);
        if opens > MAX_CHALLENGES {
            return Err(ScoreError::Challenges(opens));
        }
        for evidence in &score.evidence {
            self.check_evidence(evidence)?;
        }
        Ok(())
    }
}

/// The loss that was removed, in nanonats; negative where the loss rose.
fn gain(before: u64, after: u64) -> i128 {
    i128::from(before) - i128::from(after)
}

fn losses(entry: &ScoreEntry) -> [u64; 4] {
    [
        entry.assigned_before_nanonats,
        entry.assigned_after_nanonats,
        entry.unassigned_before_nanonats,
        entry.unassigned_after_nanonats,
    ]
}

/// Checks an entry, given whether its replay was drawn for this validator.
fn check_entry(entry: &ScoreEntry, drawn: bool) -> Result<(), &'static str> {
    if (entry.replay == Replay::Match) != entry.proof.is_some() {
        return Err("a match without a proof, or a proof without a match");
    }
    let untried = losses(entry) == [0; 4] && entry.body.is_none();
    match &entry.replay {
        Replay::NotDrawn if drawn => Err("a replay that was drawn is missing"),
        Replay::Match | Replay::Refused(Refusal::Mismatch { .. }) if !drawn => Err("a replay that was not drawn"),
        Replay::Refused(Refusal::NotReplayed) => Err("not-replayed is for the record to say"),
        Replay::Refused(Refusal::Withheld | Refusal::Malformed { .. }) if !untried => {
            Err("losses of a delta that could not be tried")
        }
        Replay::NotDrawn | Replay::Match | Replay::Refused(_) if entry.body.is_none() && losses(entry) != [0; 4] => {
            Err("losses of a delta that does not decode")
        }
        Replay::NotDrawn | Replay::Match | Replay::Refused(_) => Ok(()),
    }
}
