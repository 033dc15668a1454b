//! Run a window, and replay one: the same function.
//!
//! A miner calls [`run_window`] to make a contribution; a validator or an auditor calls it again with a watch that
//! compares every leaf of the trace with the miner's ([`replay`]). Both need a [`Recipe`], which is
//! derived from genesis once: the model, the inner optimiser and its schedule, the compressor, the outer step.
//!
//! The way of the data through this crate:
//!
//! 1. [`tensors::read_parameters`] and [`MinerState::read`] load a checkpoint and a miner's state from blobs.
//! 2. [`run_window`] takes up to H inner steps on the pages of the miner's slot, leaving one leaf of the trace
//!    each, then compresses θ_start − θ_end with error feedback into the delta.
//! 3. [`outer_step`] applies the aggregated deltas in record order and gives the next checkpoint;
//!    [`aggregate_step`] does so for whoever has them merged as one blob.
//! 4. [`evaluate`] and [`trial`] measure losses, in integers of 1e-9 nats.
//!
//! Nothing here reads a clock, a file or a socket; pages, blobs and parameters come in as arguments. The same arguments
//! give the same bytes for every number of threads and every instruction set.

mod evaluate;
mod outer;
mod recipe;
mod replay;
mod resident;
mod schedule;
mod snapshot;
mod state;
pub mod tensors;
mod window;

pub use evaluate::{evaluate, nanonats, nats, trial};
pub use outer::{OuterError, aggregate_step, outer_step};
pub use recipe::{Recipe, RecipeError};
pub use replay::{Claim, Replayed, replay};
pub use schedule::learning_rate;
pub use state::MinerState;
pub use window::{Pages, StepReport, Task, TrainError, Watch, WindowResult, WindowRun, run_window};
