//! The network of a node: it fetches blobs from the peers that have them, and spreads log entries among nodes.
//!
//! # Endpoint and peers
//!
//! A [`Net`] is one iroh endpoint. It speaks QUIC over UDP, and every connection is encrypted and authenticated
//! by the nodes' ed25519 keys. A peer's id ([`PeerId`]) *is* its public key. A [`PeerAddr`] adds the addresses
//! at which the peer may be reached; a false address costs time, but can never lead to a false peer. The
//! address book remembers peers and their behaviour.
//!
//! # Blobs
//!
//! A blob is a sequence of bytes that is named by its BLAKE3 hash. [`Net::fetch_all`] takes many blobs, each
//! from all peers that have it at once. Bytes are verified while they arrive, and a fetch resumes where an
//! earlier one stopped. Blobs travel in the protocol of iroh-blobs, so its other clients are peers as well.
//! Beside it, the protocol `templar/have/0` lets a node ask a peer which blobs, and which parts of them, it
//! could serve now.
//!
//! Before a node serves a blob, it asks its [`ServePolicy`]. That keeps a miner's delta private until the
//! window's cut is certified.
//!
//! # Entries
//!
//! Each node has a [`Log`] of the entries that it has accepted: signed contributions, votes and records. In the
//! protocol `templar/sync/0` a peer sends the entries of its log and goes on sending as the log grows.
//! [`Net::pull_entries`] reads the logs of other nodes. Entries are opaque here: the node decodes them and
//! checks their signatures.
//!
//! A node reads the logs of a few neighbours that it chose by a secret of its own, and of the followers that
//! read its own log (see [`SyncLimits`]). An accepted entry enters its log, and so goes to all of them. The
//! graph of neighbours is connected, although nobody knows more than a part of it: a test computes this for 250
//! nodes with eight choices each. Its edges go both ways, so one entry reaches every node in a few hops.
//!
//! # Why there is no gossip protocol in addition
//!
//! A gossip protocol loses messages and needs a second protocol to repair the losses. Reading logs needs no
//! repair, for three reasons. A stream is ordered and lossless, and a reader that was cut off says where it
//! stopped. A reader that has never read this log names the *milestones* that it has reached, and is sent only
//! the entries behind the latest one that both sides have reached; so a late joiner pays for one log, not for
//! one log per neighbour. And an entry that was refused because it came too early is asked for again with
//! [`Net::read_again`].
//!
//! The price is copies. An entry arrives from each neighbour that did not get it from us, up to about sixteen
//! times with eight choices. The entries of a window are a few kilobytes per participant, and deltas travel as
//! blobs, once. If entries outgrow this (with thousands of participants, or records of many megabytes),
//! announcing hashes first would save most copies, and the log would still repair losses. `BENCH.md` has the
//! cost of an idle neighbour.
//!
//! # Trust
//!
//! Nothing here is trusted. Hashes verify blobs, signatures inside the entries verify entries, and every
//! resource that a peer can use has a bound in [`NetLimits`]. So a lying peer costs time, but cannot change a
//! result. Everything works on a bare loopback interface without a relay or a name service. [`Discovery`] lists
//! the other ways to find peers, and `GUIDE.md` explains them step by step.
//!
//! # Example
//!
//! Two nodes on loopback, one of which fetches a blob from the other:
//!
//! ```
//! use std::sync::Arc;
//!
//! use templar_manifest::Hash;
//! use templar_net::{EmptyLog, Net, NetConfig, ServeAll, ServeNone};
//! use templar_store::Store;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let run = Hash::of(b"a run");
//! let (theirs, ours) = (Store::memory().await, Store::memory().await);
//! let id = theirs.put(&b"sixteen bytes..."[..]).await?;
//!
//! let log = Arc::new(EmptyLog::new(run));
//! let seeder = Net::bind(NetConfig::loopback([1; 32]), theirs, log.clone(), Arc::new(ServeAll)).await?;
//! let node = Net::bind(NetConfig::loopback([2; 32]), ours.clone(), log, Arc::new(ServeNone)).await?;
//! node.add_peer(seeder.addr())?;
//!
//! let fetched = node.fetch(&id, 1024, &[]).await?;
//! assert_eq!((fetched.size, fetched.received), (16, 16));
//! assert_eq!(&ours.get(&id, 1024).await?[..], b"sixteen bytes...");
//!
//! node.shutdown().await;
//! seeder.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod collection;
mod config;
mod endpoint;
mod error;
mod foreign;
mod frame;
mod metrics;
mod net;
mod peers;
mod ranges;
mod serve;
mod swarm;
mod sync;
#[cfg(test)]
mod tests;
mod ticket;
mod words;

pub use collection::{collect, file_path};
pub use config::{
    Clock, Congestion, ConnectionLimits, FetchingLimits, NetConfig, NetLimits, Pauses, ServingLimits, SyncLimits,
    Timeouts,
};
pub use error::{BindError, FetchError, ProviderAnswer};
pub use foreign::{ForeignText, escaped};
pub use metrics::NetMetrics;
pub use net::Net;
pub use peers::discovery::{Discovery, Relays, RelaysError};
pub use peers::peer::{Addr, MAX_ADDRS, PeerAddr, PeerAddrError, PeerId};
pub use peers::reach::{Reach, can_send};
pub use peers::roll::Standing;
pub use serve::policy::{ServeAll, ServeNone, ServePolicy};
pub use swarm::fetch::{Fetched, FetchedTicket};
pub use swarm::plan::FetchProgress;
pub use sync::clock::Skew;
pub use sync::log::{EmptyLog, Log};
pub use sync::probe::{Probe, ProbeError, Prober};
pub use sync::pull::Pulled;
pub use sync::wire::{MAX_ENTRY_BYTES, SYNC_ALPN};
pub use ticket::{AnyTicket, BlobTicket, Ticket, TicketError, blob_ticket_text};
