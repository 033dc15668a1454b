//! One participant of a run at work: carries the protocol's inputs and outputs with a real clock, store and network.
//!
//! * [`driver`]: a running node. It starts the work that the protocol wants, and reports [`event`]s.
//! * [`executor`]: the work with tensors; [`trainer`]: the source of a miner's results.
//! * [`gather`]: brings blobs from [`peers`]; [`serving`]: the part of a node that peers get.
//! * [`exchange`]: short visits to the network: joining, fetching, healing; [`tally`]: the progress of one.
//! * [`ahead`]: asks peers what they know beyond a journal.
//! * [`settings`]: the use of the network, and the file of a home that sets it.
//! * [`clock`]: compares this machine's clock with others; [`doctor`]: checks everything that a node depends on.
//! * [`metrics`]: the counters of a node; [`http`]: a server with bounds; [`stop`]: the signal that ends one.
//!
//! `templar-home` has what a participant keeps on disk. There are no rules here: `templar-protocol` decides which
//! entries are valid, which member does what, and how much each is paid.
//!
//! A node that is configured with nothing else listens on this machine alone and trains honestly:
//!
//! ```
//! use templar_node::driver::{DriverConfig, NodeRole};
//! use templar_node::settings::{NetworkSettings, Networking};
//!
//! let config = DriverConfig::new(NodeRole::Miner, Networking::default());
//! assert!(config.networking.bind.ip().is_loopback());
//! assert!(config.peers.is_empty() && !config.prune);
//!
//! // A node that is to be found in the local network listens on all interfaces. Here it serves 2 MB a second.
//! let settings = NetworkSettings { lan: Some(true), limits: "upload=2MB".parse()?, ..Default::default() };
//! assert!(settings.networking(&[]).bind.ip().is_unspecified());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod ahead;
pub mod clock;
mod compute;
pub mod doctor;
pub mod driver;
pub mod event;
pub mod exchange;
pub mod executor;
pub mod gather;
pub mod http;
mod local_socket;
pub mod metrics;
pub mod peers;
pub mod serving;
pub mod settings;
pub mod stop;
pub mod tally;
pub mod trainer;
