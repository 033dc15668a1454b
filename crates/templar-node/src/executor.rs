//! The work with tensors that the protocol asks for: train, judge, confirm, apply. It runs on a pool of compute
//! threads.
//!
//! All results are functions of blobs and of the protocol's state. The clock only measures the speed for the
//! log line.

mod on_store;
mod recover;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use templar_audit::{
    Applied, AuditInputs, InputError, JudgeTask, States, apply, apply_aggregate, judge, measure_contribution,
    replay_contribution, spot_check,
};
use templar_blob::BlobSource;
use templar_home::context::RunContext;
use templar_home::files::{Privacy, write_with};
use templar_home::{Home, HomeError};
use templar_manifest::proof::witness;
use templar_manifest::trace::Leaf;
use templar_manifest::{
    Checkpoint, CheckpointId, Contest, Contribution, Hash, LateVerdict, Outcome, PublicKey, Refusal, Replay,
    ScoreEntry, Signed, StateId, WindowIndex, WindowRecord, payload,
};
use templar_protocol::{EvaluationTask, JudgePlan, ReplayTask, RunState, SpotCheck, Tried};
use templar_store::PutError;
use templar_train::{MinerState, Recipe, StepReport, TrainError, Watch, WindowRun, WindowTask, tensors};

use crate::trainer::{HonestTrainer, Trainer, TrainingJob};

/// Work cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A blob that it reads is missing, damaged or broken.
    #[error(transparent)]
    Inputs(#[from] InputError),
    /// The training of a window failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The store cannot keep a result.
    #[error("a result cannot be kept")]
    Put(#[from] PutError),
    /// The snapshot of a window cannot be written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The work was asked to stop.
    #[error("stopped")]
    Stopped,
    /// The key has no slot in the run.
    #[error("{0} is not a registered miner of this run")]
    NotAMiner(PublicKey),
    /// The system gives no compute threads.
    #[error("the threads that compute do not start: {0}")]
    Threads(String),
}

impl WorkError {
    /// Whether the reason is something that this node lacks or cannot do, and nobody else's doing.
    fn is_about_this_node(&self) -> bool {
        matches!(self, Self::Inputs(error) if !matches!(error, InputError::Broken(_)))
    }

    /// Whether the device that computes is the reason, so that another device may do the same work.
    fn is_of_device(&self) -> bool {
        match self {
            Self::Inputs(error) => matches!(error, InputError::Machine(_)),
            Self::Train(error) => error.is_of_device(),
            _ => false,
        }
    }

    /// The missing blob, for people, if a missing blob is the reason.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Inputs(error) => error.missing(),
            _ => None,
        }
    }
}

/// Keeps a blob in a store and gives its name.
pub type KeepBlob = Arc<dyn Fn(Vec<u8>) -> Result<Hash, PutError> + Send + Sync>;

/// The state from which a miner starts a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingState {
    /// The state that its last recorded contribution left; the zero state where there is none.
    Recorded,
    /// The zero state, like a new miner's. Use it if the recorded state is lost.
    Zero,
}

/// A request to train one window.
#[derive(Debug, Clone, Copy)]
pub struct TrainRequest<'a> {
    /// The protocol's state; its open window is trained.
    pub state: &'a RunState,
    /// The owner key of the miner.
    pub miner: PublicKey,
    /// The number of inner steps, 1 to H.
    pub steps: u32,
    /// The state from which the miner starts.
    pub from: StartingState,
    /// The trainer that gives the result.
    pub trainer: &'a dyn Trainer,
}

impl<'a> TrainRequest<'a> {
    /// Honest training of `steps` inner steps from the recorded state.
    pub fn honest(state: &'a RunState, miner: PublicKey, steps: u32) -> Self {
        Self { state, miner, steps, from: StartingState::Recorded, trainer: &HonestTrainer }
    }
}

/// Watches training, and may stop it.
pub trait TrainWatch: Send {
    /// Called after each inner step.
    fn step(&mut self, report: &StepReport);

    /// Whether to stop now. The steps taken so far are saved.
    fn stop(&self) -> bool {
        false
    }
}

