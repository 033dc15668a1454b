//! One window of one miner: inner steps on its pages, one leaf of the trace each, then the delta.
//!
//! Every input of a step comes from the rules: its pages from the assignment, its learning rate from genesis
//! and the inner step's number, the order of its micro-batches from the order of its pages. So the same task,
//! parameters and state give the same delta, trace and state everywhere.

use std::borrow::Cow;
use std::ops::ControlFlow;

use templar_data::{PageError, batch};
use templar_delta::{DeltaHeader, compress};
use templar_device::DeviceError;
use templar_manifest::proof::ProofDraw;
use templar_manifest::trace::{Leaf, Trace, TraceHeader};
use templar_manifest::{BlobId, ContextSegment, Contribution, ContributionId, Hash, State, StateId, TensorBlob};
use templar_manifest::{TensorSpec, payload};

use crate::evaluate::nanonats;
use crate::fit;
use crate::recheck;
use crate::resident::{Resident, Returned, StepInputs, Taken};
use crate::state::MinerState;
use crate::task::{TrainError, WindowTask};
use crate::{Recipe, tensors};

/// Gives a page's tokens, `sequence_length + 1` of them in the context of the window.
pub type PageSource<'a> = &'a (dyn Fn(u64) -> Result<Vec<u32>, PageError> + Sync);

/// The figures of an inner step, for a log line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The inner step, from 1.
    pub step: u32,
    /// Inner steps of the window.
    pub steps: u32,
    /// Mean loss in nats.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f32,
    /// Number of tokens predicted.
    pub tokens: u64,
}

/// Sees a window while it runs, and may stop it.
pub trait Watch {
    /// Leaf `index` was made; `run` is the state behind it.
    fn leaf(&mut self, run: &WindowRun<'_>, index: u32, leaf: &Leaf) -> ControlFlow<()>;

    /// An inner step was taken.
    fn step(&mut self, _report: &StepReport) {}
}

/// Nobody watches, and nothing stops the window.
impl Watch for () {
    fn leaf(&mut self, _run: &WindowRun<'_>, _index: u32, _leaf: &Leaf) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Everything that a window leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowResult {
    /// The wire bytes of the delta.
    pub delta: Vec<u8>,
    /// The trace: one leaf for the start, each inner step and the end.
    pub trace: Trace,
    /// The miner's state after the window.
    pub state: MinerState,
    /// Mean loss of the last inner step, in 1e-9 nats.
    pub loss_nanonats: u64,
    /// Number of tokens predicted in all steps.
    pub tokens: u64,
    /// The manifest of `state`, whose blobs are hashed in the last leaf.
    pub state_manifest: State,
}

impl WindowResult {
    /// The contribution that commits to this result.
    pub fn contribution(&self, recipe: &Recipe, parent: Option<ContributionId>, state_in: StateId) -> Contribution {
        let trace = self.trace.encode();
        Contribution {
            run: recipe.run,
            window: self.trace.header.window,
            miner: self.trace.header.miner,
            parent,
            state_in,
            state_out: payload::id_of(&self.state_manifest).into(),
            delta: BlobId::of(&self.delta),
            delta_bytes: self.delta.len() as u64,
            trace: BlobId::of(&trace),
            trace_bytes: trace.len() as u64,
            steps: self.trace.header.steps,
            tokens: self.tokens,
            loss_nanonats: self.loss_nanonats,
        }
    }
}

/// A window under way.
pub struct WindowRun<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) task: &'a WindowTask,
    context: ContextSegment,
    /// θ_start. A caller that keeps the checkpoint may lend it.
    start: Cow<'a, [f32]>,
    /// Parameters, gradient and moments, on the device.
    pub(crate) resident: Resident,
    /// AdamW steps behind the moments.
    pub(crate) optimizer_steps: u64,
    /// The miner's error feedback, flat, which only the compressor reads and changes.
    pub(crate) error: Vec<f32>,
    /// Leaves made so far: leaf 0 and one for each inner step taken.
    pub(crate) leaves: Vec<Leaf>,
}

