//! The configuration of a node, the parts that it is made of, and the errors with which it stops.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use templar_home::context::RunContext;
use templar_home::inventory::InventoryError;
use templar_home::memory::Silence;
use templar_home::replica::{ReplicaError, SubmitError};
use templar_home::{Home, HomeError, HomeLock};
use templar_manifest::{Hash, PublicKey, SecretKey};
use templar_net::{BindError, PeerAddr};
use templar_store::Store;

use crate::executor::WorkError;
use crate::settings::Networking;
use crate::trainer::{HonestTrainer, Trainer};

/// The role of a node: the work that it does of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It trains the model.
    Miner,
    /// It judges contributions and closes windows.
    Validator,
    /// It keeps and serves all evidence.
    Seeder,
    /// It serves the blobs that it has, and relays entries.
    Sharer,
}

/// A pause before each act of a node: each task that it starts and each document that it signs.
///
/// A node that works has none. Tests put random pauses there to see that no order of events changes the result.
pub trait Pacing: Debug + Send + Sync {
    /// How long to wait before the next act.
    fn next_pause(&self) -> Duration;
}

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// The role of the node.
    pub role: NodeRole,
    /// Its use of the network.
    pub networking: Networking,
    /// The address at which `/metrics` is answered, if any.
    pub metrics: Option<SocketAddr>,
    /// Peers that it knows at the start, besides those of its home.
    pub peers: Vec<PeerAddr>,
    /// The source of a miner's results.
    pub trainer: Arc<dyn Trainer>,
    /// A blob or a collection that gets a ticket of its own.
    pub share: Option<Offer>,
    /// Pauses before its acts. Used by tests alone.
    pub pacing: Option<Arc<dyn Pacing>>,
    /// Whether it removes what no run needs any more as windows close, see [`templar_home::retention`].
    pub prune: bool,
}

impl NodeRole {
    /// Whether a node of this role signs statements about the run.
    pub(super) fn signs(self) -> bool {
        matches!(self, Self::Miner | Self::Validator)
    }
}

impl DriverConfig {
    /// A node in this role that trains honestly, knows nobody, shares no blob, prunes nothing and answers no metrics.
    pub fn new(role: NodeRole, networking: Networking) -> Self {
        Self {
            role,
            networking,
            metrics: None,
            peers: Vec::new(),
            trainer: Arc::new(HonestTrainer),
            share: None,
            pacing: None,
            prune: false,
        }
    }
}

/// A thing that gets a ticket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// One blob, by its hash.
    Blob(Hash),
    /// A collection, by its list, with all blobs on it: see [`templar_net::collect`].
    Collection(Hash),
}

/// Everything on this machine that a node is made of.
pub struct NodeParts {
    /// The home, whose lock ends with the driver.
    pub home: Home,
    /// The lock of the home.
    pub lock: HomeLock,
    /// The blob store of the home.
    pub store: Store,
    /// The run in which it takes part.
    pub context: RunContext,
    /// The key with which it signs.
    pub key: SecretKey,
}

/// A node cannot start or cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The run's journal cannot be opened or folded.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The network endpoint cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The journal cannot be written, or the rules refuse this node's own entry.
    #[error("this node's own entry was not taken")]
    Submit(#[from] SubmitError),
    /// The work cannot be done or its result cannot be kept.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// A file of the home cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It is not known which blobs may be pruned.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The local socket cannot be opened.
    #[error("the local socket cannot be opened")]
    Socket(#[source] std::io::Error),
    /// The address for metrics cannot be bound.
    #[error("cannot answer metrics at {addr}")]
    Metrics {
        /// The address that was asked for.
        addr: SocketAddr,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// This node must not sign anything.
    #[error(transparent)]
    Silent(#[from] Silence),
    /// The genesis does not name this key as a validator's.
    #[error("key {0} is not a validator of this run")]
    NotAValidator(PublicKey),
}
