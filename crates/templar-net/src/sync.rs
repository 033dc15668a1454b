//! Sync: log entries travel from node to node over `templar/sync/0`.
//!
//! [`log`] is the node's log as the network sees it, [`wire`] has the messages, [`server`] answers readers and
//! [`pull`] reads the logs of others. [`probe`] asks a peer for its greeting alone, and [`clock`] compares the
//! clocks that greetings carry.

pub(crate) mod clock;
pub(crate) mod log;
pub(crate) mod probe;
pub(crate) mod pull;
pub(crate) mod server;
pub(crate) mod wire;
