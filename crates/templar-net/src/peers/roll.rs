//! The roll: the peers that have a place with this node by right, because they take part in its run.
//!
//! Anybody can make keys, so whatever is given to whoever comes first is given to whoever makes most keys. A
//! validator's key has stake behind it and a member's key has a slot, and there is a bounded number of both.
//! Invariant: a peer on the roll never loses a place to a stranger, and a validator never loses one to a member.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::peers::peer::PeerId;

/// The standing of a peer in the run. A later one has the better right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Standing {
    /// The run does not know it.
    #[default]
    Stranger,
    /// It has a slot.
    Member,
    /// It votes.
    Validator,
}

/// The standing of every peer, shared by all parts of a node's network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roll {
    known: Arc<RwLock<BTreeMap<PeerId, Standing>>>,
}

impl Roll {
    /// The standing of a peer.
    pub(crate) fn standing(&self, peer: &PeerId) -> Standing {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(peer).copied().unwrap_or_default()
    }

    /// Whether the run does not know a peer.
    pub(crate) fn is_stranger(&self, peer: &PeerId) -> bool {
        self.standing(peer) == Standing::Stranger
    }

    /// Puts another list into the place of the roll. All peers that it does not name are strangers from now on.
    pub(crate) fn replace(&self, known: BTreeMap<PeerId, Standing>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}
