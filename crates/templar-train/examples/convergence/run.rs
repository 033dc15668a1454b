//! Runs one of the three methods, window by window.
//!
//! All three take the same inner steps, and SparseLoCo uses the library's `compress`, `decode` and
//! `outer_step`. A miner's window is `run_window` without the trace, which takes time and changes nothing: a
//! test compares the bytes of the delta and the state with those of `run_window`.

use std::error::Error;
use std::mem::take;

use templar_blob::MemoryBlobs;
use templar_delta::{Delta, DeltaHeader, compress, decode};
use templar_device::Buffer;
use templar_manifest::WindowIndex;
use templar_model::{Model, Moments, OptimizerStep};
use templar_train::tensors::ranges;
use templar_train::{MinerState, Recipe, evaluate, learning_rate, outer_step};

use crate::data::Data;
use crate::plan::{BATCH, Config, Method, SEQUENCE};
use crate::workers::Workers;

/// The error type of workers, which goes to another thread.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The progress of a run between two windows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// The number of windows done.
    pub(crate) windows: u64,
    /// The shared parameters, `[P]`.
    pub(crate) parameters: Vec<f32>,
    /// The outer momentum, `[P]`. It stays zero for methods without one.
    pub(crate) momentum: Vec<f32>,
    /// The state of each miner. AdamW has one state for all miners.
    pub(crate) miners: Vec<MinerState>,
}

/// The buffers that an inner step changes, on the device.
struct Trained {
    parameters: Buffer,
    gradient: Buffer,
    moments: Moments,
}

/// A configuration of a run, with everything that it needs.
pub(crate) struct Run<'a> {
    config: &'a Config,
    recipe: Recipe,
    data: &'a Data,
    workers: &'a Workers,
    order: Vec<u64>,
}

impl<'a> Run<'a> {
    /// Prepares a run of this configuration.
    pub(crate) fn new(config: &'a Config, data: &'a Data, workers: &'a Workers) -> Result<Self, Failure> {
        let recipe = config.recipe(data.vocab_size)?;
        let order = data.order(config.seed, (config.tokens / u64::from(SEQUENCE)) as usize);
        Ok(Self { config, recipe, data, workers, order })
    }

    /// The progress at the start of the run.
    pub(crate) fn start(&self) -> State {
        let count = self.recipe.parameter_count();
        let miners = if self.config.method == Method::AdamW { 1 } else { self.config.miners as usize };
        State {
            windows: 0,
            parameters: self.recipe.initial_parameters(&MemoryBlobs::new()).expect("they are drawn from a seed"),
            momentum: vec![0.0; count],
            miners: vec![MinerState::zero(count); miners],
        }
    }

    /// The model. Its context is the same in every window.
    fn model(&self) -> Model {
        self.recipe.model(WindowIndex(0))
    }

    /// The pages of `miner` in inner step `step` of the run.
    pub(crate) fn pages(&self, step: u64, miner: u32) -> &[u64] {
        let first = (step as usize * self.config.miners as usize + miner as usize) * BATCH as usize;
        &self.order[first..first + BATCH as usize]
    }

    /// Runs the next window. Returns the compressor's input of the first miner, before the sent values were
    /// subtracted, or `None` for a method without a compressor.
    pub(crate) fn window(&self, state: &mut State) -> Result<Vec<f32>, Failure> {
        let compressed = match self.config.method {
            Method::AdamW => self.adamw(state).map(|()| Vec::new()),
            Method::DiLoCo { rate_ppm, momentum_ppm } => {
                self.diloco(state, rate_ppm, momentum_ppm).map(|()| Vec::new())
            }
            Method::SparseLoCo(_) => self.sparseloco(state),
        }?;
        state.windows += 1;
        Ok(compressed)
    }