impl<'a> WindowRun<'a> {
    /// A window at its start: `start` are the checkpoint's parameters, `state` the miner's.
    ///
    /// A window takes 20 bytes a parameter (parameters, gradient, two moments, error feedback) beside `start`,
    /// and the model's activations until the last inner step.
    pub fn new(
        recipe: &'a Recipe,
        task: &'a WindowTask,
        start: impl Into<Cow<'a, [f32]>>,
        state: MinerState,
    ) -> Result<Self, TrainError> {
        let start = start.into();
        let wrong = |what: String| Err(TrainError::Task(what));
        let count = recipe.parameter_count();
        for (name, vector) in [
            ("parameters", &*start),
            ("first moments", &state.first),
            ("second moments", &state.second),
            ("error feedback", &state.error),
        ] {
            if vector.len() != count {
                return wrong(format!("{} {name} for a model of {count}", vector.len()));
            }
        }
        if task.steps == 0 || task.steps > recipe.genesis.inner.steps {
            return wrong(format!("{} inner steps where H is {}", task.steps, recipe.genesis.inner.steps));
        }
        let context = recipe.genesis.context_at(task.window.0);
        let needed = u64::from(task.steps) * u64::from(context.batch_sequences);
        if (task.pages.len() as u64) < needed {
            return wrong(format!("{} pages for {} inner steps, which take {needed}", task.pages.len(), task.steps));
        }
        let refusal = fit::refusal(recipe, task.window).map_err(|source| TrainError::Step { step: 1, source })?;
        if let Some((device, reason)) = refusal {
            return Err(TrainError::TooLarge { device, reason });
        }
        let MinerState { optimizer_steps, first, second, error } = state;
        let resident = Resident::load(recipe, task.window, Cow::Borrowed(&*start), [first, second])?;
        let first_leaf = Leaf { loss_bits: 0, tensors: resident.hashes()? };
        Ok(Self { recipe, task, context, start, resident, optimizer_steps, error, leaves: vec![first_leaf] })
    }

    /// Inner steps taken so far.
    pub fn steps_taken(&self) -> u32 {
        self.leaves.len() as u32 - 1
    }

    /// The claim that a validator proves its replay with, over the state as it is now.
    pub(crate) fn claim(&self, draw: &ProofDraw) -> Result<Hash, DeviceError> {
        self.resident.claim(draw)
    }

    /// Of each tensor the bytes that its leaf has the hash of: elements, first moments, second moments. A
    /// validator shows them when it says that another's proof is wrong.
    ///
    /// # Errors
    /// The device fails.
    pub fn tensor_states(&self) -> Result<Vec<Vec<u8>>, TrainError> {
        Ok(self.resident.tensor_states()?)
    }

    /// The inputs of the next inner step.
    fn next_inputs(&self, pages: PageSource<'_>) -> Result<StepInputs, TrainError> {
        let index = self.steps_taken();
        let step = index + 1;
        let numbers = batch(&self.task.pages, index as usize, self.context.batch_sequences as usize)
            .expect("the task was checked to have a page for every sequence of its steps");
        let mut micro_batches = Vec::new();
        for micro_batch in numbers.chunks(self.context.micro_batch_sequences as usize) {
            let mut sequences = Vec::new();
            for &page in micro_batch {
                sequences.extend(pages(page).map_err(|source| TrainError::Page { step, source })?);
            }
            micro_batches.push(sequences);
        }
        let run_step = self.task.window.0 * u64::from(self.recipe.genesis.inner.steps) + u64::from(index);
        Ok(StepInputs { step, run_step, optimizer_step: self.optimizer_steps + 1, micro_batches })
    }

