//! What the driver has noticed since its start: whether peers were heard, and the times that `status` tells. Nothing of it
//! decides what is signed but `Ears::have_heard`, and no journal holds it.

use templar_home::memory::Silence;
use templar_manifest::WindowIndex;
use templar_protocol::Phase;
use tokio::time::Instant;

/// What a node has heard since its start.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// Whether a peer has given all its entries, or no peer could be reached.
    pub(super) have_heard: bool,
    /// The reason for its silence that the user was told.
    pub(super) told: Option<Silence>,
}

/// What the driver has noticed of time.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// The phase of the open window, and when this node first saw it.
    pub(super) phase: Option<(WindowIndex, Phase, Instant)>,
    /// When the last entry came from a peer.
    pub(super) heard: Option<Instant>,
}
