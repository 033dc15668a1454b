//! Facts that the driver has noticed since its start: whether peers were heard, and the times that `status` tells. Only
//! `Ears::have_heard` decides whether the node signs, and no journal holds any of it.

use templar_home::memory::Silence;
use templar_manifest::WindowIndex;
use templar_protocol::Phase;
use tokio::time::Instant;

/// The state of listening since the start of a node.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// Whether a peer has given all its entries, or no peer could be reached.
    pub(super) have_heard: bool,
    /// The reason for its silence that the user was told.
    pub(super) told: Option<Silence>,
}

/// The times that the driver has noticed.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// The phase of the open window, and when this node first saw it.
    pub(super) phase: Option<(WindowIndex, Phase, Instant)>,
    /// When the last entry came from a peer.
    pub(super) heard: Option<Instant>,
}
