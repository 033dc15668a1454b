//! The work with tensors that the protocol asks for: train, judge, confirm, apply. Runs on threads that compute.
//!
//! Everything here is a function of blobs and of the protocol's state; the clock only measures speed for the log line.

mod recover;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use templar_audit::{Applied, Evidence, EvidenceError, States, apply, apply_aggregate, judge, replay_contribution};
use templar_delta::{CompressError, Header, random_delta};
use templar_manifest::proof::witness;
use templar_manifest::trace::Leaf;
use templar_manifest::{
    Checkpoint, CheckpointId, Contribution, Hash, LateVerdict, Outcome, PublicKey, Refusal, Replay, ScoreEntry, Signed,
    StateId, WindowIndex, WindowRecord, payload,
};
use templar_protocol::{JudgePlan, ReplayTask, RunState};
use templar_store::{BlobSource, PutError};
use templar_train::forge::forge;
use templar_train::{MinerState, StepReport, Task, TrainError, Watch, WindowResult, WindowRun, run_window, tensors};

use crate::context::RunContext;
use crate::home::{Home, HomeError, Privacy, write_with};
use crate::replica::lock;

/// Why work cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Something that it reads is missing or broken.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Compression of made-up numbers.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// A result cannot be kept.
    #[error("a result cannot be kept")]
    Put(#[from] PutError),
    /// A snapshot cannot be kept.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
    /// This key has no slot in the run.
    #[error("{0} is not a registered miner of this run")]
    NotAMiner(PublicKey),
    /// The threads that compute cannot be had.
    #[error("the threads that compute do not start: {0}")]
    Threads(String),
}

impl WorkError {
    /// What is missing, where that is the reason.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Evidence(EvidenceError::Unavailable { what }) => Some(what),
            _ => None,
        }
    }
}

/// Keeps a blob.
pub type Keep = Arc<dyn Fn(Vec<u8>) -> Result<Hash, PutError> + Send + Sync>;

/// How a miner comes by its delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conduct {
    /// It trains.
    #[default]
    Honest,
    /// It sends a well-formed delta of noise with a made-up trace: what the demo's cheat does.
    Noise,
}

/// Which state a miner goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// What its last recorded contribution left; zero where there is none.
    Recorded,
    /// Zero, whatever was recorded: for whoever has lost the other.
    Zero,
}

/// How a miner works in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Inner steps to take, 1 to H.
    pub steps: u32,
    /// What it goes on from.
    pub origin: Origin,
    /// How it comes by its delta.
    pub conduct: Conduct,
}

impl Effort {
    /// Honest, from what was recorded.
    pub const fn honest(steps: u32) -> Self {
        Self { steps, origin: Origin::Recorded, conduct: Conduct::Honest }
    }
}

/// Hears of training, and may stop it.
pub trait TrainWatch: Send {
    /// An inner step was taken.
    fn step(&mut self, report: &StepReport);

    /// Whether to stop now; what was done is saved.
    fn stop(&self) -> bool {
        false
    }
}

/// Everything that work needs. One per run and process.
pub struct Workbench {
    context: RunContext,
    home: Home,
    blobs: Arc<dyn BlobSource>,
    keep: Keep,
    pool: rayon::ThreadPool,
    states: Mutex<States>,
    model: Mutex<Option<(CheckpointId, Arc<Vec<f32>>)>>,
}

/// Saves a snapshot after this many inner steps.
const SNAPSHOT_STEPS: u32 = 5;

struct Saving<'a> {
    bench: &'a Workbench,
    watch: &'a mut dyn TrainWatch,
    window: WindowIndex,
    failed: Option<HomeError>,
}