    /// The mean loss of every `stride`-th held-out page, in 1e-9 nats: first each page by the library's rule,
    /// then the mean of the integers.
    pub(crate) fn held_out(&self, parameters: &[f32], stride: usize) -> Result<u64, Failure> {
        let pages: Vec<&Vec<u32>> = self.data.held_out.iter().step_by(stride).collect();
        let parts: Vec<&[&Vec<u32>]> = pages.chunks(16).collect();
        let parameters = self.recipe.device.upload(parameters.into())?;
        let sums = self.workers.map(parts, |pages| {
            let mut model = self.model();
            pages
                .iter()
                .map(|page| evaluate(&mut model, &parameters, std::slice::from_ref(*page)))
                .sum::<Result<u64, _>>()
        });
        let sum: u64 = sums.into_iter().sum::<Result<u64, _>>()?;
        Ok(sum / pages.len() as u64)
    }

    /// Writes the gradient of the mean loss over `pages` into `gradient`.
    fn gradient(
        &self,
        model: &mut Model,
        parameters: &Buffer,
        pages: &[u64],
        gradient: &mut Buffer,
    ) -> Result<(), Failure> {
        let tokens: Vec<u32> = pages.iter().flat_map(|&page| self.data.page(page)).copied().collect();
        let scale = (1.0 / self.recipe.step_tokens(WindowIndex(0)) as f64) as f32;
        model.forward_backward(parameters, &tokens, scale, gradient)?;
        Ok(())
    }

    /// Takes inner step `step` of the run, with AdamW. Its moments hold `number` steps afterwards.
    fn optimise(&self, model: &Model, (step, number): (u64, u64), trained: &mut Trained) -> Result<(), Failure> {
        let learning_rate = learning_rate(&self.recipe.genesis.inner.schedule, step);
        let at = OptimizerStep { settings: &self.recipe.adamw, learning_rate, number };
        let Trained { parameters, gradient, moments } = trained;
        templar_model::step(model, at, parameters, gradient, moments)?;
        Ok(())
    }

    /// Takes parameters and a miner's moments to the device.
    fn load(&self, parameters: Vec<f32>, state: &mut MinerState) -> Result<Trained, Failure> {
        let device = &self.recipe.device;
        let gradient = device.zeros(parameters.len() as u64)?;
        let upload = |values: Vec<f32>| device.upload(values.into());
        let moments = Moments { first: upload(take(&mut state.first))?, second: upload(take(&mut state.second))? };
        Ok(Trained { parameters: upload(parameters)?, gradient, moments })
    }

    /// Brings them back: the moments into `state`, the parameters as what is returned.
    fn unload(&self, trained: Trained, state: &mut MinerState) -> Result<Vec<f32>, Failure> {
        let device = &self.recipe.device;
        state.first = device.download(trained.moments.first)?;
        state.second = device.download(trained.moments.second)?;
        Ok(device.download(trained.parameters)?)
    }

    /// Takes the inner steps of one miner from the shared parameters and returns the parameters after them.
    pub(crate) fn inner_steps(
        &self,
        window: u64,
        miner: u32,
        parameters: Vec<f32>,
        state: &mut MinerState,
    ) -> Result<Vec<f32>, Failure> {
        let mut model = self.model();
        let mut trained = self.load(parameters, state)?;
        let steps = u64::from(self.config.steps);
        for step in window * steps..(window + 1) * steps {
            self.gradient(&mut model, &trained.parameters, self.pages(step, miner), &mut trained.gradient)?;
            state.optimizer_steps += 1;
            self.optimise(&model, (step, state.optimizer_steps), &mut trained)?;
        }
        self.unload(trained, state)
    }

    fn adamw(&self, state: &mut State) -> Result<(), Failure> {
        let device = &self.recipe.device;
        let own = &mut state.miners[0];
        let mut trained = self.load(take(&mut state.parameters), own)?;
        let miner = |_| Ok((self.model(), device.zeros(trained.parameters.len())?));
        let mut buffers = (0..self.config.miners).map(miner).collect::<Result<Vec<(Model, Buffer)>, Failure>>()?;
        let share = 1.0 / self.config.miners as f32;
        let steps = u64::from(self.config.steps);
        for step in state.windows * steps..(state.windows + 1) * steps {
            let parameters = &trained.parameters;
            let done = self.workers.map((0..).zip(&mut buffers).collect(), |(miner, (model, gradient))| {
                self.gradient(model, parameters, self.pages(step, miner), gradient)
            });
            done.into_iter().collect::<Result<Vec<()>, _>>()?;
            // The mean gradient, in the order of the miners, in place of the gradient of the step.
            device.fill(trained.gradient.all_mut(), 0.0);
            for (_, gradient) in &buffers {
                device.add(trained.gradient.all_mut(), gradient.all());
            }
            device.scale(trained.gradient.all_mut(), share);
            let Some((model, _)) = buffers.first() else { break };
            own.optimizer_steps += 1;
            self.optimise(model, (step, own.optimizer_steps), &mut trained)?;
        }
        state.parameters = self.unload(trained, own)?;
        Ok(())
    }

