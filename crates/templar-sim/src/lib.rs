//! Whole runs of the protocol in one process, repeated exactly from a seed.
//!
//! Every miner and validator is a `templar_protocol::Node`, the same state machine that a real node drives, and
//! the simulator has no rules of its own. It supplies what a real node gets from the world: a virtual clock, a
//! network that loses messages and splits, crashes after which a node is rebuilt from its journal, and members
//! that cheat. Losses and replays, for which a real node needs tensors, come from a statistical model
//! (`loss_model.rs`), or from a tiny model that is really trained (`training.rs`).
//!
//! * [`Config`] sets the members, the length, the seed, the faults and the adversaries.
//! * [`Simulation::run`] runs it, and checks the invariants (`checks.rs`) whenever a node closes a window.
//! * [`Report`] is the result. A [`Violation`] names an invariant that does not hold, and the command that
//!   shows it again.
//! * [`Strategy`] lists the adversaries. Each is a row of a table; [`table`] measures what it earns.
//!
//! # Example
//!
//! Three miners and one validator, for two windows. The same seed gives the same history.
//!
//! ```
//! use templar_sim::{Config, Faults, Simulation};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { miners: 3, validators: 1, windows: 2, seed: 7, faults: Faults::None, ..Config::default() };
//! let report = Simulation::new(config.clone())?.run(&mut |progress| {
//!     println!("window {} after {} ms of the virtual clock", progress.windows, progress.simulated_ms);
//! })?;
//! assert_eq!(report.progress.windows, 2);
//!
//! let again = Simulation::new(config)?.run(&mut |_| ())?;
//! assert_eq!(report.state, again.state);
//! # Ok(())
//! # }
//! ```

mod blobs;
mod checks;
mod config;
mod engine;
mod journal;
mod kept;
mod loss_model;
mod member;
mod network;
mod report;
mod rng;
mod settings;
mod setup;
mod strategy;
pub mod table;
mod tally;
mod training;
mod world;

#[cfg(test)]
mod tests;

pub use checks::Violation;
pub use config::{Config, Faults, PayRule, ReplayMode, SimConfigError};
pub use engine::{LIVENESS_MS, Simulation};
pub use kept::KeptRun;
pub use report::{Earned, Report, SimProgress};
pub use strategy::{MemberRole, Strategy};
pub use tally::{Notice, Planted};
