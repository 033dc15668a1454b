//! The serving side of blobs: every request is judged by a [`ServePolicy`] before a byte is sent.
//!
//! Invariant: no blob leaves this node unless the policy said yes to that very hash and that very peer. A request that
//! walks a list of hashes is judged for the list and for every blob it names, since a peer may choose the list.

use std::sync::Arc;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::protocol::{ERR_LIMIT, GetRequest};
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventSender, ObserveMode, ProviderMessage, RequestMode, ThrottleMode,
};
use iroh_blobs::provider::handle_connection;
use templar_manifest::Hash;
use templar_store::{Store, from_iroh};
use tokio::sync::mpsc;

use crate::gate::Gate;
use crate::lines::Lines;
use crate::peer::{PeerId, short};

/// The longest list of hashes that is judged, in bytes (32 per hash).
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Requests of one connection that may wait for their judgement.
const WAITING: usize = 16;

/// Who may have which blob.
pub trait ServePolicy: Send + Sync + 'static {
    /// Whether `blob` may be served to `to` now. Asked for every request; must not block.
    fn may_serve(&self, blob: &Hash, to: &PeerId) -> bool;
}

/// Serves whatever is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeAll;

impl ServePolicy for ServeAll {
    fn may_serve(&self, _blob: &Hash, _to: &PeerId) -> bool {
        true
    }
}

/// Serves nothing: for commands that only fetch.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeNone;

impl ServePolicy for ServeNone {
    fn may_serve(&self, _blob: &Hash, _to: &PeerId) -> bool {
        false
    }
}

/// Accepts blobs connections.
pub(crate) struct Provider {
    pub(crate) store: Store,
    pub(crate) policy: Arc<dyn ServePolicy>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) lines: Arc<Lines>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

const MASK: EventMask = EventMask {
    connected: ConnectMode::None,
    get: RequestMode::Intercept,
    get_many: RequestMode::Intercept,
    // Nobody writes into our store.
    push: RequestMode::Disabled,
    observe: ObserveMode::Intercept,
    throttle: ThrottleMode::None,
};

impl ProtocolHandler for Provider {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = *connection.remote_id().as_bytes();
        let Some(_pass) = self.gate.admit(peer) else {
            connection.close(ERR_LIMIT, b"too many connections");
            return Ok(());
        };
        self.lines.add(&connection);
        let (events, requests) = EventSender::channel(WAITING, MASK);
        // The judge ends when the connection and its last request have dropped their sender.
        tokio::join!(handle_connection(connection, self.store.blobs().clone(), events), self.judge(peer, requests));
        Ok(())
    }

    // The default shutdown does nothing, on purpose: the store belongs to the node and outlives the network.
}

impl Provider {
    async fn judge(&self, peer: PeerId, mut requests: mpsc::Receiver<ProviderMessage>) {
        while let Some(message) = requests.recv().await {
            match message {
                ProviderMessage::GetRequestReceived(message) => {
                    let verdict = self.may_get(&message.inner.request, &peer).await;
                    message.tx.send(verdict).await.ok();
                }
                ProviderMessage::GetManyRequestReceived(message) => {
                    let hashes = &message.inner.request.hashes;
                    let all = hashes.iter().all(|hash| self.policy.may_serve(&from_iroh(hash), &peer));
                    message.tx.send(verdict(all)).await.ok();
                }
                ProviderMessage::ObserveRequestReceived(message) => {
                    let hash = from_iroh(&message.inner.request.hash);
                    message.tx.send(verdict(self.policy.may_serve(&hash, &peer))).await.ok();
                }
                ProviderMessage::PushRequestReceived(message) => {
                    message.tx.send(verdict(false)).await.ok();
                }
                // Notifications that the mask turns off.
                _ => {}
            }
        }
    }

    async fn may_get(&self, request: &GetRequest, peer: &PeerId) -> Result<(), AbortReason> {
        let root = from_iroh(&request.hash);
        let mut may = self.policy.may_serve(&root, peer);
        if may && !request.ranges.is_blob() {
            may = match self.store.get(&root, MAX_LIST_BYTES).await {
                Ok(list) => {
                    let (hashes, rest) = list.as_chunks::<32>();
                    rest.is_empty() && hashes.iter().all(|hash| self.policy.may_serve(&Hash::from_bytes(*hash), peer))
                }
                Err(_) => false,
            };
        }
        if !may {
            tracing::debug!(blob = %root.short(), peer = short(peer), "refused to serve");
        }
        verdict(may)
    }
}

fn verdict(may: bool) -> Result<(), AbortReason> {
    if may { Ok(()) } else { Err(AbortReason::Permission) }
}
