//! Peers: who they are, where they may be reached, how they behaved, and the connections with them.
//!
//! [`peer`] has the identities and addresses, [`book`] remembers them, [`neighbours`] chooses whose logs are
//! read. [`discovery`] is the configuration of how peers find each other, [`endpoint`] binds the socket
//! accordingly, and [`pacing`] decides how fast its connections send. [`pool`] makes connections and
//! [`connections`] knows all of them. Nothing here knows a message of a protocol.

pub(crate) mod book;
pub(crate) mod close_code;
pub(crate) mod connections;
pub(crate) mod discovery;
pub(crate) mod endpoint;
#[cfg(feature = "lan")]
pub(crate) mod lan;
pub(crate) mod neighbours;
mod pacing;
pub(crate) mod peer;
pub(crate) mod pool;
