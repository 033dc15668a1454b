//! The contributions of miners that really train: an honest window, and what each strategy makes of one.

use templar_delta::{DeltaHeader, compress};
use templar_manifest::{Contribution, Hash, PublicKey, Replay, StateId, WindowIndex, payload};
use templar_protocol::RunState;
use templar_testkit::forge::{forge, make_up};
use templar_testkit::noise::random_delta;
use templar_train::{MinerState, TrainError, WindowResult, WindowRun, WindowTask, run_window};

use super::Training;
use crate::loss_model::{DeltaGain, Truth};
use crate::settings::STEPS;
use crate::strategy::{Audience, MinerView, SentContribution, Strategy, plants_in};

/// The token that planted pages repeat.
const TRIGGER: u32 = 7;

/// Why a miner's window could not be computed. It is a bug of the simulation: every strategy is possible.
pub(crate) type TrainingFailure = Box<dyn std::error::Error>;

/// A miner at work in the open window.
struct Miner<'a> {
    training: &'a Training,
    state: &'a RunState,
    me: PublicKey,
    start: &'a [f32],
    before: MinerState,
    state_in: StateId,
}

impl Miner<'_> {
    /// The task of this miner on the pages of a member.
    fn task(&self, steps: u32, pages_of: &PublicKey) -> WindowTask {
        let pages = self.state.pages_of(pages_of).unwrap_or_default();
        WindowTask { window: self.state.window(), miner: self.me, pages, steps }
    }

    fn header(&self) -> DeltaHeader {
        DeltaHeader { run: self.training.recipe.run.hash(), window: self.state.window().0, miner: *self.me.as_bytes() }
    }

    /// Runs a window from the parameters `start`, with every page changed by `change`.
    fn run(
        &self,
        task: &WindowTask,
        start: &[f32],
        change: impl Fn(Vec<u32>) -> Vec<u32> + Sync,
    ) -> Result<WindowResult, TrainingFailure> {
        let inputs = self.training.inputs()?;
        let run = WindowRun::new(&self.training.recipe, task, start, self.before.clone())?;
        let pages = |page| inputs.page(task.window, page).map(&change);
        run_window(run, &pages, &mut ())?.ok_or_else(|| "nobody stops it".into())
    }

    fn honest(&self, steps: u32) -> Result<WindowResult, TrainingFailure> {
        self.run(&self.task(steps, &self.me), self.start, |page| page)
    }

    /// Runs a window on its own pages with a trigger in them.
    fn poisoned(&self) -> Result<WindowResult, TrainingFailure> {
        let planted = |page: Vec<u32>| {
            page.iter().enumerate().map(|(at, &token)| if at % 4 == 3 { TRIGGER } else { token }).collect()
        };
        self.run(&self.task(STEPS, &self.me), self.start, planted)
    }

    /// Encodes values as a delta of this window.
    fn delta_of(&self, values: &[f32]) -> Result<Vec<u8>, TrainError> {
        let recipe = &self.training.recipe;
        let mut error = vec![0.0; values.len()];
        Ok(compress(&recipe.tensors, &recipe.compression, &self.header(), values, &mut error)?)
    }

    /// The values of a delta, dense: `[P]`.
    fn values(&self, contribution: &Contribution, delta: &[u8]) -> Result<Vec<f32>, TrainingFailure> {
        let recipe = &self.training.recipe;
        let decoded = recipe.decode_delta(contribution, delta)?;
        let mut values = vec![0.0; recipe.parameter_count()];
        for (index, range) in templar_train::tensors::ranges(&recipe.tensors).into_iter().enumerate() {
            for (place, value) in decoded.tensor(index).entries() {
                values[range.start + place as usize] = value;
            }
        }
        Ok(values)
    }

    /// A made-up result with this delta.
    fn forged(&self, delta: Vec<u8>) -> Result<WindowResult, TrainError> {
        let seed = Hash::of(format!("{} {}", self.state.window(), self.me).as_bytes());
        let task = self.task(STEPS, &self.me);
        forge(WindowRun::new(&self.training.recipe, &task, self.start, self.before.clone())?, delta, &seed)
    }

    /// The contribution that claims a result.
    fn claim(&self, result: &WindowResult) -> Contribution {
        let parent = self.state.parent(&self.me).map(|parent| parent.contribution);
        result.contribution(&self.training.recipe, parent, self.state_in)
    }

    /// An honest result whose delta is multiplied.
    fn scaled(&self, by: f32) -> Result<WindowResult, TrainingFailure> {
        let mut result = self.honest(STEPS)?;
        let mut values = self.values(&self.claim(&result), &result.delta)?;
        values.iter_mut().for_each(|value| *value *= by);
        result.delta = self.delta_of(&values)?;
        Ok(result)
    }
}

