//! Real training in place of the statistical model: a tiny Llama on the bundled text, with the functions that a
//! node calls.
//!
//! Miners run windows, and adversaries change the results (`training/miner.rs`). Validators judge with
//! `templar_audit::judge`, and the outer step gives the next checkpoint. Replays and outer steps are computed
//! once for all nodes, because every node computes the same. Clock, network and faults stay simulated, and a
//! node cannot use a blob that it could not fetch.

mod miner;

pub(crate) use miner::TrainingFailure;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use templar_audit::{AuditInputs, InputError, JudgeTask, apply, judge, measure_contribution, replay_contribution};
use templar_blob::{BlobSource, MemoryBlobs, ReadError};
use templar_data::bundled;
use templar_manifest::proof::witness;
use templar_manifest::{
    AggregationRule, CheckpointId, Contribution, ContributionId, Dataset, Genesis, Hash, LateVerdict, Outcome,
    Payload as _, PublicKey, Quantiser, Refusal, Replay, RunId, ScoreEntry, Segment, SegmentShape, Signed, StateId,
    Verdict, WindowIndex, payload,
};
use templar_model::sizes;
use templar_protocol::{EvaluationTask, JudgePlan, ReplayTask, RunState, Stepped, Tried};
use templar_train::tensors::checkpoint_of;
use templar_train::{MinerState, Recipe};

use crate::blobs::Reachable;

/// The model's name in the table of sizes.
const SIZE: &str = "tiny";
/// Predicted tokens of a page.
const SEQUENCE_LENGTH: u32 = 32;
/// Pages of an inner step.
const BATCH: u32 = 2;
/// The inner learning rate, in 1e-9. It is so high that ten steps show in the loss.
const RATE_NANOS: u64 = 10_000_000;

/// Everything that the blobs of a run hold, and what was computed from them.
pub(crate) struct Training {
    recipe: Recipe,
    dataset: Dataset,
    blobs: MemoryBlobs,
    /// Miners' states, each with the window that it was left by.
    states: BTreeMap<StateId, (WindowIndex, MinerState)>,
    /// Parameters `[P]`, each with the window that starts from them.
    models: BTreeMap<CheckpointId, (WindowIndex, Vec<f32>)>,
    /// Verdicts and claims of replays by a hash of contribution and draws, each with the contribution's window.
    replays: BTreeMap<Hash, (WindowIndex, (Replay, Vec<Hash>))>,
    /// Outer steps by checkpoint and aggregated contributions, each with its window.
    steps: BTreeMap<(CheckpointId, Vec<ContributionId>), (WindowIndex, Stepped)>,
    /// The dense values of the first delta of each miner with the strategy `stale`.
    first: BTreeMap<PublicKey, Vec<f32>>,
}

impl std::fmt::Debug for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Training").field("run", &self.recipe.run).finish_non_exhaustive()
    }
}

/// The blobs that one node has: all blobs without those that it could not fetch.
struct Here<'a> {
    blobs: &'a MemoryBlobs,
    missing: BTreeSet<Hash>,
}

impl BlobSource for Here<'_> {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        if self.missing.contains(id) { Err(ReadError::NotFound { id: *id }) } else { self.blobs.read(id, max_bytes) }
    }

    fn contains(&self, id: &Hash) -> bool {
        !self.missing.contains(id) && self.blobs.contains(id)
    }
}

