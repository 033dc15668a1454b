//! How many connections, or requests, are served at once, in all and per peer.
//!
//! Invariant: whatever is admitted holds a [`Pass`], and what it counts is given back when the pass is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::endpoint::{Connection, VarInt};

use crate::config::Limits;
use crate::lines::Lines;
use crate::metrics::NetMetrics;
use crate::peer::PeerId;

/// Where the connections of one protocol come in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    gate: Arc<Gate>,
    lines: Arc<Lines>,
    metrics: Arc<NetMetrics>,
}

impl Door {
    /// A door with a gate of its own.
    pub(crate) fn new(limits: &Limits, lines: Arc<Lines>, metrics: Arc<NetMetrics>) -> Self {
        let (max, max_per_peer) = limits.inbound();
        Self { gate: Gate::new(max, max_per_peer), lines, metrics }
    }

    /// Takes in a connection that a peer made, or closes it with this code where there is no room.
    pub(crate) fn enter(&self, connection: &Connection, busy: VarInt) -> Option<Pass> {
        let pass = self.gate.admit(*connection.remote_id().as_bytes());
        if pass.is_some() {
            self.metrics.connections_accepted.inc();
            self.lines.add(connection);
        } else {
            self.metrics.connections_refused.inc();
            connection.close(busy, b"too many connections");
        }
        pass
    }
}

/// Admits connections or requests up to its limits.
#[derive(Debug)]
pub(crate) struct Gate {
    max: usize,
    max_per_peer: usize,
    admitted: Mutex<BTreeMap<PeerId, usize>>,
}

impl Gate {
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_peer, admitted: Mutex::default() })
    }

    /// A pass for one more of `peer`, if there is room.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Option<Pass> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = admitted.values().sum();
        let own = admitted.get(&peer).copied().unwrap_or(0);
        if total >= self.max || own >= self.max_per_peer {
            return None;
        }
        admitted.insert(peer, own + 1);
        Some(Pass { gate: self.clone(), peer })
    }

    /// How many are admitted now.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// Room for one connection or request.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    peer: PeerId,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut admitted = self.gate.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = admitted.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                admitted.remove(&self.peer);
            }
        }
    }
}
