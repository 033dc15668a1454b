//! A node's connections: blobs fetched from whoever has them, log entries pulled from every peer, what may be served.
//!
//! A [`Net`] is one iroh endpoint (QUIC, authenticated by the node's ed25519 key: the peer's id *is* its public key).
//! Three protocols run over it:
//!
//! - **blobs** (iroh-blobs): bytes named by their hash, verified while they arrive, resumed where they stopped.
//!   [`Net::fetch_all`] takes many blobs, each from all who have it at once; a [`ServePolicy`] is asked before anything
//!   is served.
//! - **have** (`templar/have/0`): which of some blobs, and which parts of them, a peer could serve now.
//! - **sync** (`templar/sync/0`): one long-lived stream per peer on which the other side sends the entries of its
//!   [`Log`] and goes on sending as the log grows. Entries are opaque here; the node decodes and checks them.
//!
//! Nothing here is trusted: hashes verify blobs, signatures inside the entries verify entries, and an address book
//! holds addresses only, so a lying peer costs time and never truth. Everything works on a bare loopback with no relay
//! and no name service.

mod book;
mod config;
mod error;
mod fetch;
mod gate;
mod have;
mod lines;
mod net;
mod peer;
mod pool;
mod provide;
mod pull;
mod rate;
mod serve;
mod swarm;
#[cfg(test)]
mod tests;
mod ticket;
mod transfer;
mod wire;

pub use config::{Limits, NetConfig};
pub use error::{BindError, FetchError, ProviderAnswer};
pub use fetch::{Fetched, FetchedTicket};
pub use net::Net;
pub use peer::{MAX_ADDRS, PeerAddr, PeerAddrError, PeerId};
pub use provide::{ServeAll, ServeNone, ServePolicy};
pub use pull::Pulled;
pub use serve::{EmptyLog, Log};
pub use swarm::Progress;
pub use ticket::{AnyTicket, BlobTicket, Ticket, TicketError};
pub use wire::{MAX_ENTRY_BYTES, SYNC_ALPN};
