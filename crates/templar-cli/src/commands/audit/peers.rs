//! The peers of a home, as an audit asks them for a later record.

use templar_home::access::Access;
use templar_manifest::{Hash, RunId};
use templar_net::PeerAddr;
use templar_node::settings::{HomeSettings, Networking};
use templar_node::{ahead, peers};
use templar_protocol::Entry;
use templar_query::audit::head::AskPeers;

use crate::commands::init::random_key;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::printer::{Printer, count};

/// The peers that a home knows, and how to reach them.
pub(super) struct KnownPeers<'a> {
    access: &'a Access,
    printer: Printer,
    run: RunId,
    networking: Networking,
    peers: Vec<PeerAddr>,
    secret_key: [u8; 32],
}

impl<'a> KnownPeers<'a> {
    /// The peers of a home but itself; `None` if it knows none.
    pub(super) fn of(invocation: &Invocation, access: &'a Access, run: RunId) -> Result<Option<Self>, CommandError> {
        let mut peers = peers::load(&access.home)?;
        if let Ok(key) = access.home.key() {
            peers.retain(|peer| peer.id != *key.public().as_bytes());
        }
        if peers.is_empty() {
            return Ok(None);
        }
        let settings = invocation.network.clone().or(HomeSettings::load(&access.home)?.network);
        let (networking, secret_key) = (settings.networking(&peers), random_key()?.to_bytes());
        Ok(Some(Self { access, printer: invocation.printer, run, networking, peers, secret_key }))
    }
}

impl std::fmt::Debug for KnownPeers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownPeers").field("run", &self.run).field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl AskPeers for KnownPeers<'_> {
    fn entries_after(&self, reached: &[Hash]) -> Vec<Vec<Entry>> {
        let Self { access, printer, run, networking, peers, secret_key } = self;
        let asking = ahead::ask(networking, *secret_key, *run, reached, peers);
        let known = count(peers.len() as u64, "known peer");
        match access.runtime().block_on(asking) {
            Ok(heard) => {
                if heard.is_empty() {
                    printer.talk(format_args!("none of {known} says whether there is a later record"));
                }
                heard
            }
            Err(error) => {
                printer.talk(format_args!("{known} cannot be asked for a later record: {error}"));
                Vec::new()
            }
        }
    }
}
