//! Peers: their identities and addresses, their behaviour, and the connections with them.
//!
//! [`peer`] has the identities and addresses, [`reach`] says who can reach them, and [`roll`] who has a place by right.
//! [`book`] remembers peers, and [`neighbours`] chooses those whose logs are read. [`discovery`] is the configuration
//! of how peers find each other. [`pool`] makes connections for fetches, and [`connections`] knows all connections of
//! the node. Nothing here knows a message of a protocol.

pub(crate) mod book;
pub(crate) mod close_code;
pub(crate) mod connections;
pub(crate) mod discovery;
pub(crate) mod neighbours;
pub(crate) mod peer;
pub(crate) mod pool;
pub(crate) mod reach;
pub(crate) mod roll;
