//! Carries the protocol's inputs and outputs with a real clock, store and network.
//!
//! * [`driver`]: a running node, which brings blobs from its [`peers`] and says what happens as [`event`]s.
//! * [`gather`]: brings blobs from peers. [`exchange`]: short visits to the network: joining, fetching, healing; [`tally`]: how far one is.
//! * [`executor`]: the work with tensors that the protocol asks for; [`trainer`]: how a miner comes by its result.
//! * [`settings`]: how the network is used, and the file of a home that says so; [`clock`]: this machine's against others'.
//! * [`doctor`]: everything that a node depends on, looked at; [`metrics`]: what a node counts.
//!
//! What a participant keeps on disk is in `templar-home`. There are no rules here: what is valid, who does what and who is
//! paid is decided in `templar-protocol`.

pub mod clock;
mod compute;
mod damage;
pub mod doctor;
pub mod driver;
pub mod event;
pub mod exchange;
pub mod executor;
pub mod gather;
mod local_socket;
pub mod metrics;
pub mod peers;
pub mod serving;
pub mod settings;
pub mod stop;
pub mod tally;
pub mod trainer;
