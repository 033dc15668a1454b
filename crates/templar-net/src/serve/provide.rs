//! Serves blobs: every request is bounded in length, judged by the [`ServePolicy`], and sent at the upload
//! rate.
//!
//! Invariant: no blob leaves this node unless the policy allowed that hash for that peer. A request for a list
//! of hashes is judged for the list and for every blob on it, because the peer may have made the list itself. A
//! peer has a bounded number of connections and requests, and a peer that does not read loses its request, so
//! unsent bytes are bounded too.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::protocol::{ERR_INTERNAL, ERR_LIMIT, ERR_PERMISSION, GetRequest, Request};
use iroh_blobs::provider::events::EventSender;
use iroh_blobs::provider::{StreamPair, handle_get, handle_get_many};
use templar_manifest::Hash;
use templar_store::{Store, from_iroh};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use crate::metrics::NetMetrics;
use crate::peers::peer::{PeerId, short};
use crate::serve::admission::{AdmissionControl, Permit};
use crate::serve::places::{Busy, Inbound, Place};
use crate::serve::policy::ServePolicy;
use crate::serve::rate::TokenBucket;
use crate::serve::streams::{Bounded, Metered};

/// The longest list of hashes whose blobs are judged one by one, in bytes (32 per hash).
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Accepts connections in iroh-blobs' protocol.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) store: Store,
    pub(crate) policy: Arc<dyn ServePolicy>,
    pub(crate) inbound: Inbound,
    /// Bounds the requests that are served at the same time.
    pub(crate) requests: Arc<AdmissionControl>,
    /// Bounds the bytes sent per second.
    pub(crate) bucket: Arc<TokenBucket>,
    pub(crate) max_request_bytes: u32,
    pub(crate) stall_timeout: Duration,
    pub(crate) metrics: Arc<NetMetrics>,
}

/// One request that has come in, with the peer that sent it, its connection, and the streams of its two
/// directions.
struct Incoming {
    peer: PeerId,
    /// iroh's number of the connection, for iroh-blobs' log lines.
    connection: u64,
    reader: RecvStream,
    writer: SendStream,
    /// The request counts, and its connection is busy, until it has been served.
    _held: (Permit, Busy),
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

impl ProtocolHandler for Provider {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = *connection.remote_id().as_bytes();
        let Some(place) = self.inbound.admit(&connection, ERR_LIMIT) else { return Ok(()) };
        self.accept_requests(&connection, peer, &place)
            .instrument(tracing::debug_span!("serve", peer = short(&peer)))
            .await;
        Ok(())
    }

    // The default `shutdown` does nothing, on purpose: the store belongs to the node and outlives the network.
}

impl Provider {
    /// Serves the requests of one connection, each as a task, until the connection ends.
    async fn accept_requests(&self, connection: &Connection, peer: PeerId, place: &Place) {
        // Peers send nothing but requests on these connections, so a small window is enough.
        connection.set_receive_window(VarInt::from_u32(self.max_request_bytes.saturating_mul(4)));
        let mut serving = JoinSet::new();
        while let Ok((mut writer, reader)) = connection.accept_bi().await {
            while serving.try_join_next().is_some() {}
            match self.requests.admit(peer) {
                Some(permit) => {
                    let connection = connection.stable_id() as u64;
                    let held = (permit, place.busy());
                    let incoming = Incoming { peer, connection, reader, writer, _held: held };
                    let provider = self.clone();
                    serving.spawn(async move { provider.serve(incoming).await }.in_current_span());
                }
                None => {
                    self.metrics.blob_requests_refused.inc();
                    writer.reset(ERR_LIMIT).ok();
                }
            }
        }
        serving.shutdown().await;
    }

    async fn serve(&self, incoming: Incoming) {
        let Incoming { peer, connection, reader, mut writer, _held } = incoming;
        let mut reader = Bounded { reader, left: self.max_request_bytes as usize };
        let request = match timeout(self.stall_timeout, Request::read_async(&mut reader)).await {
            Ok(Ok((request, _))) => request,
            failed => {
                tracing::debug!(?failed, "a request could not be read");
                writer.reset(ERR_INTERNAL).ok();
                return;
            }
        };
        let may = match &request {
            Request::Get(request) => self.may_get(request, &peer).await,
            Request::GetMany(request) => {
                request.hashes.iter().all(|hash| self.policy.may_serve(&from_iroh(hash), &peer))
            }
            // Peers may not write into our store, and the `have` protocol tells them what is here.
            _ => false,
        };
        if !may {
            self.metrics.blob_requests_refused.inc();
            tracing::debug!("refused to serve");
            writer.reset(ERR_PERMISSION).ok();
            return;
        }
        self.metrics.blob_requests_served.inc();
        let writer = Metered {
            writer,
            bucket: self.bucket.clone(),
            stall_timeout: self.stall_timeout,
            metrics: self.metrics.clone(),
        };
        let pair = StreamPair::new(connection, reader, writer, EventSender::DEFAULT);
        let store = self.store.blobs().clone();
        let served = match request {
            Request::Get(request) => handle_get(pair, store, request).await,
            Request::GetMany(request) => handle_get_many(pair, store, request).await,
            _ => Ok(()),
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a request was not served to its end");
        }
    }

    /// Asks the policy about a blob, and where the request walks a list of hashes, about every blob on the
    /// list.
    async fn may_get(&self, request: &GetRequest, peer: &PeerId) -> bool {
        let root = from_iroh(&request.hash);
        if !self.policy.may_serve(&root, peer) {
            return false;
        }
        if request.ranges.is_blob() {
            return true;
        }
        match self.store.get(&root, MAX_LIST_BYTES).await {
            Ok(list) => {
                let (hashes, rest) = list.as_chunks::<32>();
                rest.is_empty() && hashes.iter().all(|hash| self.policy.may_serve(&Hash::from_bytes(*hash), peer))
            }
            Err(_) => false,
        }
    }
}
