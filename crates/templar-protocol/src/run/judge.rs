//! From a certified cut and the reveals to the seed, and from the seed to the plan of each validator.
//!
//! The seed covers what the miners committed to and the values that validators could not choose. It covers
//! nothing that somebody could vary after the cut: no signature, clock, proposer or manifest id. The draws of
//! replays and of pages to evaluate follow from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use templar_manifest::{
    BlobId, Contribution, ContributionId, Cut, CutId, Hash, PublicKey, Registration, RegistrationId, Reveal, StateId,
    WindowIndex, payload,
};

use super::RunState;
use super::closing::Closings;
use super::evaluation;
use super::judging::{JudgePlan, Judging};
use super::registration::RegistrationError;
use super::replay;
use crate::stake;

const SEED_CONTEXT: &str = "templar/1 window seed";
const COMMITMENT_CONTEXT: &str = "templar/1 commitment of a cut";

/// The reasons for which a cut and reveals cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgingError {
    /// The cut is of another run or window.
    #[error("cut is of another run or window")]
    Foreign,
    /// A contribution of the cut is missing.
    #[error("contribution {0} of the cut is missing")]
    Missing(ContributionId),
    /// A registration of the cut is missing, or belongs to another owner.
    #[error("registration {0} of the cut is missing")]
    Unregistered(RegistrationId),
    /// A registration of the cut is not valid.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A contribution of the cut makes a claim that does not fit the miner's record.
    #[error("contribution {contribution} makes a wrong claim: {field}")]
    Claim {
        /// The id of the contribution.
        contribution: ContributionId,
        /// The field with the wrong claim.
        field: &'static str,
    },
    /// A contribution of the cut is another miner's.
    #[error("contribution {0} is not of the miner that the cut names")]
    Miner(ContributionId),
    /// A value is not that of the validator's chain for this window.
    #[error("value of validator {0} is not on its hash chain")]
    OffChain(String),
    /// Reveals are not sorted by validator, or one is there twice.
    #[error("reveals are not strictly ascending by validator")]
    Order,
    /// The validators that revealed have two thirds of the stake or less.
    #[error("values of {stake} of the stake of {total}, more than two thirds are needed")]
    NoQuorum {
        /// The stake of the validators that revealed.
        stake: u64,
        /// The stake of all validators.
        total: u64,
    },
}