impl Training {
    /// Puts the tiny model, the bundled dataset and real settings into `genesis`, and gives the run's state
    /// before window 0.
    ///
    /// # Errors
    /// A text, where the members need more pages than the dataset has.
    pub(crate) fn new(mut genesis: Genesis) -> Result<(Self, RunState), String> {
        let mut blobs = MemoryBlobs::new();
        let dataset = bundled::import_shakespeare(&mut blobs).map_err(|error| error.to_string())?;
        let mut model = sizes::preset(SIZE, dataset.vocab_size).ok_or("the size is not in the table")?;
        model.sequence_length = SEQUENCE_LENGTH;
        genesis.model = model;
        genesis.tokenizer = dataset.tokenizer;
        genesis.dataset = payload::id_of(&dataset).into();
        (genesis.inner.batch_sequences, genesis.inner.micro_batch_sequences) = (BATCH, BATCH);
        genesis.inner.schedule =
            vec![Segment { steps: 1, from_nanos: RATE_NANOS, to_nanos: RATE_NANOS, shape: SegmentShape::Linear }];
        (genesis.compression.block_side, genesis.compression.top_k) = (64, 64);
        genesis.compression.quantiser = Quantiser::BlockSign;
        genesis.outer.rule = AggregationRule::MeanOfSenders;
        genesis.gauntlet.held_out_pages = 16;
        genesis.check()?;
        let run = RunId::new(payload::id_of(&genesis));
        let recipe = Recipe::new(run, genesis.clone()).map_err(|error| error.to_string())?;
        let parameters = recipe.initial_parameters(&blobs).map_err(|error| error.to_string())?;
        let checkpoint = payload::id_of(&checkpoint_of(run, WindowIndex(0), &recipe.tensors, &parameters)).into();
        let zero_state = MinerState::zero_id(run, &recipe.tensors);
        let state = RunState::new(genesis.into(), checkpoint, zero_state, dataset.training_tokens());
        let state = state.map_err(|error| error.to_string())?;
        let training = Self {
            recipe,
            dataset,
            blobs,
            states: BTreeMap::new(),
            models: BTreeMap::from([(checkpoint, (WindowIndex(0), parameters))]),
            replays: BTreeMap::new(),
            steps: BTreeMap::new(),
            first: BTreeMap::new(),
        };
        Ok((training, state))
    }

