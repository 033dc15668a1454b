//! AdmissionControl bounds the requests that this node serves at the same time: in all, per peer, and of all strangers
//! together.
//!
//! Invariant: every request that is admitted holds a [`Permit`], and dropping the permit makes room for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::peers::peer::PeerId;
use crate::peers::roll::Roll;

/// Counts what is being served and admits more up to its bounds.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    max: usize,
    max_per_peer: usize,
    roll: Roll,
    /// The number of permits that each peer holds.
    admitted: Mutex<BTreeMap<PeerId, usize>>,
}

impl AdmissionControl {
    /// Admits at most `max` over all peers, half of them of strangers, and at most `max_per_peer` of each.
    pub(crate) fn new(max: usize, max_per_peer: usize, roll: Roll) -> Arc<Self> {
        Arc::new(Self { max, max_per_peer, roll, admitted: Mutex::default() })
    }

    /// Returns a permit for one more of `peer`, if there is room.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Option<Permit> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = admitted.values().sum();
        let own = admitted.get(&peer).copied().unwrap_or(0);
        let strangers =
            || admitted.iter().filter(|(peer, _)| self.roll.is_stranger(peer)).map(|(_, count)| count).sum::<usize>();
        if total >= self.max
            || own >= self.max_per_peer
            || (self.roll.is_stranger(&peer) && strangers() >= self.max.div_ceil(2))
        {
            return None;
        }
        admitted.insert(peer, own + 1);
        Some(Permit { admission: self.clone(), peer })
    }

    /// The number of permits that are held now.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// The room of one request.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<AdmissionControl>,
    peer: PeerId,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut admitted = self.admission.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = admitted.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                admitted.remove(&self.peer);
            }
        }
    }
}
