//! Carries the protocol's inputs and outputs with a real clock, store and network.
//!
//! * [`home`]: the directory that holds a node's key, blobs and runs.
//! * [`journal`]: the entries that a node accepted, durable before anybody hears of them.
//! * [`context`], [`configure`]: a run's genesis, from one dial, or from a Hugging Face [`folder`].
//! * [`access`]: a home as a command uses it, also beside a running node ([`socket`]).
//! * [`replica`]: the protocol's node on top of its journal; [`registration`]: how a home comes by a slot.
//! * [`settings`]: how the network is used, and the file of a home that says so; [`clock`]: this machine's against others'.
//! * [`doctor`]: everything that a node depends on, looked at; [`metrics`]: what a node counts.
//! * [`demo`]: a whole run on one machine.
//! * [`driver`]: a running node, which brings blobs from its [`peers`] and says what happens as [`event`]s.
//! * [`exchange`]: short visits to the network: joining, fetching, healing; [`tally`]: how far one is.
//! * [`retention`]: which blobs of a run must stay; [`inventory`]: what a home holds, and what of it may go.
//! * [`workbench`]: the work with tensors that the protocol asks for.
//!
//! There are no rules here: what is valid, who does what and who is paid is decided in `templar-protocol`.

pub mod access;
pub mod clock;
mod compute;
pub mod configure;
pub mod context;
pub mod demo;
pub mod doctor;
pub mod driver;
pub mod event;
pub mod exchange;
pub mod folder;
pub mod home;
pub mod inventory;
pub mod journal;
pub mod metrics;
pub mod peers;
pub mod registration;
pub mod replica;
pub mod retention;
pub mod settings;
pub mod socket;
pub mod tally;
pub mod workbench;
