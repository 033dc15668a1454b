//! Carries the protocol's inputs and outputs with a real clock, store and network.
//!
//! * [`home`]: the directory that holds a node's key, blobs and runs.
//! * [`journal`]: the entries that a node accepted, durable before anybody hears of them.
//! * [`context`], [`configure`]: a run's genesis, from one dial.
//! * [`access`]: a home as a command uses it, also beside a running node ([`socket`]).
//! * [`replica`]: the protocol's node on top of its journal.
//! * [`workbench`]: the work with tensors that the protocol asks for.
//!
//! There are no rules here: what is valid, who does what and who is paid is decided in `templar-protocol`.

pub mod access;
pub mod configure;
pub mod context;
pub mod event;
pub mod home;
pub mod journal;
pub mod replica;
pub mod socket;
pub mod workbench;