/// Does the work of one run. One per run and process; it keeps the last model and the states of miners in memory.
pub struct Executor {
    context: RunContext,
    home: Home,
    blobs: Arc<dyn BlobSource>,
    keep: KeepBlob,
    pool: rayon::ThreadPool,
    /// The recipe on the CPU, once the device has failed.
    on_cpu: OnceLock<Recipe>,
    /// The recipe on the CPU, for results that cost somebody else.
    rechecking: OnceLock<Recipe>,
    states: Mutex<States>,
    model: Mutex<Option<(CheckpointId, Arc<Vec<f32>>)>>,
    /// The first window that is not known to be closed. Judging of earlier ones stops.
    open: AtomicU64,
}

/// The number of inner steps between two snapshots.
const SNAPSHOT_STEPS: u32 = 5;

struct Saving<'a> {
    executor: &'a Executor,
    watch: &'a mut dyn TrainWatch,
    window: WindowIndex,
    failed: Option<HomeError>,
}

impl Watch for Saving<'_> {
    fn leaf(&mut self, run: &WindowRun<'_>, index: u32, _leaf: &Leaf) -> ControlFlow<()> {
        let stop = self.watch.stop();
        if index > 0 && (stop || index.is_multiple_of(SNAPSHOT_STEPS)) {
            let path = self.executor.home.snapshot_path(&self.executor.context.run, self.window.0);
            if let Err(error) = write_with(&path, Privacy::Owner, |file| run.save(file)) {
                self.failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn step(&mut self, report: &StepReport) {
        self.watch.step(report);
    }
}

impl Executor {
    /// An executor for a run, with as many threads as rayon chooses.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(context: RunContext, home: Home, blobs: Arc<dyn BlobSource>, keep: KeepBlob) -> Result<Self, WorkError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("compute-{index}"))
            .build()
            .map_err(|error| WorkError::Threads(error.to_string()))?;
        let (states, model, open) = (Mutex::default(), Mutex::default(), AtomicU64::default());
        let (on_cpu, rechecking) = (OnceLock::new(), OnceLock::new());
        Ok(Self { context, home, blobs, keep, pool, on_cpu, rechecking, states, model, open })
    }

    /// Notes that a window is closed. Judging of it that is under way ends before its next replay.
    pub fn close(&self, window: WindowIndex) {
        self.open.fetch_max(window.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The context of the run.
    pub fn context(&self) -> &RunContext {
        &self.context
    }

    /// The recipe, with the device that computes now.
    fn recipe(&self) -> &Recipe {
        self.on_cpu.get().unwrap_or(&self.context.recipe)
    }

    /// If the device was the reason why work failed, all work from now on is done by the CPU, to the same results.
    /// Gives the name of the device that is left.
    pub fn leave_device(&self, error: &WorkError) -> Option<String> {
        if !error.is_of_device() {
            return None;
        }
        self.on_cpu.set(self.context.recipe.on_cpu()).is_ok().then(|| self.context.recipe.device.name())
    }

    /// The inputs of recomputations: recipe, dataset and blobs.
    pub fn inputs(&self) -> Result<AuditInputs<'_>, InputError> {
        AuditInputs::new(self.recipe(), &self.context.dataset, &*self.blobs)
    }

    /// The inputs of a recheck, which the CPU computes whatever device this node has: a record may slash a validator
    /// for its result, and a fault of a device here must not cost anybody else.
    fn rechecking_inputs(&self) -> Result<AuditInputs<'_>, InputError> {
        let recipe = self.rechecking.get_or_init(|| self.context.recipe.on_cpu());
        AuditInputs::new(recipe, &self.context.dataset, &*self.blobs)
    }

    /// Keeps a blob and gives its hash.
    pub fn keep(&self, bytes: Vec<u8>) -> Result<Hash, PutError> {
        (self.keep)(bytes)
    }

    /// The parameters of a checkpoint, flat, in the model's order. The last ones asked for stay in memory.
    ///
    /// # Errors
    /// A tensor of the checkpoint is missing, damaged or broken.
    pub fn parameters(&self, id: CheckpointId) -> Result<Arc<Vec<f32>>, WorkError> {
        let mut model = self.model.lock();
        if let Some((known, parameters)) = &*model
            && *known == id
        {
            return Ok(parameters.clone());
        }
        let parameters = Arc::new(self.inputs()?.parameters(&id)?);
        *model = Some((id, parameters.clone()));
        Ok(parameters)
    }

    /// Whether a state is in memory or is the zero state, so that its blobs are not needed.
    pub fn knows_state(&self, id: &StateId) -> bool {
        *id == self.context.zero_state() || self.states.lock().known(id).is_some()
    }

    /// A miner's state, from memory or from its blobs. No lock is held when this returns. A replay takes long,
    /// and a thread of the pool that waits for a part of it may meanwhile begin other work that needs a state.
    fn state(&self, inputs: &AuditInputs<'_>, id: &StateId) -> Result<MinerState, InputError> {
        let known = self.states.lock().known(id).cloned();
        known.map_or_else(|| inputs.state(id), Ok)
    }

    /// The task of `miner` in the open window of `state`.
    ///
    /// # Errors
    /// The miner has no slot.
    pub fn task(&self, state: &RunState, miner: PublicKey, steps: u32) -> Result<WindowTask, WorkError> {
        let pages = state.pages_of(&miner).ok_or(WorkError::NotAMiner(miner))?;
        Ok(WindowTask { window: state.window(), miner, pages, steps })
    }

    /// Trains the open window as `request` says, and continues from a snapshot if there is one. `gate` gets the
    /// hash of every blob before it is kept, so that peers do not get it too early. The returned contribution
    /// is not signed; its blobs are kept.
    ///
    /// # Errors
    /// The miner has no slot, a blob is missing, training fails or was stopped, or a result cannot be kept.
    pub fn train(
        &self,
        request: TrainRequest<'_>,
        watch: &mut dyn TrainWatch,
        gate: &dyn Fn(Vec<Hash>),
    ) -> Result<Contribution, WorkError> {
        let TrainRequest { state, miner, steps, from, trainer } = request;
        let task = self.task(state, miner, steps)?;
        let parameters = self.parameters(state.checkpoint())?;
        let recipe = self.recipe();
        let parent = state.parent(&miner).copied().filter(|_| from == StartingState::Recorded);
        let state_in = parent.map_or(self.context.zero_state(), |parent| parent.state_out);
        let before = self.state(&self.inputs()?, &state_in)?;
        let path = self.home.snapshot_path(&self.context.run, task.window.0);
        let result = self.pool.install(|| {
            let inputs = self.inputs()?;
            let mut saved: Box<dyn std::io::Read> = match File::open(&path) {
                Ok(file) => Box::new(std::io::BufReader::new(file)),
                Err(_) => Box::new(std::io::empty()),
            };
            let job = TrainingJob {
                recipe,
                task: &task,
                parameters: &parameters,
                before,
                pages: &|page| inputs.page(task.window, page),
                snapshot: &mut *saved,
            };
            let mut saving = Saving { executor: self, watch, window: task.window, failed: None };
            let result = trainer.train(job, &mut saving)?;
            if let Some(error) = saving.failed {
                return Err(WorkError::from(error));
            }
            result.ok_or(WorkError::Stopped)
        })?;
        let contribution = result.contribution(recipe, parent.map(|parent| parent.contribution), state_in);
        let manifest = payload::encode(&result.state_manifest);
        let mut gated = vec![contribution.delta.hash(), contribution.trace.hash(), contribution.state_out.hash()];
        gated.extend(result.state_manifest.tensors.iter().map(|tensor| tensor.blob.hash()));
        gate(gated);
        self.keep(result.delta)?;
        self.keep(result.trace.encode())?;
        result.state.write(recipe.run, &recipe.tensors, |bytes| self.keep(bytes).map(|_| ()))?;
        self.keep(manifest)?;
        let mut states = self.states.lock();
        states.insert(contribution.state_out, result.state);
        states.retain(|id| *id == contribution.state_out);
        Ok(contribution)
    }

    /// Removes the snapshot of a window whose contribution is made.
    pub fn forget_snapshot(&self, window: WindowIndex) {
        let _ = std::fs::remove_file(self.home.snapshot_path(&self.context.run, window.0));
    }

    /// Replays one contribution. A match comes with the claims that all drawn validators must make. With
    /// `late`, a contribution whose blobs are still missing counts as withheld. A blob that is damaged here, or that
    /// its miner did not have to publish, never counts against the miner.
    fn replay(
        &self,
        inputs: &AuditInputs<'_>,
        task: &ReplayTask,
        parameters: &[f32],
        late: bool,
    ) -> Result<(Replay, Vec<Hash>), InputError> {
        match replay_contribution(inputs, task, parameters, |id| self.state(inputs, id)) {
            Ok(replayed) => {
                if let Some(after) = replayed.state {
                    self.states.lock().insert(task.contribution.state_out, after);
                }
                Ok((replayed.verdict, replayed.claims))
            }
            Err(InputError::Withheld { .. }) if late => Ok((Replay::Refused(Refusal::Withheld), Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Judges the contributions of the cut as `plan` says. With `late`, contributions whose blobs are still
    /// missing count as withheld.
    ///
    /// # Errors
    /// A blob is missing, damaged or broken.
    pub fn judge(
        &self,
        state: &RunState,
        plan: &JudgePlan,
        contributions: &[Signed<Contribution>],
        late: bool,
    ) -> Result<Vec<ScoreEntry>, WorkError> {
        let parameters = self.parameters(state.checkpoint())?;
        self.pool.install(|| {
            let inputs = self.inputs()?;
            // Before new states come, drop those to which no recorded contribution leads any more. States with
            // which a replay of a closed window begins stay: they were not fetched, because they are known
            // here.
            let parents = state.members().iter().filter_map(|member| state.parent(&member.owner));
            let tasks = plan.late.iter().chain(&plan.wanted).map(|task| task.contribution.state_in);
            let wanted: BTreeSet<StateId> = parents.map(|parent| parent.state_out).chain(tasks).collect();
            self.states.lock().retain(|id| wanted.contains(id));
            let replay = |contribution: &Contribution| {
                if plan.window.0 < self.open.load(Ordering::Relaxed) {
                    return Err(InputError::Broken(format!("window {} is closed", plan.window)));
                }
                let task = state.planned_task(plan, contribution);
                let broken = || InputError::Broken(format!("miner {} has no slot", contribution.miner));
                self.replay(&inputs, &task.ok_or_else(broken)?, &parameters, late)
            };
            let task = JudgeTask { plan, contributions, parameters: &parameters };
            Ok(judge(&inputs, &task, replay, |_, missing| late && missing)?)
        })
    }

    /// Replays the remaining tasks of closed windows, and checks whether the states that others have challenged
    /// are here. With `challenges`, missing blobs of a miner become challenges; say so only if peers were asked
    /// for them. A missing checkpoint never becomes a challenge, and neither does a blob that is damaged here. Tasks
    /// that are neither replayed nor challenged wait for a later window.
    ///
    /// # Errors
    /// A blob is broken, or a known state cannot be kept.
    pub fn judge_late(&self, plan: &JudgePlan, challenges: bool) -> Result<Vec<LateVerdict>, WorkError> {
        let (mut found, mut missing) = (Vec::new(), BTreeSet::new());
        for task in &plan.late {
            let parameters = match self.parameters(task.checkpoint) {
                Err(error) if error.is_about_this_node() => continue,
                parameters => parameters?,
            };
            match self.pool.install(|| self.replay(&self.inputs()?, task, &parameters, false)) {
                Ok((replay, claims)) => found.push(task.verdict(&plan.validator, replay, &claims)),
                Err(InputError::Withheld { .. }) => _ = missing.insert(task.id),
                Err(InputError::Unavailable { .. } | InputError::Damaged { .. }) => {}
                Err(error @ InputError::Machine(_)) => _ = self.leave_device(&error.into()),
                Err(error @ InputError::Broken(_)) => return Err(error.into()),
            }
        }
        for task in &plan.wanted {
            self.keep_known_state(&task.contribution.state_in)?;
            match self.inputs()?.can_replay(&task.contribution) {
                Ok(true) | Err(InputError::Damaged { .. }) => {}
                Ok(false) => _ = missing.insert(task.id),
                Err(error) => return Err(error.into()),
            }
        }
        if !challenges {
            missing.clear();
        }
        Ok(plan.verdicts(found, &missing))
    }

    /// Keeps a state that a replay gave and that is only in memory, so that peers can fetch it from here.
    fn keep_known_state(&self, id: &StateId) -> Result<(), WorkError> {
        let known = self.states.lock().known(id).cloned();
        let Some(state) = known.filter(|_| !self.blobs.contains(&id.hash())) else { return Ok(()) };
        self.keep_state(&state)
    }

    fn keep_state(&self, state: &MinerState) -> Result<(), WorkError> {
        let recipe = &self.context.recipe;
        let manifest = state.write(recipe.run, &recipe.tensors, |bytes| self.keep(bytes).map(|_| ()))?;
        self.keep(payload::encode(&manifest))?;
        Ok(())
    }

    /// Replays a contribution about which other validators contradict each other, on the CPU, as far as the task says. A
    /// match comes with the short forms of the claims that the drawn validators must make.
    ///
    /// # Errors
    /// A blob is missing (without `late`), damaged or broken.
    pub fn confirm(&self, task: &ReplayTask, late: bool) -> Result<(Replay, Vec<u64>), WorkError> {
        let parameters = self.parameters(task.checkpoint)?;
        let (replay, claims) =
            self.pool.install(|| self.replay(&self.rechecking_inputs()?, task, &parameters, late))?;
        Ok((replay, claims.iter().map(witness).collect()))
    }

    /// Measures contributions of the window before again. Returns what is not as the record says, confirmed on the CPU:
    /// the result of a device is no ground to accuse anybody. What is not here is left out.
    ///
    /// # Errors
    /// A blob is broken.
    pub fn spot_check(&self, checks: &[SpotCheck]) -> Result<Vec<Contest>, WorkError> {
        let Some(first) = checks.first() else { return Ok(Vec::new()) };
        let parameters = match self.parameters(first.task.checkpoint) {
            Err(error) if error.is_about_this_node() => return Ok(Vec::new()),
            parameters => parameters?,
        };
        let suspected = self.pool.install(|| spot_check(&self.inputs()?, checks, &parameters))?;
        let is_suspected = |check: &&SpotCheck| suspected.iter().any(|contest| contest.contribution == check.task.id);
        let again: Vec<SpotCheck> = checks.iter().filter(is_suspected).cloned().collect();
        if again.is_empty() {
            return Ok(suspected);
        }
        Ok(self.pool.install(|| spot_check(&self.rechecking_inputs()?, &again, &parameters))?)
    }

    /// Measures a contribution about which validators contradict each other, on the CPU. With `late`, a delta that is
    /// still missing is unavailable.
    ///
    /// # Errors
    /// A blob is missing (the delta without `late`), damaged or broken.
    pub fn remeasure(&self, task: &EvaluationTask, late: bool) -> Result<Tried, WorkError> {
        let parameters = self.parameters(task.checkpoint)?;
        let measured = self.pool.install(|| measure_contribution(&self.rechecking_inputs()?, task, &parameters));
        match measured {
            Ok(measured) => Ok(task.tried(measured)),
            Err(InputError::Withheld { .. }) if late => Ok(Tried::Unavailable),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the outer step of a window from its checkpoint `from`, and keeps the aggregate and the new checkpoint.
    ///
    /// # Errors
    /// A delta is missing, damaged or broken, or a result cannot be kept.
    pub fn apply(
        &self,
        from: CheckpointId,
        window: WindowIndex,
        outcomes: &[Outcome],
        contributions: &[Signed<Contribution>],
    ) -> Result<Applied, WorkError> {
        let parameters = self.parameters(from)?;
        let applied = self.pool.install(|| -> Result<Applied, WorkError> {
            Ok(apply(&self.inputs()?, window, outcomes, contributions, parameters.to_vec())?)
        })?;
        self.keep(applied.aggregate.clone())?;
        self.keep_checkpoint(&applied.checkpoint, &applied.parameters)?;
        Ok(applied)
    }

    /// Takes the outer step of a closed window from its aggregate, which must be here. Gives the id of the new
    /// checkpoint, and keeps that checkpoint if its id is the record's.
    ///
    /// # Errors
    /// The aggregate is missing, damaged or broken, or a result cannot be kept.
    pub fn apply_aggregate(&self, record: &WindowRecord) -> Result<CheckpointId, WorkError> {
        let before = self.parameters(record.body.checkpoint_before)?;
        let (parameters, checkpoint) =
            self.pool.install(|| apply_aggregate(&self.inputs()?, record, before.to_vec()))?;
        let id = payload::id_of(&checkpoint).into();
        if id == record.header.checkpoint {
            self.keep_checkpoint(&checkpoint, &parameters)?;
        }
        Ok(id)
    }

    fn keep_checkpoint(&self, checkpoint: &Checkpoint, parameters: &[f32]) -> Result<(), WorkError> {
        let specs = &self.context.recipe.tensors;
        let keep = |bytes| self.keep(bytes).map(|_| ());
        tensors::checkpoint(checkpoint.run, checkpoint.window, specs, parameters, keep)?;
        self.keep(payload::encode(checkpoint))?;
        Ok(())
    }
}
