//! Tools that only tests, demos and simulations use. Nobody needs them to take part in a run.
//!
//! * [`noise`]: a delta that is well formed and that nobody computed.
//! * [`forge`]: results of a window that are well formed in every byte and that nobody computed.
//! * [`trainer`]: a miner that sends such results, to put in the place of an honest trainer.
//! * [`pacing`]: random pauses before the acts of a node, to try other orders of events.
//! * [`TwinDevice`]: a device that computes every operation with the slow twin of the specification.
//! * [`FaultyDevice`]: a device that is lost, runs out of memory, or computes something else at a chosen moment.
//! * [`long_run`]: a home with thousands of closed windows that nobody trained.
//! * [`demo`]: a whole run of two validators and some miners on one machine, one of which cheats.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use templar_node::driver::{DriverConfig, NodeRole, Pacing};
//! use templar_node::settings::Networking;
//! use templar_testkit::pacing::RandomPauses;
//! use templar_testkit::trainer::NoiseTrainer;
//!
//! // A miner that cheats, and pauses for up to 150 ms before each act.
//! let mut cheat = DriverConfig::new(NodeRole::Miner, Networking::default());
//! cheat.trainer = Arc::new(NoiseTrainer);
//! cheat.pacing = Some(Arc::new(RandomPauses::new(Duration::from_millis(150), 1)));
//!
//! // The same seed gives the same pauses.
//! let (one, other) = (RandomPauses::new(Duration::from_secs(1), 7), RandomPauses::new(Duration::from_secs(1), 7));
//! assert_eq!(one.next_pause(), other.next_pause());
//! assert!(one.next_pause() < Duration::from_secs(1));
//! ```

#[cfg(feature = "node")]
pub mod demo;
mod faulty_device;
pub mod forge;
#[cfg(feature = "node")]
pub mod long_run;
pub mod noise;
#[cfg(feature = "node")]
pub mod pacing;
#[cfg(feature = "node")]
pub mod trainer;
mod twin_device;

pub use faulty_device::{Fault, FaultyDevice};
pub use twin_device::TwinDevice;
