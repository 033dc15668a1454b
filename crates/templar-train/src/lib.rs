//! Runs a window, and replays one with the same function.
//!
//! A miner calls [`run_window`] to make a contribution. A validator or an auditor calls [`replay`], which runs
//! the window again and compares every leaf of the trace with the miner's. Both need a [`Recipe`], which is
//! derived from genesis once: the model, the inner optimiser and its schedule, the compressor, the outer step,
//! and the device that computes.
//!
//! ```
//! use templar_blob::MemoryBlobs;
//! use templar_manifest::testing::GenesisBuilder;
//! use templar_manifest::{Hash, PublicKey, Replay, RunId, WindowIndex};
//! use templar_train::{Claim, MinerState, Recipe, WindowRun, WindowStart, WindowTask, replay, run_window};
//!
//! let recipe = Recipe::new(RunId::new(Hash::of(b"a run")), GenesisBuilder::tiny("an example").build())?;
//! let context = recipe.genesis.context_at(0);
//! let steps = recipe.genesis.inner.steps;
//! let task = WindowTask {
//!     window: WindowIndex(0),
//!     miner: PublicKey::from_bytes([1; 32]),
//!     pages: (0..u64::from(steps * context.batch_sequences)).collect(),
//!     steps,
//! };
//! // A page is one token longer than a sequence: its last token is only predicted.
//! let pages = |page: u64| Ok((0..=context.sequence_length).map(|place| (page as u32 + place) % 7).collect());
//!
//! // The miner trains.
//! let parameters = recipe.initial_parameters(&MemoryBlobs::new())?;
//! let state = MinerState::zero(recipe.parameter_count());
//! let run = WindowRun::new(&recipe, &task, &parameters, state.clone())?;
//! let result = run_window(run, &pages, &mut ())?.expect("nobody stops the window");
//! let state_in = MinerState::zero_id(recipe.run, &recipe.tensors);
//! let contribution = result.contribution(&recipe, None, state_in);
//!
//! // A validator replays its contribution.
//! let start = WindowStart { task: &task, parameters: parameters.into(), state };
//! let claim = Claim { contribution: &contribution, trace: &result.trace };
//! assert_eq!(replay(&recipe, start, claim, &[], &pages)?.verdict, Replay::Match);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The way of the data through this crate:
//!
//! 1. [`tensors::read_parameters`] and [`MinerState::read`] load a checkpoint and a miner's state from blobs.
//! 2. [`run_window`] takes up to H inner steps on the pages of the miner's slot, leaving one leaf of the trace
//!    each, then compresses θ_start − θ_end with error feedback into the delta.
//! 3. [`outer_step`] applies the aggregated deltas in record order and gives the next checkpoint.
//!    [`aggregate_step`] takes the same step from the deltas merged as one blob.
//! 4. [`evaluate`] and [`trial`] measure losses, in integers of 1e-9 nats.
//!
//! On a device that is [rechecked](templar_device::Device::is_rechecked), samples of the steps and of the measured
//! pages are computed again on the CPU, and so is every step at which a replay disagrees with a miner. A window that
//! does not fit the device is refused before any work.
//!
//! Nothing here reads a clock, a file or a socket. Pages, blobs and parameters come in as arguments. The same
//! arguments give the same bytes for every number of threads and on every device.

mod evaluate;
mod fit;
mod helpers;
mod outer;
mod recheck;
mod recheck_rate;
mod recipe;
mod replay;
mod resident;
mod schedule;
mod snapshot;
mod state;
mod task;
pub mod tensors;
mod window;

pub use evaluate::{evaluate, evaluate_with_states, nanonats, nats, trial};
pub use fit::{Cut, TooLarge};
pub use outer::{OuterError, aggregate_step, outer_step};
pub use recheck_rate::{DEFAULT_RECHECKS, recheck_one_in};
pub use recipe::{Recipe, RecipeError};
pub use replay::{Claim, Replayed, WindowStart, replay, replay_up_to};
pub use schedule::learning_rate;
pub use state::MinerState;
pub use task::{TrainError, WindowTask};
pub use templar_model::StepError;
pub use window::{PageSource, StepReport, Watch, WindowResult, WindowRun, run_window};