impl RunState {
    /// Checks that the cut's contributions and registrations are here and valid and that the reveals are on
    /// their chains, and draws the seed. `contributions` and `registrations` may hold more than the cut names.
    ///
    /// # Errors
    /// [`JudgingError`]
    pub fn judging<'a>(
        &self,
        cut: &Cut,
        contributions: impl IntoIterator<Item = &'a Contribution>,
        registrations: impl IntoIterator<Item = &'a Registration>,
        reveals: Vec<Reveal>,
    ) -> Result<Judging, JudgingError> {
        if cut.run != self.run || cut.window != self.window {
            return Err(JudgingError::Foreign);
        }
        self.check_reveals(&reveals)?;
        // The cut names contributions by id, so the bodies are looked up by their own hash: another body cannot
        // slip in.
        let by_id: BTreeMap<ContributionId, &Contribution> =
            contributions.into_iter().map(|contribution| (payload::id_of(contribution).into(), contribution)).collect();
        let mut by_miner = BTreeMap::new();
        for entry in &cut.contributions {
            let id = entry.contribution;
            let contribution = *by_id.get(&id).ok_or(JudgingError::Missing(id))?;
            if contribution.miner != entry.miner {
                return Err(JudgingError::Miner(id));
            }
            self.check_claims(contribution).map_err(|field| JudgingError::Claim { contribution: id, field })?;
            by_miner.insert(entry.miner, contribution.clone());
        }
        let by_owner = self.registrations_of(cut, registrations)?;
        // The seed covers delta and state and not the id of a contribution, which the miner could vary without
        // new work.
        let committed: Vec<_> =
            by_miner.values().map(|claimed: &Contribution| (claimed.miner, claimed.delta, claimed.state_out)).collect();
        let seed = self.seed_of(&committed, &reveals);
        let miners: Vec<PublicKey> = by_miner.keys().copied().collect();
        let commitment = self.commitment_of(&committed);
        let drawn = replay::Drawn { run: &self.run, commitment: &commitment, seed: &seed };
        let replayers = replay::replayers(&self.genesis.replay, &self.genesis.validators, &drawn, &miners, &reveals);
        let evaluators = evaluation::evaluators(&self.genesis, &self.run, &seed, &miners, &reveals);
        Ok(Judging {
            window: self.window,
            pages: self.evaluated_pages(&seed, &by_miner),
            cut_id: CutId::new(payload::id_of(cut)),
            cut: cut.clone(),
            contributions: by_miner,
            registrations: by_owner,
            reveals,
            seed,
            replayers,
            evaluators,
            shared: Closings::default(),
        })
    }

    /// Checks that values could be the agreed set of the open window: one of each validator in the order of keys,
    /// each on its chain, of validators with more than two thirds of the stake.
    ///
    /// # Errors
    /// [`JudgingError::Order`], [`JudgingError::OffChain`] or [`JudgingError::NoQuorum`]
    pub fn check_reveals(&self, reveals: &[Reveal]) -> Result<(), JudgingError> {
        if reveals.windows(2).any(|pair| pair[0].validator >= pair[1].validator) {
            return Err(JudgingError::Order);
        }
        if let Some(reveal) = reveals.iter().find(|reveal| !self.check_reveal(&reveal.validator, &reveal.value)) {
            return Err(JudgingError::OffChain(reveal.validator.short()));
        }
        let total = self.genesis.total_stake();
        let stake = stake::stake_of(&self.genesis, reveals.iter().map(|reveal| &reveal.validator));
        if !stake::more_than_two_thirds(stake, total) {
            return Err(JudgingError::NoQuorum { stake, total });
        }
        Ok(())
    }

    /// The registrations that a cut names, by owner, each checked.
    fn registrations_of<'a>(
        &self,
        cut: &Cut,
        registrations: impl IntoIterator<Item = &'a Registration>,
    ) -> Result<BTreeMap<PublicKey, Registration>, JudgingError> {
        if cut.registrations.is_empty() {
            return Ok(BTreeMap::new());
        }
        let by_id: BTreeMap<RegistrationId, &Registration> =
            registrations.into_iter().map(|registration| (payload::id_of(registration).into(), registration)).collect();
        let mut by_owner = BTreeMap::new();
        for entry in &cut.registrations {
            let id = entry.registration;
            let named = by_id.get(&id).filter(|registration| registration.certificate.owner == entry.owner);
            let registration = *named.ok_or(JudgingError::Unregistered(id))?;
            self.check_registration(registration)?;
            by_owner.insert(entry.owner, registration.clone());
        }
        Ok(by_owner)
    }

    /// The seed of the open window: BLAKE3 (context `templar/1 window seed`) of run, window, seed of the window
    /// before, number of contributions, each as (miner, delta, state_out) by miner, number of reveals, each as
    /// (validator, value) by validator. Integers are u64, little-endian. Both lists must be sorted.
    pub fn seed_of(&self, contributions: &[(PublicKey, BlobId, StateId)], reveals: &[Reveal]) -> Hash {
        let mut hasher = self.committed(SEED_CONTEXT, contributions);
        hasher.update(&(reveals.len() as u64).to_le_bytes());
        for reveal in reveals {
            hasher.update(reveal.validator.as_bytes());
            hasher.update(reveal.value.as_bytes());
        }
        hasher.finalize().into()
    }

    /// The commitment of a cut, which is fixed before anybody reveals: BLAKE3 (context
    /// `templar/1 commitment of a cut`) of the same numbers as [`RunState::seed_of`] without the reveals. The
    /// list must be sorted.
    pub fn commitment_of(&self, contributions: &[(PublicKey, BlobId, StateId)]) -> Hash {
        self.committed(COMMITMENT_CONTEXT, contributions).finalize().into()
    }

    fn committed(&self, context: &str, contributions: &[(PublicKey, BlobId, StateId)]) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(self.run.hash().as_bytes());
        hasher.update(&self.window.0.to_le_bytes());
        hasher.update(self.seed.as_bytes());
        hasher.update(&(contributions.len() as u64).to_le_bytes());
        for (miner, delta, state_out) in contributions {
            hasher.update(miner.as_bytes());
            hasher.update(delta.hash().as_bytes());
            hasher.update(state_out.hash().as_bytes());
        }
        hasher
    }

    /// The result of [`RunState::judging`] for the cut with this id, computed once for all who share this state.
    pub(crate) fn shared_judging<'a>(
        &self,
        (id, cut): (CutId, &Cut),
        contributions: impl IntoIterator<Item = &'a Contribution>,
        registrations: impl IntoIterator<Item = &'a Registration>,
        reveals: Vec<Reveal>,
    ) -> Result<Arc<Judging>, JudgingError> {
        let key = reveals.iter().map(|reveal| (reveal.validator, reveal.value)).collect();
        let work_out = || self.judging(cut, contributions, registrations, reveals);
        self.shared.judgings.try_get_or((id, key), work_out)
    }

    /// The plan of a validator; `None` for a key that is none. Nothing of this window is drawn for one whose value
    /// is not in the agreed set, and it scores all the same.
    pub fn judge_plan(&self, judging: &Judging, validator: &PublicKey) -> Option<JudgePlan> {
        self.genesis.validator(validator)?;
        let mut replay: Vec<PublicKey> = Vec::new();
        if self.genesis.replay.before_close {
            replay.extend(judging.replayers.keys().filter(|miner| judging.is_drawn(miner, validator)));
        }
        Some(JudgePlan {
            window: self.window,
            seed: judging.seed,
            validator: *validator,
            draws: replay.iter().map(|miner| (*miner, judging.proof_draws(miner))).collect(),
            replay,
            late: self.late_tasks(validator),
            wanted: self.tasks_to_look_for(validator),
            challenges_from: WindowIndex(self.window.0.saturating_sub(self.genesis.replay.verdict_windows)),
            challenged: self.challenges().into_iter().map(|(challenge, _)| challenge.contribution).collect(),
            evaluations: self.evaluation_tasks(judging, validator),
            spot_checks: self.spot_checks(judging, validator),
        })
    }
}