    /// The inputs of an audit, from all blobs.
    fn inputs(&self) -> Result<AuditInputs<'_>, InputError> {
        AuditInputs::new(&self.recipe, &self.dataset, &self.blobs)
    }

    fn parameters(&self, id: &CheckpointId) -> Result<&[f32], InputError> {
        let known = self.models.get(id).map(|(_, parameters)| &parameters[..]);
        known.ok_or_else(|| InputError::Unavailable { what: format!("checkpoint {id}") })
    }

    /// A miner's state by its id.
    ///
    /// # Errors
    /// `Withheld`, where nobody has computed such a state.
    fn state(&self, id: &StateId) -> Result<MinerState, InputError> {
        if *id == MinerState::zero_id(self.recipe.run, &self.recipe.tensors) {
            return Ok(MinerState::zero(self.recipe.parameter_count()));
        }
        let known = self.states.get(id).map(|(_, state)| state.clone());
        known.ok_or_else(|| InputError::Withheld { what: format!("state {id}") })
    }

    /// The verdict of a replay, with the claims of a match.
    fn replayed(&mut self, task: &ReplayTask) -> Result<(Replay, Vec<Hash>), InputError> {
        // The claims follow from the draws, so validators with the same draws share the result.
        let key = Hash::of(format!("{} {:?} {:?}", task.id, task.draws, task.upto).as_bytes());
        if let Some((_, known)) = self.replays.get(&key) {
            return Ok(known.clone());
        }
        let inputs = self.inputs()?;
        let parameters = self.parameters(&task.checkpoint)?;
        let found = match replay_contribution(&inputs, task, parameters, |id| self.state(id)) {
            Ok(replayed) => (replayed.verdict, replayed.claims),
            Err(InputError::Withheld { .. }) => (Replay::Refused(Refusal::Withheld), Vec::new()),
            Err(error) => return Err(error),
        };
        self.replays.insert(key, (task.window, found.clone()));
        Ok(found)
    }

    /// The verdict of a replay about which others disagree, with the witnesses of a match. `here`: whether the
    /// validator has the blobs.
    pub(crate) fn confirm(&mut self, task: &ReplayTask, here: bool) -> Result<(Replay, Vec<u64>), InputError> {
        if !here {
            return Ok((Replay::Refused(Refusal::Withheld), Vec::new()));
        }
        let (replay, claims) = self.replayed(task)?;
        Ok((replay, claims.iter().map(witness).collect()))
    }

    /// The result of measuring a contribution about which others disagree.
    pub(crate) fn remeasure(&self, task: &EvaluationTask, here: bool) -> Result<Tried, InputError> {
        if !here {
            return Ok(Tried::Unavailable);
        }
        let measured = measure_contribution(&self.inputs()?, task, self.parameters(&task.checkpoint)?)?;
        Ok(task.tried(measured))
    }

    /// The verdict of a validator that replays a contribution to a closed window.
    pub(crate) fn verdict(&mut self, task: &ReplayTask, validator: &PublicKey) -> Result<LateVerdict, InputError> {
        let (replay, claims) = self.replayed(task)?;
        Ok(task.verdict(validator, replay, &claims))
    }

    /// The entries of a validator's score of the open window of `before`.
    /// Without its blobs, or the state before it, a contribution is withheld for this validator.
    pub(crate) fn measure(
        &mut self,
        before: &RunState,
        plan: &JudgePlan,
        contributions: &[Signed<Contribution>],
        reachable: Reachable<'_>,
    ) -> Result<Vec<ScoreEntry>, InputError> {
        let mut missing = BTreeSet::new();
        let mut replays = BTreeMap::new();
        for contribution in contributions.iter().map(Signed::payload) {
            let id: ContributionId = payload::id_of(contribution).into();
            if !reachable.has(plan.window, &id) {
                missing.extend([contribution.delta.hash(), contribution.trace.hash()]);
            } else if let Some(task) = before.planned_task(plan, contribution)
                && plan.replay.contains(&contribution.miner)
                && !reachable.stateless.contains(&contribution.miner)
            {
                replays.insert(contribution.miner, self.replayed(&task)?);
            }
        }
        let view = Here { blobs: &self.blobs, missing };
        let inputs = AuditInputs::new(&self.recipe, &self.dataset, &view)?;
        let replay = |contribution: &Contribution| {
            let withheld = || (Replay::Refused(Refusal::Withheld), Vec::new());
            Ok(replays.remove(&contribution.miner).unwrap_or_else(withheld))
        };
        let parameters = self.parameters(&before.checkpoint())?;
        judge(&inputs, &JudgeTask { plan, contributions, parameters }, replay, |_, missing| missing)
    }

    /// The outer step of the open window of `before`.
    pub(crate) fn apply(
        &mut self,
        before: &RunState,
        outcomes: &[Outcome],
        contributions: &[Signed<Contribution>],
    ) -> Result<Stepped, InputError> {
        let (window, from) = (before.window(), before.checkpoint());
        let aggregated = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated);
        let key = (from, aggregated.map(|outcome| outcome.contribution).collect());
        if let Some((_, known)) = self.steps.get(&key) {
            return Ok(*known);
        }
        let inputs = self.inputs()?;
        let applied = apply(&inputs, window, outcomes, contributions, self.parameters(&from)?.to_vec())?;
        self.blobs.insert(applied.aggregate);
        self.models.insert(applied.stepped.checkpoint, (window.next(), applied.parameters));
        self.steps.insert(key, (window, applied.stepped));
        Ok(applied.stepped)
    }

    /// Drops the tensors of windows more than two before this one, which no node and no adversary needs any
    /// more, except states that a next contribution continues (`parents`).
    pub(crate) fn forget(&mut self, before: WindowIndex, parents: impl Fn(&StateId) -> bool) {
        let is_old = |window: &WindowIndex| window.0 + 2 < before.0;
        self.states.retain(|id, (window, _)| !is_old(window) || parents(id));
        self.models.retain(|_, (window, _)| !is_old(window));
        self.replays.retain(|_, (window, _)| !is_old(window));
        self.steps.retain(|_, (window, _)| !is_old(window));
    }
}
