//! Trainers that do not train.

use templar_delta::DeltaHeader;
use templar_manifest::Hash;
use templar_node::trainer::{Trainer, TrainingJob};
use templar_train::{TrainError, Watch, WindowResult, WindowRun};

use crate::forge::forge;
use crate::noise::random_delta;

/// Gives a well-formed delta of noise with a made-up trace and takes no step. The demo's cheat is such a miner.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoiseTrainer;

impl Trainer for NoiseTrainer {
    fn train(&self, job: TrainingJob<'_>, _watch: &mut dyn Watch) -> Result<Option<WindowResult>, TrainError> {
        let TrainingJob { recipe, task, parameters, before, .. } = job;
        let seed = Hash::of(format!("{} {}", task.window, task.miner).as_bytes());
        let header = DeltaHeader { run: recipe.run.hash(), window: task.window.0, miner: *task.miner.as_bytes() };
        let delta = random_delta(&recipe.tensors, &recipe.compression, &header, seed.as_bytes(), 1e-3)?;
        forge(WindowRun::new(recipe, task, parameters, before)?, delta, &seed).map(Some)
    }
}
