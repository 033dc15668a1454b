//! All connections with each peer, in either direction, so that they can be closed together.
//!
//! This is needed because iroh keeps sending to the address that worked last for as long as any connection with
//! the peer exists. Suppose a peer dies and comes back at another port, and connects to us from there. Our old
//! connections keep the old address selected, so our new ones go to a port where nobody listens. Closing all
//! connections makes iroh choose again. Invariant: only weak handles are held, so nothing lives longer through
//! this table.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use iroh::endpoint::{Connection, WeakConnectionHandle};

use crate::peers::close_code;
use crate::peers::peer::PeerId;

/// The table of connections, shared by all protocols of a node.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<BTreeMap<PeerId, Vec<WeakConnectionHandle>>>,
    /// Peers that a test has cut off: every connection with them is closed at once.
    #[cfg(test)]
    cut: Mutex<std::collections::BTreeSet<PeerId>>,
}

fn is_open(handle: &WeakConnectionHandle) -> bool {
    handle.upgrade().is_some_and(|connection| connection.close_reason().is_none())
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Vec<WeakConnectionHandle>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a new connection, and forgets the connections that have ended.
    pub(crate) fn add(&self, connection: &Connection) {
        let mut open = self.lock();
        open.retain(|_, handles| {
            handles.retain(is_open);
            !handles.is_empty()
        });
        open.entry(*connection.remote_id().as_bytes()).or_default().push(connection.weak_handle());
        drop(open);
        #[cfg(test)]
        self.end_if_cut(connection.remote_id().as_bytes());
    }

    /// Allows no connection with any of `peers` from now on.
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

    /// The number of connections with the peer that are open, as far as this side knows.
    pub(crate) fn count(&self, peer: &PeerId) -> usize {
        self.lock().get(peer).map_or(0, |handles| handles.iter().filter(|handle| is_open(handle)).count())
    }

    /// The number of peers with which a connection is open, as far as this side knows.
    pub(crate) fn peers(&self) -> usize {
        self.lock().values().filter(|handles| handles.iter().any(is_open)).count()
    }

    /// The open connections with the peer.
    #[cfg(test)]
    pub(crate) fn with(&self, peer: &PeerId) -> Vec<Connection> {
        let open = self.lock();
        let handles = open.get(peer).into_iter().flatten().filter(|handle| is_open(handle));
        handles.filter_map(|handle| handle.upgrade()).collect()
    }

    /// Closes every connection with the peer. Both sides make new ones when they need any.
    pub(crate) fn hang_up(&self, peer: &PeerId) {
        let handles = self.lock().remove(peer).unwrap_or_default();
        for connection in handles.iter().filter_map(WeakConnectionHandle::upgrade) {
            connection.close(close_code::DONE, b"call again");
        }
    }
}