    fn diloco(&self, state: &mut State, rate_ppm: u32, momentum_ppm: u32) -> Result<(), Failure> {
        let (window, parameters) = (state.windows, &state.parameters);
        let ends = self.workers.map((0..).zip(&mut state.miners).collect(), |(miner, own)| {
            self.inner_steps(window, miner, parameters.clone(), own)
        });
        let ends = ends.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (rate, momentum) = (f64::from(rate_ppm) / 1e6, f64::from(momentum_ppm) / 1e6);
        nesterov(&mut state.parameters, &mut state.momentum, &ends, rate, momentum);
        Ok(())
    }

    fn sparseloco(&self, state: &mut State) -> Result<Vec<f32>, Failure> {
        let (window, parameters) = (state.windows, &state.parameters);
        let deltas = self.workers.map((0..).zip(&mut state.miners).collect(), |(miner, own)| {
            let bytes = self.contribute(window, miner, parameters, own)?;
            Ok(decode(&bytes, &self.recipe.tensors, &self.recipe.compression, &self.header(window, miner))?)
        });
        let deltas = deltas.into_iter().collect::<Result<Vec<Delta>, Failure>>()?;
        outer_step(&self.recipe, WindowIndex(window), &deltas, &mut state.parameters)?;
        Ok(compressed(&self.recipe, &deltas[0], &state.miners[0].error))
    }

    /// The delta of one miner for a window, with exactly the bytes of `run_window`, without the trace.
    pub(crate) fn contribute(
        &self,
        window: u64,
        miner: u32,
        parameters: &[f32],
        state: &mut MinerState,
    ) -> Result<Vec<u8>, Failure> {
        let end = self.inner_steps(window, miner, parameters.to_vec(), state)?;
        let change: Vec<f32> = parameters.iter().zip(&end).map(|(start, end)| start - end).collect();
        let (tensors, settings) = (&self.recipe.tensors, &self.recipe.compression);
        Ok(compress(tensors, settings, &self.header(window, miner), &change, &mut state.error)?)
    }

    fn header(&self, window: u64, miner: u32) -> DeltaHeader {
        DeltaHeader { run: self.recipe.run.hash(), window, miner: [miner as u8; 32] }
    }
}

/// Nesterov's outer step on DiLoCo's mean pseudo-gradient g (arXiv:2311.08105): m ← μm + g, θ ← θ − α(g + μm).
/// It is computed in f64, and each number is rounded once.
pub(crate) fn nesterov(parameters: &mut [f32], momentum: &mut [f32], ends: &[Vec<f32>], rate: f64, mu: f64) {
    for (index, (parameter, momentum)) in parameters.iter_mut().zip(momentum).enumerate() {
        let start = f64::from(*parameter);
        let mean = ends.iter().map(|end| start - f64::from(end[index])).sum::<f64>() / ends.len() as f64;
        let next = mu * f64::from(*momentum) + mean;
        *momentum = next as f32;
        *parameter = (start - rate * (mean + mu * next)) as f32;
    }
}

/// The input of the compressor, which is the error feedback that it left plus the values that it sent.
fn compressed(recipe: &Recipe, delta: &Delta, error: &[f32]) -> Vec<f32> {
    let mut values = error.to_vec();
    for (index, range) in ranges(&recipe.tensors).into_iter().enumerate() {
        for (place, value) in delta.tensor(index).entries() {
            values[range.start + place as usize] += value;
        }
    }
    values
}
