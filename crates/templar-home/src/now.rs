//! The answer of a running node about the present moment, which its journal does not hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use templar_manifest::{RunId, WindowIndex};

/// The answer of a running node to a command that asks how things stand. For people; nothing in it decides anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNow {
    /// The run in which the node takes part.
    pub run: RunId,
    /// The role of the node, such as `miner`.
    pub role: String,
    /// The window that is open.
    pub window: WindowIndex,
    /// Milliseconds until the phase of that window ends at the latest, as this node saw the phase begin; `None` for a
    /// run that is over.
    pub left_ms: Option<u64>,
    /// Milliseconds since the last entry came from a peer; `None` if none came since the node started.
    pub heard_ms: Option<u64>,
    /// The number of peers whose logs the node reads now.
    pub peers: usize,
    /// The number of peers whose addresses it knows.
    pub known_peers: usize,
}

impl NodeNow {
    /// The time until the phase ends at the latest.
    pub fn left(&self) -> Option<Duration> {
        self.left_ms.map(Duration::from_millis)
    }

    /// The time since the last entry came from a peer.
    pub fn heard(&self) -> Option<Duration> {
        self.heard_ms.map(Duration::from_millis)
    }
}