impl Training {
    /// The contributions that a miner with this strategy sends for the open window, which may be none. Without
    /// a strategy it is honest.
    pub(crate) fn contributions(
        &mut self,
        strategy: Option<Strategy>,
        view: MinerView<'_>,
    ) -> Result<Vec<SentContribution>, TrainingFailure> {
        let parent = view.state.parent(&view.me);
        let state_in = parent.map_or(view.state.zero_state(), |parent| parent.state_out);
        let start = self.parameters(&view.state.checkpoint())?;
        let before = self.state(&state_in)?;
        let miner = Miner { training: self, state: view.state, me: view.me, start, before, state_in };
        let window = view.state.window();
        let mut first = None;
        let mut results = Vec::new();
        match strategy {
            None
            | Some(
                Strategy::Late
                | Strategy::Withhold
                | Strategy::KeepState
                | Strategy::TooManySteps
                | Strategy::FalseParent
                | Strategy::Enrol
                | Strategy::EnrolFree,
            ) => results.push(miner.honest(STEPS)?),
            Some(Strategy::Zeros) => {
                let delta = miner.delta_of(&vec![0.0; self.recipe.parameter_count()])?;
                results.push(miner.forged(delta)?);
            }
            Some(Strategy::WithholdState) if parent.is_none() => results.push(miner.honest(STEPS)?),
            Some(Strategy::Noise | Strategy::WithholdState) => {
                let seed = Hash::of(format!("noise {window} {}", view.me).as_bytes());
                let recipe = &self.recipe;
                let header = miner.header();
                let delta = random_delta(&recipe.tensors, &recipe.compression, &header, seed.as_bytes(), 1e-3)?;
                results.push(miner.forged(delta)?);
            }
            Some(Strategy::Stale) => match self.first.get(&view.me) {
                Some(values) => results.push(miner.forged(miner.delta_of(values)?)?),
                None => {
                    let result = miner.honest(STEPS)?;
                    first = Some(miner.values(&miner.claim(&result), &result.delta)?);
                    results.push(result);
                }
            },
            Some(Strategy::CopyHash | Strategy::CopyPerturbed | Strategy::CopyAfterCut) => {
                let Some(other) = view.heard else { return Ok(Vec::new()) };
                let delta = self.blob(&other.delta.hash())?;
                let mut values = miner.values(other, &delta)?;
                if strategy == Some(Strategy::CopyPerturbed) {
                    values.iter_mut().step_by(7).for_each(|value| *value *= 1.25);
                }
                results.push(miner.forged(miner.delta_of(&values)?)?);
            }
            Some(Strategy::WrongBase) => {
                // In the first window there is no older one.
                let older = self.models.values().filter(|(from, _)| *from < window).min_by_key(|(from, _)| *from);
                let Some((_, older)) = older else { return Ok(Vec::new()) };
                results.push(miner.run(&miner.task(STEPS, &view.me), older, |page| page)?);
            }
            Some(Strategy::WrongPages) => {
                let mut owners = view.state.members().iter().map(|member| member.owner);
                let Some(other) = owners.find(|owner| *owner != view.me) else { return Ok(Vec::new()) };
                results.push(miner.run(&miner.task(STEPS, &other), miner.start, |page| page)?);
            }
            Some(Strategy::FewerSteps) => {
                let mut result = miner.honest(STEPS / 2)?;
                result.trace.header.steps = STEPS;
                make_up(&mut result, STEPS / 2, &Hash::of(b"fewer steps"));
                result.tokens *= 2;
                results.push(result);
            }
            Some(Strategy::GrindSteps) => {
                let mut true_ones = vec![miner.honest(STEPS)?, miner.honest(STEPS - 1)?];
                let claims: Vec<Contribution> = true_ones.iter().map(|result| miner.claim(result)).collect();
                results.push(true_ones.swap_remove(view.foresight.best(view.state, &claims)));
            }
            Some(Strategy::TwoContributions) => {
                results.extend([miner.honest(STEPS)?, miner.honest(STEPS - 1)?]);
            }
            Some(Strategy::Garbage) => results.push(miner.forged(b"no delta at all".to_vec())?),
            Some(Strategy::Scale) => results.push(miner.scaled(10.0)?),
            Some(Strategy::SignFlip) => results.push(miner.scaled(-1.0)?),
            Some(Strategy::Poison) => results.push(miner.poisoned()?),
            Some(Strategy::Plant) if plants_in(&view.state.genesis().initial, window) => {
                results.push(miner.poisoned()?)
            }
            Some(Strategy::Plant) => results.push(miner.honest(STEPS)?),
            Some(Strategy::BadState) => {
                let mut result = miner.honest(STEPS)?;
                result.state.error.iter_mut().for_each(|value| *value *= 3.0);
                let run = self.recipe.run;
                let kept = |_| Ok::<(), std::convert::Infallible>(());
                let Ok(manifest) = result.state.write(run, &self.recipe.tensors, kept);
                result.state_manifest = manifest;
                results.push(result);
            }
            Some(Strategy::Sybil) => results.push(miner.honest(STEPS / 10)?),
            Some(Strategy::HalfSteps) => results.push(miner.honest(STEPS / 2)?),
            Some(_) => return Ok(Vec::new()),
        }
        let claims: Vec<Contribution> = results.iter().map(|result| miner.claim(result)).collect();
        if let Some(values) = first {
            self.first.insert(view.me, values);
        }
        let mut sent = Vec::new();
        for (index, (result, mut contribution)) in results.into_iter().zip(claims).enumerate() {
            match (strategy, view.heard) {
                (Some(Strategy::TooManySteps), _) => {
                    contribution.tokens += contribution.tokens / u64::from(contribution.steps);
                    contribution.steps += 1;
                }
                (Some(Strategy::FalseParent), _) => contribution.state_in = Hash::of(b"no state").into(),
                (Some(Strategy::CopyHash), Some(other)) => {
                    (contribution.delta, contribution.delta_bytes) = (other.delta, other.delta_bytes);
                    (contribution.trace, contribution.state_out) = (other.trace, other.state_out);
                }
                _ => {}
            }
            self.keep(window, result);
            let body = self.body(&contribution);
            let truth = Truth {
                gain: DeltaGain::NOTHING,
                // Here replays are computed, so the verdict is not stated.
                replay: Replay::NotDrawn,
                served: strategy != Some(Strategy::Withhold),
                body,
            };
            let audience = if index == 0 { Audience::All } else { Audience::Half };
            sent.push(SentContribution { contribution, truth, audience });
        }
        Ok(sent)
    }

    /// Keeps the state and the blobs of a result.
    fn keep(&mut self, window: WindowIndex, result: WindowResult) {
        let id: StateId = payload::id_of(&result.state_manifest).into();
        self.states.insert(id, (window, result.state));
        self.blobs.insert(result.delta);
        self.blobs.insert(result.trace.encode());
    }

    fn blob(&self, id: &Hash) -> Result<Vec<u8>, TrainingFailure> {
        use templar_blob::BlobSource as _;
        Ok(self.blobs.read(id, u64::MAX)?.to_vec())
    }

    /// The name of a delta's body; `None` where it is no delta of this miner.
    fn body(&self, contribution: &Contribution) -> Option<Hash> {
        let bytes = self.blob(&contribution.delta.hash()).ok()?;
        Some(self.recipe.decode_delta(contribution, &bytes).ok()?.body_hash())
    }
}
