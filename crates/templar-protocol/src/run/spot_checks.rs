//! Spot checks: measurements that are made again after the record, by validators that nobody could foresee.
//!
//! A few validators measure each contribution (`evaluation.rs`), and while they agree, everybody believes them. If all
//! of them are in league, they can agree on a lie. So every validator measures some contributions again in the next
//! window. Which ones follows from its hash-chain value of that next window. The league has to publish its losses
//! before any such value is released, so it cannot tell that nobody looks.
//!
//! A validator whose spot check gives something else *contests* the measurement in its score. Then every validator
//! measures that contribution on the CPU (`window/contests.rs`):
//!
//! * If the contest is true, a record that counts the score must refute the contested scores. Each of their validators
//!   loses its unvested pay.
//! * If it is false, the score that contests is not counted, and the record refutes it.
//!
//! What the contribution was paid stays, and so does its place in the average of its miner: one window's part, clipped
//! (`gauntlet/worth.rs`). The miner may know nothing of the lie.
//!
//! # How likely a lie is found
//!
//! Let p be the probability of a spot check, and h the number of honest validators whose values the next window counts.
//! One false measurement is missed with probability (1 − p)^h. With p = 3 ÷ h it is missed once in twenty times. A
//! league that is alone on a contribution once in 3^k windows (`evaluation.rs`) so loses all unvested pay nearly every
//! time that it lies.
//!
//! Two things are not shown. A validator that skips its spot checks is not noticed, since it publishes nothing where it
//! finds the same. And a faulty proposer may leave out the score of the only validator that contests.

use std::collections::BTreeSet;
use std::sync::Arc;

use templar_manifest::{CheckpointId, Contest, Hash, PublicKey, RunId, Score, ScoreId, WindowIndex};

use super::RunState;
use super::draw::DrawStream;
use super::evaluation_task::{EvaluationTask, SpotCheck, Tried};
use super::judging::Judging;
use super::measurements::{Measurements, StatedMeasurement};

const SPOT_CHECK_CONTEXT: &str = "templar/1 spot check of a measurement";
const ONE_PPM: u64 = 1_000_000;

/// The reasons for which a contest in a score does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContestError {
    /// No counted score of the window before measured this contribution.
    #[error("nobody measured that contribution in the window before")]
    Unmeasured,
    /// The validator was not drawn to check it.
    #[error("that spot check was not drawn for its validator")]
    NotDrawn,
    /// It states the losses that the record states.
    #[error("it states what the record states")]
    Agrees,
}

/// Whether a validator checks the measurement of a miner's contribution. It follows from the seed of the contribution's
/// window and from the validator's hash-chain value of the next window.
fn is_checked(run: &RunId, seed: &Hash, miner: &PublicKey, value: &Hash, spot_checks_ppm: u32) -> bool {
    let run = run.hash();
    let parts = [run.as_bytes(), seed.as_bytes(), miner.as_bytes(), value.as_bytes()];
    let mut draw = DrawStream::new(SPOT_CHECK_CONTEXT, &parts.map(|part| &part[..]));
    draw.below(ONE_PPM) < u64::from(spot_checks_ppm)
}

impl RunState {
    /// Whether a spot check of the contribution of `miner` to the window before is drawn for a validator, and what the
    /// record says of it.
    fn spot_check_of(
        &self,
        judging: &Judging,
        validator: &PublicKey,
        miner: &PublicKey,
    ) -> Result<&StatedMeasurement, ContestError> {
        let measured = self.measurements.as_deref().ok_or(ContestError::Unmeasured)?;
        let said = measured.of.get(miner).ok_or(ContestError::Unmeasured)?;
        let value = judging.reveal(validator).ok_or(ContestError::NotDrawn)?;
        let ppm = self.genesis.gauntlet.spot_checks_ppm;
        let is_its_own = said.by.iter().any(|(by, _)| by == validator);
        if is_its_own || !is_checked(&self.run, &measured.seed, miner, value, ppm) {
            return Err(ContestError::NotDrawn);
        }
        Ok(said)
    }

    /// The spot checks that are drawn for a validator in the open window, in the order of the miners. It does not check
    /// what it has measured itself.
    pub(super) fn spot_checks(&self, judging: &Judging, validator: &PublicKey) -> Vec<SpotCheck> {
        let miners = self.measurements.iter().flat_map(|measured| measured.of.keys());
        let check = |miner: &PublicKey| {
            let said = self.spot_check_of(judging, validator, miner).ok()?;
            Some(SpotCheck { task: self.past_evaluation_task(miner)?, stated: said.stated.losses() })
        };
        miners.filter_map(check).collect()
    }

    /// The task of measuring a contribution of the window before again; `None` where nobody measured it.
    pub fn past_evaluation_task(&self, miner: &PublicKey) -> Option<EvaluationTask> {
        self.measurements.as_deref()?.task(miner)
    }

    /// The window whose measurements the scores of the open one may contest; `None` if there are none.
    pub fn contestable_window(&self) -> Option<WindowIndex> {
        self.measurements.as_ref().map(|measured| measured.window)
    }

    /// The checkpoint from which that window started; a node needs it for spot checks.
    pub fn contestable_checkpoint(&self) -> Option<CheckpointId> {
        self.measurements.as_ref().map(|measured| measured.checkpoint)
    }

    /// The result of trying a contribution of the window before that its record rests on; `None` where nobody measured
    /// it, or where no spot checks are made.
    pub fn past_measurement(&self, miner: &PublicKey) -> Option<&Tried> {
        self.stated_measurement(miner).map(|said| &said.stated)
    }

    /// What the counted scores of the window before say about a contribution.
    pub(crate) fn stated_measurement(&self, miner: &PublicKey) -> Option<&StatedMeasurement> {
        self.measurements.as_ref()?.of.get(miner)
    }

    /// Checks a contest in a validator's score of the open window, except for the measurement itself.
    ///
    /// # Errors
    /// [`ContestError`]
    pub fn check_contest(
        &self,
        judging: &Judging,
        validator: &PublicKey,
        contest: &Contest,
    ) -> Result<(), ContestError> {
        let said = self.spot_check_of(judging, validator, &contest.miner)?;
        if said.id != contest.contribution {
            return Err(ContestError::Unmeasured);
        }
        if contest.found == said.stated.losses() {
            return Err(ContestError::Agrees);
        }
        Ok(())
    }

    /// The validators that stated something false if the contests of these scores are true.
    pub(super) fn contested_validators(&self, scores: &[&Score]) -> BTreeSet<PublicKey> {
        let contests = scores.iter().flat_map(|score| &score.contests);
        let said = contests.filter_map(|contest| self.stated_measurement(&contest.miner));
        said.flat_map(|said| &said.by).map(|(validator, _)| *validator).collect()
    }

    /// Keeps the measurements of the window that closes, for the next one.
    pub(super) fn remember_measurements(&mut self, judging: &Judging, scores: &[(ScoreId, &Score)]) {
        let is_checked = self.genesis.gauntlet.spot_checks_ppm > 0;
        let measured = || Arc::new(Measurements::new(judging, self.checkpoint, scores));
        self.measurements = is_checked.then(measured).filter(|measured| !measured.of.is_empty());
    }
}
