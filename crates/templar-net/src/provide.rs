//! The serving side of blobs: every request is bounded, judged by a [`ServePolicy`], and paid for before a byte is sent.
//!
//! Invariant: no blob leaves this node unless the policy said yes to that very hash and that very peer. A request that
//! walks a list of hashes is judged for the list and for every blob it names, since a peer may choose the list. A peer
//! has a bounded number of connections and requests, and one that does not read loses its request, so that what waits
//! to be sent stays bounded too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::protocol::{ERR_INTERNAL, ERR_LIMIT, ERR_PERMISSION, GetRequest, Request};
use iroh_blobs::provider::events::EventSender;
use iroh_blobs::provider::{StreamPair, handle_get, handle_get_many};
use iroh_blobs::util::{RecvStream, SendStream};
use templar_manifest::Hash;
use templar_store::{Store, from_iroh};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::gate::{Door, Gate, Pass};
use crate::metrics::NetMetrics;
use crate::peer::{PeerId, short};
use crate::rate::Bucket;

/// The longest list of hashes that is judged, in bytes (32 per hash).
const MAX_LIST_BYTES: u64 = 1 << 20;

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
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) store: Store,
    pub(crate) policy: Arc<dyn ServePolicy>,
    pub(crate) door: Door,
    /// Requests being served.
    pub(crate) requests: Arc<Gate>,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) max_request_bytes: u32,
    pub(crate) stall_timeout: Duration,
    pub(crate) metrics: Arc<NetMetrics>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

impl ProtocolHandler for Provider {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = *connection.remote_id().as_bytes();
        let Some(_pass) = self.door.enter(&connection, ERR_LIMIT) else { return Ok(()) };
        // Nothing but requests comes in here.
        connection.set_receive_window(VarInt::from_u32(self.max_request_bytes.saturating_mul(4)));
        let mut serving = JoinSet::new();
        while let Ok((mut writer, reader)) = connection.accept_bi().await {
            while serving.try_join_next().is_some() {}
            match self.requests.admit(peer) {
                Some(pass) => {
                    let (provider, id) = (self.clone(), connection.stable_id() as u64);
                    serving.spawn(async move { provider.serve(&peer, id, reader, writer, pass).await });
                }
                None => {
                    self.metrics.blob_requests_refused.inc();
                    writer.reset(ERR_LIMIT).ok();
                }
            }
        }
        serving.shutdown().await;
        Ok(())
    }

    // The default shutdown does nothing, on purpose: the store belongs to the node and outlives the network.
}

impl Provider {
    async fn serve(
        &self,
        peer: &PeerId,
        connection: u64,
        reader: iroh::endpoint::RecvStream,
        mut writer: iroh::endpoint::SendStream,
        _pass: Pass,
    ) {
        let mut reader = Bounded { reader, left: self.max_request_bytes as usize };
        let request = match timeout(self.stall_timeout, Request::read_async(&mut reader)).await {
            Ok(Ok((request, _))) => request,
            failed => {
                tracing::debug!(peer = short(peer), ?failed, "a request could not be read");
                writer.reset(ERR_INTERNAL).ok();
                return;
            }
        };
        let may = match &request {
            Request::Get(request) => self.may_get(request, peer).await,
            Request::GetMany(request) => {
                request.hashes.iter().all(|hash| self.policy.may_serve(&from_iroh(hash), peer))
            }
            // Nobody writes into our store, and what is here is told by our own protocol.
            _ => false,
        };
        if !may {
            self.metrics.blob_requests_refused.inc();
            tracing::debug!(peer = short(peer), "refused to serve");
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
            tracing::debug!(peer = short(peer), %error, "a request was not served to its end");
        }
    }

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

/// A stream of which no more than so many bytes are read.
#[derive(Debug)]
struct Bounded<R> {
    reader: R,
    left: usize,
}

impl<R: RecvStream> Bounded<R> {
    fn count(&mut self, len: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(len).ok_or_else(too_long)?;
        Ok(())
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a request that is too long")
}

impl<R: RecvStream> RecvStream for Bounded<R> {
    async fn recv_bytes(&mut self, len: usize) -> io::Result<Bytes> {
        // The reader allocates what it is asked for; one byte more than allowed shows that there is more.
        let bytes = self.reader.recv_bytes(len.min(self.left + 1)).await?;
        self.count(bytes.len())?;
        Ok(bytes)
    }

    async fn recv_bytes_exact(&mut self, len: usize) -> io::Result<Bytes> {
        self.count(len)?;
        self.reader.recv_bytes_exact(len).await
    }

    async fn recv_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        self.count(target.len())?;
        self.reader.recv_exact(target).await
    }

    fn stop(&mut self, code: VarInt) -> io::Result<()> {
        RecvStream::stop(&mut self.reader, code)
    }

    fn id(&self) -> u64 {
        RecvStream::id(&self.reader)
    }
}

/// A stream whose bytes wait for their turn, and whose reader may not stall.
#[derive(Debug)]
struct Metered<W> {
    writer: W,
    bucket: Arc<Bucket>,
    stall_timeout: Duration,
    metrics: Arc<NetMetrics>,
}

impl<W: SendStream> Metered<W> {
    async fn pay(&mut self, len: usize) {
        self.bucket.take(len).await;
        self.metrics.blob_bytes_sent.inc_by(len as u64);
    }
}

fn stalled<T>(result: Result<io::Result<T>, tokio::time::error::Elapsed>) -> io::Result<T> {
    result.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
}

impl<W: SendStream> SendStream for Metered<W> {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.pay(bytes.len()).await;
        stalled(timeout(self.stall_timeout, self.writer.send_bytes(bytes)).await)
    }

    async fn send(&mut self, buf: &[u8]) -> io::Result<()> {
        self.pay(buf.len()).await;
        stalled(timeout(self.stall_timeout, self.writer.send(buf)).await)
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.writer.sync().await
    }

    fn reset(&mut self, code: VarInt) -> io::Result<()> {
        SendStream::reset(&mut self.writer, code)
    }

    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        SendStream::stopped(&mut self.writer).await
    }

    fn id(&self) -> u64 {
        SendStream::id(&self.writer)
    }
}
