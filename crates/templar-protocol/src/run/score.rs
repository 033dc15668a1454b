//! One validator's judgement: from measurements to what every miner did, and from that to standings and a row
//! of weights.
//!
//! The measurements need deltas and a model; everything else in a score is recomputed here by whoever receives
//! it. What a conduct does to a standing is [`crate::gauntlet`]'s to say.

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
    /// A verdict on a contribution of a closed window does not count.
    #[error("verdict in a score does not count: {0}")]
    Verdict(#[from] VerdictError),
    /// It opens more challenges than one score may.
    #[error("score opens {0} challenges, at most {MAX_CHALLENGES} are allowed")]
    Challenges(usize),
    /// It shows evidence that is none.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The row does not follow from standings and entries.
    #[error("score's row does not follow from its entries")]
    Row,
}

impl RunState {
    /// What a window does to a validator's standings, with every step of it: as its score has it, or with the
    /// `outcomes` of the record as it ends, where others have replayed what this validator had not.
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

    /// What every member did. What the record refuses is refused, also where this validator had measured it; but
    /// that nobody replayed it in time is nothing that the miner did.
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

    /// The delta that this one is most like: one of an earlier window with the same body, which was there
    /// first, or else its nearest of this window.
    ///
    /// Likeness alone is no fault. Who of two alike copied is decided by what can be recomputed, never by which
    /// came first: every delta is replayed, and a replay that gives the delta back acquits it, however alike
    /// another is; those that do not replay pay for the likeness as well. So both of two copies of a third
    /// lose, and the third does not.
    fn copied(&self, entry: &ScoreEntry) -> Option<Copied> {
        let earlier = entry.body.and_then(|body| self.contributed.bodies.get(&body));
        let whole = ONE_PPM as u32;
        let earlier = earlier.map(|&(window, of)| Copied { overlap_ppm: whole, of, window });
        let nearest = entry.nearest.map(|of| Copied { overlap_ppm: entry.overlap_ppm, of, window: self.window });
        earlier.or(nearest)
    }

    /// All standings after a window with these counted scores, outcomes and slashes.
    pub(super) fn settled(&self, judging: &Judging, counted: Counted<'_>, slashes: &[Slash]) -> Standings {
        let mut standings = self.standings.clone();
        for score in counted.scores {
            let found = self.assessment(judging, &score.validator, &score.entries, Some(counted.outcomes));
            standings.insert(score.validator, found.standings);
        }
        self.reset_slashed_standings(slashes, &mut standings);
        standings
    }

    /// The row of a validator: the weights that the rule of genesis gives to the scores after the window of the
    /// miners that this validator measured and that are not excluded.
    fn row(&self, judging: &Judging, validator: &PublicKey, entries: &[ScoreEntry]) -> Vec<Weight> {
        let found = self.assessment(judging, validator, entries, None);
        self.row_of(judging, found.scores)
    }

    /// The weights that the rule of genesis gives to miners of the cut with these scores.
    pub(super) fn row_of(&self, judging: &Judging, scores: BTreeMap<PublicKey, u64>) -> Vec<Weight> {
        let steps = |miner: &PublicKey| judging.contributions().get(miner).map_or(0, |claimed| claimed.steps);
        gauntlet::row(&self.genesis.gauntlet.weights, scores, steps)
    }

    /// The score that a validator signs for its measurements.
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

    /// Checks everything in a score that needs no delta: that it is about this window, that it judges the cut,
    /// that it replayed what was drawn for it, and its row.
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

/// What was gained, in nanonats; negative where the loss rose.
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

/// What an entry may say, given whether its replay was drawn for this validator.
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