    /// Takes the next inner step and makes its leaf. If the step is drawn, the CPU takes it again.
    pub fn step(&mut self, pages: PageSource<'_>) -> Result<StepReport, TrainError> {
        let (recipe, window) = (self.recipe, self.task.window);
        let inputs = self.next_inputs(pages)?;
        let step = inputs.step;
        let is_drawn = recheck::is_step_drawn(recipe, self.task, step);
        let before = if is_drawn { Some(self.resident.vectors_on_host()?) } else { None };
        let taken = self.resident.take(recipe, window, &inputs);
        let Taken { loss, norm, learning_rate } = taken.map_err(|source| TrainError::Step { step, source })?;
        let leaf = Leaf { loss_bits: loss.to_bits(), tensors: self.resident.hashes()? };
        if let Some(before) = before {
            recheck::step_again(recipe, window, &inputs, before, &leaf)?;
        }
        self.optimizer_steps = inputs.optimizer_step;
        self.leaves.push(leaf);
        let tokens = recipe.step_tokens(window);
        Ok(StepReport { step, steps: self.task.steps, loss, norm, learning_rate, tokens })
    }

    /// The same window, which goes on with another recipe of the same run, on other devices.
    pub(crate) fn go_on_with(self, recipe: &'a Recipe) -> Result<Self, TrainError> {
        let [parameters, first, second] = self.resident.vectors_on_host()?;
        drop(self.resident);
        let resident = Resident::load(recipe, self.task.window, Cow::Owned(parameters), [first, second])?;
        Ok(WindowRun { recipe, resident, ..self })
    }

    /// Compresses what the steps changed, and makes the last leaf.
    pub fn finish(self) -> Result<WindowResult, TrainError> {
        let (recipe, task) = (self.recipe, self.task);
        let Returned { pseudo_gradient, first, second } = self.resident.finish(&self.start)?;
        drop(self.start);
        let header = DeltaHeader { run: recipe.run.hash(), window: task.window.0, miner: *task.miner.as_bytes() };
        let mut state = MinerState { optimizer_steps: self.optimizer_steps, first, second, error: self.error };
        let delta = compress(&recipe.tensors, &recipe.compression, &header, &pseudo_gradient, &mut state.error)?;
        if recipe.genesis.is_null(task.window.0) {
            // No outer step follows, so nothing of this window is owed to a later one.
            state.error.fill(0.0);
        }
        let last = tensors::hashes(&tensors::ranges(&recipe.tensors), [&state.first, &state.second, &state.error]);
        let listed = |(spec, hash): (&TensorSpec, &Hash)| TensorBlob { spec: spec.clone(), blob: (*hash).into() };
        let state_manifest = State {
            run: recipe.run,
            optimizer_steps: state.optimizer_steps,
            tensors: recipe.tensors.iter().zip(&last).map(listed).collect(),
        };
        let loss = self.leaves.last().map_or(0.0, |leaf| f64::from_bits(leaf.loss_bits));
        let mut leaves = self.leaves;
        leaves.push(Leaf { loss_bits: 0, tensors: last });
        let header = TraceHeader {
            run: recipe.run,
            window: task.window,
            miner: task.miner,
            steps: task.steps,
            tensors: recipe.tensors.len() as u32,
        };
        Ok(WindowResult {
            delta,
            trace: Trace { header, leaves },
            state,
            loss_nanonats: nanonats(loss),
            tokens: u64::from(task.steps) * recipe.step_tokens(task.window),
            state_manifest,
        })
    }
}

/// Takes inner steps until there are `steps` of them, or until `watch` stops the window.
pub(crate) fn take_steps(
    run: &mut WindowRun<'_>,
    steps: u32,
    pages: PageSource<'_>,
    watch: &mut dyn Watch,
) -> Result<ControlFlow<()>, TrainError> {
    if run.steps_taken() == 0 && watch.leaf(run, 0, &run.leaves[0]).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    while run.steps_taken() < steps {
        let report = run.step(pages)?;
        watch.step(&report);
        let taken = run.steps_taken();
        if watch.leaf(run, taken, &run.leaves[taken as usize]).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Runs a window to its end, or until `watch` stops it (then there is no result). A window that was resumed
/// goes on where it was; its earlier leaves are not shown again.
pub fn run_window(
    mut run: WindowRun<'_>,
    pages: PageSource<'_>,
    watch: &mut dyn Watch,
) -> Result<Option<WindowResult>, TrainError> {
    let steps = run.task.steps;
    match take_steps(&mut run, steps, pages, watch)? {
        ControlFlow::Break(()) => Ok(None),
        ControlFlow::Continue(()) => run.finish().map(Some),
    }
}
