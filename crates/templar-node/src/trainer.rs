//! The trait that gives a miner's result of a window, and its honest implementation.
//!
//! A node trains with [`HonestTrainer`]. The trait is a seam for tests and demonstrations: they put a trainer
//! there that does not train, and show that validators find out.

use std::fmt::Debug;
use std::io::Read;

use templar_train::{
    MinerState, PageSource, Recipe, TrainError, Watch, WindowResult, WindowRun, WindowTask, run_window,
};

/// The inputs of the training of one window.
pub struct TrainingJob<'a> {
    /// The recipe of the run, derived from its genesis.
    pub recipe: &'a Recipe,
    /// The window, the miner, its pages and its number of inner steps.
    pub task: &'a WindowTask,
    /// The checkpoint before the window: all parameters of the model, flat, in the model's order.
    pub parameters: &'a [f32],
    /// The miner's state before the window.
    pub before: MinerState,
    /// Reads a page of tokens.
    pub pages: PageSource<'a>,
    /// The snapshot that an interrupted training of this window has left; empty where there is none.
    pub snapshot: &'a mut dyn Read,
}

/// Gives the result of a window.
pub trait Trainer: Debug + Send + Sync {
    /// Trains `job`; `watch` hears of every inner step and may stop the work. `None` where it did.
    ///
    /// # Errors
    /// The task does not fit the recipe, a page cannot be read, or a step gives numbers that are not finite.
    fn train(&self, job: TrainingJob<'_>, watch: &mut dyn Watch) -> Result<Option<WindowResult>, TrainError>;
}

/// Takes every inner step, going on from the snapshot where there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct HonestTrainer;

impl Trainer for HonestTrainer {
    fn train(&self, job: TrainingJob<'_>, watch: &mut dyn Watch) -> Result<Option<WindowResult>, TrainError> {
        let TrainingJob { recipe, task, parameters, before, pages, mut snapshot } = job;
        let run = WindowRun::resume(recipe, task, parameters, before, &mut snapshot)?;
        run_window(run, pages, watch)
    }
}