impl Watch for Saving<'_> {
    fn leaf(&mut self, run: &WindowRun<'_>, index: u32, _leaf: &Leaf) -> ControlFlow<()> {
        let stop = self.watch.stop();
        if index > 0 && (stop || index.is_multiple_of(SNAPSHOT_STEPS)) {
            let path = self.bench.home.snapshot_path(&self.bench.context.run, self.window.0);
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

impl Workbench {
    /// A workbench for a run, in as many threads as rayon chooses.
    pub fn new(context: RunContext, home: Home, blobs: Arc<dyn BlobSource>, keep: Keep) -> Result<Self, WorkError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("compute-{index}"))
            .build()
            .map_err(|error| WorkError::Threads(error.to_string()))?;
        Ok(Self { context, home, blobs, keep, pool, states: Mutex::default(), model: Mutex::default() })
    }

    /// The run.
    pub fn context(&self) -> &RunContext {
        &self.context
    }

    /// What recomputations of the run read from.
    pub fn evidence(&self) -> Result<Evidence<'_>, EvidenceError> {
        Evidence::new(&self.context.recipe, &self.context.dataset, &*self.blobs)
    }

    /// Keeps a blob.
    pub fn keep(&self, bytes: Vec<u8>) -> Result<Hash, PutError> {
        (self.keep)(bytes)
    }

    /// The parameters of a checkpoint; the last ones asked for stay in memory.
    pub fn parameters(&self, id: CheckpointId) -> Result<Arc<Vec<f32>>, WorkError> {
        let mut model = lock(&self.model);
        if let Some((known, parameters)) = &*model
            && *known == id
        {
            return Ok(parameters.clone());
        }
        let parameters = Arc::new(self.evidence()?.parameters(&id)?);
        *model = Some((id, parameters.clone()));
        Ok(parameters)
    }

    /// Whether a state is known without its blobs.
    pub fn knows_state(&self, id: &StateId) -> bool {
        *id == self.context.zero_state() || lock(&self.states).known(id).is_some()
    }

    /// A miner's state, from memory or from its blobs. Nothing is locked when this returns: a replay takes long, and a
    /// thread of the pool that waits for a part of it may meanwhile begin another piece of work that wants a state.
    fn state(&self, evidence: &Evidence<'_>, id: &StateId) -> Result<MinerState, EvidenceError> {
        let known = lock(&self.states).known(id).cloned();
        known.map_or_else(|| evidence.state(id), Ok)
    }

    /// What `miner` is to do in the open window of `state`.
    pub fn task(&self, state: &RunState, miner: PublicKey, steps: u32) -> Result<Task, WorkError> {
        let pages = state.pages_of(&miner).ok_or(WorkError::NotAMiner(miner))?;
        Ok(Task { window: state.window(), miner, pages, steps })
    }

    /// Trains the open window of `state` for `miner`, going on from a snapshot where there is one. `gate` hears of every
    /// blob before it is kept. The contribution that comes back is not signed; its blobs are kept.
    pub fn train(
        &self,
        state: &RunState,
        miner: PublicKey,
        effort: Effort,
        watch: &mut dyn TrainWatch,
        gate: &dyn Fn(Vec<Hash>),
    ) -> Result<Contribution, WorkError> {
        let Effort { steps, origin, conduct } = effort;
        let task = self.task(state, miner, steps)?;
        let parameters = self.parameters(state.checkpoint())?;
        let recipe = &*self.context.recipe;
        let parent = state.parent(&miner).copied().filter(|_| origin == Origin::Recorded);
        let state_in = parent.map_or(self.context.zero_state(), |parent| parent.state_out);
        let before = self.state(&self.evidence()?, &state_in)?;
        let path = self.home.snapshot_path(&self.context.run, task.window.0);
        let result = self.pool.install(|| -> Result<WindowResult, WorkError> {
            if conduct == Conduct::Noise {
                return self.noise(&task, &parameters, before);
            }
            let evidence = self.evidence()?;
            let mut saved: Box<dyn std::io::Read> = match File::open(&path) {
                Ok(file) => Box::new(std::io::BufReader::new(file)),
                Err(_) => Box::new(std::io::empty()),
            };
            let run = WindowRun::resume(recipe, &task, &**parameters, before, &mut saved)?;
            let mut saving = Saving { bench: self, watch, window: task.window, failed: None };
            let result = run_window(run, &|page| evidence.page(task.window, page), &mut saving)?;
            if let Some(error) = saving.failed {
                return Err(error.into());
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
        let mut states = lock(&self.states);
        states.insert(contribution.state_out, result.state);
        states.retain(|id| *id == contribution.state_out);
        Ok(contribution)
    }

    /// Forgets the snapshot of a window whose contribution is recorded.
    pub fn forget_snapshot(&self, window: WindowIndex) {
        let _ = std::fs::remove_file(self.home.snapshot_path(&self.context.run, window.0));
    }

    /// A result that nobody computed: well formed in every byte, with a delta of noise and a trace that claims steps.
    fn noise(&self, task: &Task, parameters: &[f32], before: MinerState) -> Result<WindowResult, WorkError> {
        let recipe = &*self.context.recipe;
        let seed = Hash::of(format!("{} {}", task.window, task.miner).as_bytes());
        let header = Header { run: recipe.run.hash(), window: task.window.0, miner: *task.miner.as_bytes() };
        let delta = random_delta(&recipe.tensors, &recipe.compression, &header, seed.as_bytes(), 1e-3)?;
        Ok(forge(recipe, task, parameters, before, delta, &seed)?)
    }

    /// Replays one contribution; of a match, with the claims of all who were drawn. With `late`, what is missing by now was
    /// withheld.
    fn replay(
        &self,
        evidence: &Evidence<'_>,
        task: &ReplayTask,
        parameters: &[f32],
        late: bool,
    ) -> Result<(Replay, Vec<Hash>), EvidenceError> {
        match replay_contribution(evidence, task, parameters, |id| self.state(evidence, id)) {
            Ok(replayed) => {
                if let Some(after) = replayed.state {
                    lock(&self.states).insert(task.contribution.state_out, after);
                }
                Ok((replayed.verdict, replayed.claims))
            }
            Err(EvidenceError::Unavailable { .. }) if late => Ok((Replay::Refused(Refusal::Withheld), Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Measures the contributions of the cut as `plan` says. With `late`, what is missing by now was withheld.
    pub fn judge(
        &self,
        state: &RunState,
        plan: &JudgePlan,
        contributions: &[Signed<Contribution>],
        late: bool,
    ) -> Result<Vec<ScoreEntry>, WorkError> {
        let parameters = self.parameters(state.checkpoint())?;
        self.pool.install(|| {
            let evidence = self.evidence()?;
            // Before new ones come, states are forgotten that no recorded contribution leads to any more, and that no replay of a
            // closed window begins with: those were not fetched, because they are known here.
            let parents = state.members().iter().filter_map(|member| state.parent(&member.owner));
            let tasks = plan.late.iter().chain(&plan.wanted).map(|task| task.contribution.state_in);
            let wanted: BTreeSet<StateId> = parents.map(|parent| parent.state_out).chain(tasks).collect();
            lock(&self.states).retain(|id| wanted.contains(id));
            let replay = |contribution: &Contribution| {
                let task = state.planned_task(plan, contribution);
                let broken = || EvidenceError::Broken(format!("miner {} has no slot", contribution.miner));
                self.replay(&evidence, &task.ok_or_else(broken)?, &parameters, late)
            };
            Ok(judge(&evidence, plan, contributions, &parameters, replay, |_, missing| late && missing)?)
        })
    }

    /// Replays what `plan` still wants of closed windows, and looks whether what others have challenged is here. What of a miner is
    /// missing is challenged, where `challenges` says that it was looked for; a checkpoint that is missing is nobody's fault. What is
    /// neither found nor challenged is left for a later window.
    pub fn judge_late(&self, plan: &JudgePlan, challenges: bool) -> Result<Vec<LateVerdict>, WorkError> {
        let (mut found, mut missing) = (Vec::new(), BTreeSet::new());
        for task in &plan.late {
            let parameters = match self.parameters(task.checkpoint) {
                Err(error) if error.missing().is_some() => continue,
                parameters => parameters?,
            };
            match self.pool.install(|| self.replay(&self.evidence()?, task, &parameters, false)) {
                Ok((replay, claims)) => found.push(task.verdict(&plan.validator, replay, &claims)),
                Err(EvidenceError::Unavailable { .. }) => _ = missing.insert(task.id),
                Err(error) => return Err(error.into()),
            }
        }
        for task in &plan.wanted {
            self.keep_known_state(&task.contribution.state_in)?;
            if !self.evidence()?.can_replay(&task.contribution)? {
                missing.insert(task.id);
            }
        }
        if !challenges {
            missing.clear();
        }
        Ok(plan.verdicts(found, &missing))
    }

    /// Writes down a state that a replay gave and that is in memory alone, so that whoever looks for it has it from here.
    fn keep_known_state(&self, id: &StateId) -> Result<(), WorkError> {
        let known = lock(&self.states).known(id).cloned();
        let Some(state) = known.filter(|_| !self.blobs.contains(&id.hash())) else { return Ok(()) };
        self.keep_state(&state)
    }

    fn keep_state(&self, state: &MinerState) -> Result<(), WorkError> {
        let recipe = &self.context.recipe;
        let manifest = state.write(recipe.run, &recipe.tensors, |bytes| self.keep(bytes).map(|_| ()))?;
        self.keep(payload::encode(&manifest))?;
        Ok(())
    }

    /// Replays a contribution about which other validators contradict each other. With a match come the short forms of the claims
    /// that the drawn validators must make.
    pub fn confirm(&self, task: &ReplayTask, late: bool) -> Result<(Replay, Vec<u64>), WorkError> {
        let parameters = self.parameters(task.checkpoint)?;
        let (replay, claims) = self.pool.install(|| self.replay(&self.evidence()?, task, &parameters, late))?;
        Ok((replay, claims.iter().map(witness).collect()))
    }

    /// Takes the outer step of a window from its checkpoint `from`, and keeps the aggregate and the new checkpoint.
    pub fn apply(
        &self,
        from: CheckpointId,
        window: WindowIndex,
        outcomes: &[Outcome],
        contributions: &[Signed<Contribution>],
    ) -> Result<Applied, WorkError> {
        let parameters = self.parameters(from)?;
        let applied = self.pool.install(|| -> Result<Applied, WorkError> {
            Ok(apply(&self.evidence()?, window, outcomes, contributions, parameters.to_vec())?)
        })?;
        self.keep(applied.aggregate.clone())?;
        self.keep_checkpoint(&applied.checkpoint, &applied.parameters)?;
        Ok(applied)
    }

    /// Takes the outer step of a closed window from its aggregate, which is here, and keeps the new checkpoint if it is the
    /// record's; the id says whether it is.
    pub fn apply_aggregate(&self, record: &WindowRecord) -> Result<CheckpointId, WorkError> {
        let before = self.parameters(record.checkpoint_before)?;
        let (parameters, checkpoint) =
            self.pool.install(|| apply_aggregate(&self.evidence()?, record, before.to_vec()))?;
        let id = payload::id_of(&checkpoint).into();
        if id == record.checkpoint {
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
