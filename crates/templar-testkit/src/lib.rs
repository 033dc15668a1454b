//! What only tests, demos and simulations use. Nothing here is needed to take part in a run.
//!
//! * [`forge`]: results of a window that are well formed in every byte and that nobody computed.
//! * [`trainer`]: a miner that sends such results, to put in the place of an honest trainer.
//! * [`pacing`]: random pauses before the acts of a node, to try other orders of events.
//! * [`demo`]: a whole run of two validators and some miners on one machine, one of which cheats.

pub mod demo;
pub mod forge;
pub mod pacing;
pub mod trainer;
