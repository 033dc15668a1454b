//! One validator's score: the results of the replays and measurements that were drawn for it.
//!
//! The results need deltas and a model. Everything else about a score is checked here by every node that receives
//! it. The findings of all scores of a window are in `findings.rs`.

use templar_manifest::{Evaluation, MAX_CHALLENGES, PublicKey, Refusal, Replay, Score, ScoreEntry};

use super::RunState;
use super::evaluation_task::is_unread;
use super::evidence::EvidenceError;
use super::judging::{Judgement, Judging};
use super::late::VerdictError;
use super::late::check_proof;
use super::spot_checks::ContestError;

/// The reasons for which a score does not follow from its parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// The score belongs to another run, window, cut or seed.
    #[error("score is of another {0}")]
    Foreign(&'static str),
    /// The score is of a key that is no validator of the run.
    #[error("score by {0}, who is not a validator")]
    NotAValidator(String),
    /// The entries are not about exactly the contributions of the cut.
    #[error("score does not judge the contributions of the cut")]
    Entries,
    /// An entry contradicts the draws of replays and measurements, or gives a reason that no score may give.
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
    /// The score contests a measurement that it may not contest.
    #[error("score contests the measurement of {miner}: {reason}")]
    Contest {
        /// The miner, in short.
        miner: String,
        /// The reason for which it may not.
        reason: ContestError,
    },
}

impl RunState {
    /// The score that a validator signs for its findings.
    ///
    /// # Errors
    /// [`ScoreError`], if the findings break a rule.
    pub fn score(&self, judging: &Judging, validator: &PublicKey, found: Judgement) -> Result<Score, ScoreError> {
        let Judgement { entries, verdicts, evidence, contests } = found;
        let score = Score {
            run: self.run,
            window: self.window,
            validator: *validator,
            cut: judging.cut_id(),
            seed: judging.seed(),
            entries,
            verdicts,
            evidence,
            contests,
        };
        self.check_score(judging, &score)?;
        Ok(score)
    }

    /// Checks everything in a score that needs no delta: that it belongs to this window, that it judges the
    /// contributions of the cut, and that the replays and measurements that were drawn are there and no others.
    ///
    /// # Errors
    /// [`ScoreError`]
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
        // Validators outside the agreed values score as well, or the others could be too few (`window/todo.rs`).
        if self.genesis.validator(&score.validator).is_none() {
            return Err(ScoreError::NotAValidator(score.validator.short()));
        }
        let judged = score.entries.iter().map(|entry| (entry.miner, entry.contribution));
        if !judged.eq(judging.cut().contributions.iter().map(|entry| (entry.miner, entry.contribution))) {
            return Err(ScoreError::Entries);
        }
        for entry in &score.entries {
            let checked = self.check_entry(judging, &score.validator, entry);
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
        for contest in &score.contests {
            let checked = self.check_contest(judging, &score.validator, contest);
            checked.map_err(|reason| ScoreError::Contest { miner: contest.miner.short(), reason })?;
        }
        Ok(())
    }

    /// Checks an entry of this validator's score.
    fn check_entry(&self, judging: &Judging, validator: &PublicKey, entry: &ScoreEntry) -> Result<(), &'static str> {
        check_replay(entry, self.genesis.replay.before_close && judging.is_drawn(&entry.miner, validator))?;
        if let Some(proof) = &entry.proof {
            let drawn = judging.replayers().get(&entry.miner).map_or(&[][..], Vec::as_slice);
            check_proof(&proof.claim, &proof.witnesses, drawn, validator)?;
        }
        let drawn = judging.evaluators_of(&entry.miner);
        check_evaluation(entry, drawn.binary_search(validator).is_ok())?;
        match entry.evaluation.measurement() {
            Some(measured) => check_proof(&measured.claim, &measured.witnesses, drawn, validator),
            None => Ok(()),
        }
    }
}

/// Checks the replay of an entry, given whether it was drawn for this validator.
fn check_replay(entry: &ScoreEntry, drawn: bool) -> Result<(), &'static str> {
    if (entry.replay == Replay::Match) != entry.proof.is_some() {
        return Err("a match without a proof, or a proof without a match");
    }
    match &entry.replay {
        Replay::NotDrawn if drawn => Err("a replay that was drawn is missing"),
        Replay::Match | Replay::Refused(Refusal::Mismatch { .. }) if !drawn => Err("a replay that was not drawn"),
        Replay::Refused(Refusal::NotReplayed) => Err("not-replayed is for the record to say"),
        Replay::NotDrawn | Replay::Match | Replay::Refused(_) => Ok(()),
    }
}

/// Checks the evaluation of an entry, given whether it was drawn for this validator.
fn check_evaluation(entry: &ScoreEntry, drawn: bool) -> Result<(), &'static str> {
    if is_unread(entry) && entry.body.is_some() {
        return Err("the body of a delta that could not be read");
    }
    match &entry.evaluation {
        Evaluation::NotDrawn if drawn => Err("a measurement that was drawn is missing"),
        Evaluation::Untried | Evaluation::Measured(_) if !drawn => Err("a measurement that was not drawn"),
        Evaluation::Measured(_) if entry.body.is_none() => Err("losses of a delta that does not decode"),
        Evaluation::NotDrawn | Evaluation::Untried | Evaluation::Measured(_) => Ok(()),
    }
}
