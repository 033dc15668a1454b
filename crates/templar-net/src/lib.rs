//! A node's connections: blobs fetched from whoever has them, log entries pulled from every peer, what may be served.
//!
//! A [`Net`] is one iroh endpoint (QUIC, authenticated by the node's ed25519 key: the peer's id *is* its public key).
//! Three protocols run over it:
//!
//! - **blobs** (iroh-blobs): bytes named by their hash, verified while they arrive, resumed where they stopped.
//!   [`Net::fetch_all`] takes many blobs, each from all who have it at once; a [`ServePolicy`] is asked before anything
//!   is served.
//! - **have** (`templar/have/0`): which of some blobs, and which parts of them, a peer could serve now.
//! - **sync** (`templar/sync/0`): a long-lived stream on which a peer sends the entries of its [`Log`] and goes on sending as
//!   the log grows. Entries are opaque here; the node decodes and checks them.
//!
//! # How entries spread, and why there is no gossip beside it
//!
//! A node reads the logs of a few neighbours that it chose by a secret of its own, and of those that read its own
//! ([`Limits::neighbours`], [`Limits::followers`]); what it accepts goes into its log, and so to all of them. The graph is
//! connected although nobody knows more than a part of it (250 nodes with 8 choices each: a test computes it), and its edges
//! go both ways, so one entry reaches everybody in a few hops. Three things make this converge where gossip needs a second
//! protocol to repair it. A stream is ordered and lossless, and a reader that was cut off says where it stopped. A reader that
//! never read this log, or forgot, names its *milestones*, and is sent what lies behind the latest that both have reached, so
//! a late joiner or a node that restarts costs one log and not one for each neighbour. And an entry that was refused because it
//! came too early is asked for again ([`Net::read_again`]).
//!
//! What it costs is copies: an entry arrives from each neighbour that did not get it from us, so up to about sixteen times with
//! eight choices. The entries of a window are kilobytes for each participant, and deltas travel as blobs, once. When entries
//! outgrow that (thousands of participants, or records of many megabytes), announcing hashes first, as iroh-gossip's trees do,
//! would save most copies; the log would still be what repairs a loss. `BENCH.md` has what an idle neighbour costs.
//!
//! Nothing here is trusted: hashes verify blobs, signatures inside the entries verify entries, and an address book
//! holds addresses only, so a lying peer costs time and never truth. Everything works on a bare loopback with no relay
//! and no name service; [`Reach`] says what else is used, and `GUIDE.md` walks through it.

mod book;
mod clock;
mod collection;
mod config;
mod error;
mod fetch;
mod gate;
mod have;
#[cfg(feature = "lan")]
mod lan;
mod lines;
mod metrics;
mod neighbours;
mod net;
mod pace;
mod peer;
mod pool;
mod probe;
mod provide;
mod pull;
mod rate;
mod reach;
mod serve;
mod swarm;
#[cfg(test)]
mod tests;
mod ticket;
mod transfer;
mod wire;

pub use clock::{Clock, Skew};
pub use collection::{collect, file_path};
pub use config::{Congestion, Limits, NetConfig};
pub use error::{BindError, FetchError, ProviderAnswer};
pub use fetch::{Fetched, FetchedTicket};
pub use metrics::NetMetrics;
pub use net::Net;
pub use peer::{Addr, MAX_ADDRS, PeerAddr, PeerAddrError, PeerId};
pub use probe::{Probe, ProbeError, Prober};
pub use provide::{ServeAll, ServeNone, ServePolicy};
pub use pull::Pulled;
pub use reach::{Reach, Relays, RelaysError};
pub use serve::{EmptyLog, Log};
pub use swarm::Progress;
pub use ticket::{AnyTicket, BlobTicket, Ticket, TicketError};
pub use wire::{MAX_ENTRY_BYTES, SYNC_ALPN};
