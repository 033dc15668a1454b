//! The policy that decides which blob may be served to which peer.
//!
//! Invariant: the network asks the policy for every request, so a policy may change its answers at any time.
//! That is how a miner's delta stays private until the window's cut is certified.

use templar_manifest::Hash;

use crate::peers::peer::PeerId;

/// Decides which blobs this node serves, and to whom.
pub trait ServePolicy: Send + Sync + 'static {
    /// Returns whether `blob` may be served to the peer `to` now. It is called for every request and must not
    /// block.
    fn may_serve(&self, blob: &Hash, to: &PeerId) -> bool;
}

/// A policy that serves every blob to everybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeAll;

impl ServePolicy for ServeAll {
    fn may_serve(&self, _blob: &Hash, _to: &PeerId) -> bool {
        true
    }
}

/// A policy that serves nothing, for commands that only fetch.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeNone;

impl ServePolicy for ServeNone {
    fn may_serve(&self, _blob: &Hash, _to: &PeerId) -> bool {
        false
    }
}
