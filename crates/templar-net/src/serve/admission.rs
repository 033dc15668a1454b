//! AdmissionControl bounds the connections, or the requests, that this node serves at the same time: in all,
//! and per peer.
//!
//! Invariant: everything that is admitted holds a [`Permit`], and dropping the permit frees its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::endpoint::{Connection, VarInt};

use crate::config::ConnectionLimits;
use crate::metrics::NetMetrics;
use crate::peers::connections::Connections;
use crate::peers::peer::PeerId;

/// The entrance for connections that peers make in one protocol.
#[derive(Debug, Clone)]
pub(crate) struct Inbound {
    admission: Arc<AdmissionControl>,
    connections: Arc<Connections>,
    metrics: Arc<NetMetrics>,
}

impl Inbound {
    /// An entrance with counts of its own.
    pub(crate) fn new(limits: &ConnectionLimits, connections: Arc<Connections>, metrics: Arc<NetMetrics>) -> Self {
        let (max, max_per_peer) = limits.inbound();
        Self { admission: AdmissionControl::new(max, max_per_peer), connections, metrics }
    }

    /// Admits a connection that a peer made. Where there is no room, it closes the connection with the code
    /// `busy`.
    pub(crate) fn admit(&self, connection: &Connection, busy: VarInt) -> Option<Permit> {
        let permit = self.admission.admit(*connection.remote_id().as_bytes());
        if permit.is_some() {
            self.metrics.connections_accepted.inc();
            self.connections.add(connection);
        } else {
            self.metrics.connections_refused.inc();
            connection.close(busy, b"too many connections");
        }
        permit
    }
}

/// Counts what is being served and admits more up to its bounds.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    max: usize,
    max_per_peer: usize,
    /// The number of permits that each peer holds.
    admitted: Mutex<BTreeMap<PeerId, usize>>,
}

impl AdmissionControl {
    /// Admits at most `max` over all peers, and at most `max_per_peer` of each.
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_peer, admitted: Mutex::default() })
    }

    /// Returns a permit for one more of `peer`, if there is room.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Option<Permit> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = admitted.values().sum();
        let own = admitted.get(&peer).copied().unwrap_or(0);
        if total >= self.max || own >= self.max_per_peer {
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

/// The place of one connection or request.
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
