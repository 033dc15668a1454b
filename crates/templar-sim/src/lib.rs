//! Whole runs in one process, from a seed: the protocol's inputs and outputs, carried with a virtual clock, a network that
//! loses and splits, nodes that crash, and members that cheat.
//!
//! There are no rules here. Every miner and validator is a `templar_protocol::Node`, the same that a real node drives, and
//! hears of others only through entries. What tensors would decide is decided by a statistical model (`worth.rs`) or, where it
//! is asked for, by a tiny model that is really trained (`training.rs`).
//!
//! * [`Config`] says how many, for how long, from which seed, what breaks and who cheats.
//! * [`Simulation::run`] carries it out and checks the invariants (`checks.rs`) whenever a node closes a window.
//! * [`Report`] is what came of it; a [`Violation`] says what does not hold and the command that shows it again.
//! * [`Strategy`] lists the ways to cheat.

mod checks;
mod config;
mod dice;
mod engine;
mod member;
mod network;
mod report;
mod start;
mod strategy;
pub mod table;
mod training;
mod worth;

#[cfg(test)]
mod tests;

pub use checks::{Notice, Violation};
pub use config::{Config, ConfigError, Faults, Pay, Replays};
pub use engine::{LIVENESS_MS, Simulation};
pub use report::{Earned, Planted, Progress, Report};
pub use strategy::{Role, Strategy};
