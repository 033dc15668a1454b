//! Every connection with each peer, in either direction, so that all of them can be ended together.
//!
//! Why: iroh keeps sending to the address that worked last for as long as any connection with the peer exists. A peer that
//! died and came back at another port calls us from there, its call keeps the old address chosen, and whatever we dial
//! goes to a port where nobody listens. Invariant: holds weak handles only, so that nothing lives longer through it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use iroh::endpoint::{Connection, WeakConnectionHandle};

use crate::peer::PeerId;
use crate::serve::code;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    open: Mutex<BTreeMap<PeerId, Vec<WeakConnectionHandle>>>,
    /// Peers that a test has cut off: every connection with them ends at once.
    #[cfg(test)]
    cut: Mutex<std::collections::BTreeSet<PeerId>>,
}

fn is_open(line: &WeakConnectionHandle) -> bool {
    line.upgrade().is_some_and(|connection| connection.close_reason().is_none())
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Vec<WeakConnectionHandle>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a new connection, and forgets those that have ended.
    pub(crate) fn add(&self, connection: &Connection) {
        let mut open = self.lock();
        open.retain(|_, lines| {
            lines.retain(is_open);
            !lines.is_empty()
        });
        open.entry(*connection.remote_id().as_bytes()).or_default().push(connection.weak_handle());
        drop(open);
        #[cfg(test)]
        self.end_if_cut(connection.remote_id().as_bytes());
    }

    /// From now on there is no connection with any of `peers`.
    #[cfg(test)]
    pub(crate) fn cut_off(&self, peers: &[PeerId]) {
        *self.cut.lock().unwrap() = peers.iter().copied().collect();
        peers.iter().for_each(|peer| self.end_if_cut(peer));
    }

    #[cfg(test)]
    fn end_if_cut(&self, peer: &PeerId) {
        if self.cut.lock().unwrap().contains(peer) {
            self.hang_up(peer);
        }
    }

    /// How many connections with the peer have not ended, as far as this side knows.
    pub(crate) fn count(&self, peer: &PeerId) -> usize {
        self.lock().get(peer).map_or(0, |lines| lines.iter().filter(|line| is_open(line)).count())
    }

    /// The connections with the peer that have not ended.
    #[cfg(test)]
    pub(crate) fn with(&self, peer: &PeerId) -> Vec<Connection> {
        let lines = self.lock();
        lines.get(peer).into_iter().flatten().filter(|line| is_open(line)).filter_map(|line| line.upgrade()).collect()
    }

    /// Ends every connection with the peer; both sides make new ones where they want any.
    pub(crate) fn hang_up(&self, peer: &PeerId) {
        let lines = self.lock().remove(peer).unwrap_or_default();
        for connection in lines.iter().filter_map(WeakConnectionHandle::upgrade) {
            connection.close(code::DONE, b"call again");
        }
    }
}
