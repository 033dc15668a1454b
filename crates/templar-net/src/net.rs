//! The [`Net`] handle: binds the endpoint, owns every task, and offers fetching, pulling, tickets and the
//! address book.
//!
//! Invariant: every task started here has ended when [`Net::shutdown`] returns. The store belongs to the node
//! and stays open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::RelayStatus;
use iroh::protocol::Router;
use iroh::{Endpoint, Watcher as _};
use iroh_blobs::BlobFormat;
use iroh_metrics::Registry;
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use crate::config::{NetConfig, NetLimits};
use crate::endpoint;
use crate::endpoint::listening::Listening;
use crate::error::{BindError, FetchError};
use crate::foreign::ForeignText;
use crate::metrics::NetMetrics;
use crate::peers::book::{AddrSource, Book};
use crate::peers::connections::Connections;
use crate::peers::discovery::{Discovery, Relays};
use crate::peers::neighbours::Neighbours;
use crate::peers::peer::{PeerAddr, PeerAddrError, PeerId};
use crate::peers::pool::Pool;
use crate::peers::roll::Standing;
use crate::serve::admission::AdmissionControl;
use crate::serve::have::{HAVE_ALPN, HaveServer};
use crate::serve::places::Inbound;
use crate::serve::policy::ServePolicy;
use crate::serve::provide::Provider;
use crate::serve::rate::TokenBucket;
use crate::swarm::Swarm;
use crate::swarm::fetch::{Fetched, FetchedTicket, Fetcher};
use crate::swarm::plan::FetchProgress;
use crate::swarm::supervise::supervise as supervise_swarm;
use crate::sync::clock::{Clocks, Skew};
use crate::sync::log::Log;
use crate::sync::pull::{Pulled, Puller, supervise as supervise_pulls};
use crate::sync::server::SyncServer;
use crate::sync::wire::SYNC_ALPN;
use crate::ticket::{BlobTicket, Ticket};

/// The number of other peers that a ticket names in addition to this node.
const PEERS_IN_TICKET: usize = 4;

/// The longest time that closing the connections may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The network of one node. It is cheap to clone, and all clones are the same node.
#[derive(Clone)]
pub struct Net {
    pub(crate) inner: Arc<NetState>,
}

/// The parts of a node's network.
pub(crate) struct NetState {
    endpoint: Endpoint,
    listening: Listening,
    router: Router,
    pub(crate) book: Arc<Book>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) neighbours: Arc<Neighbours>,
    clocks: Arc<Clocks>,
    pub(crate) metrics: Arc<NetMetrics>,
    pub(crate) fetcher: Fetcher,
    #[cfg(test)]
    pub(crate) served: Provider,
    log: Arc<dyn Log>,
    discovery: Discovery,
    limits: NetLimits,
    /// The peers whose logs are to be read again.
    again: watch::Sender<BTreeSet<PeerId>>,
    /// Becomes `true` when the network shuts down.
    stop: watch::Sender<bool>,
    /// The running tasks. `None` once the network is shut down.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Net").field(&self.addr().to_string()).finish()
    }
}

impl Net {
    /// Binds a node's endpoint and begins to serve: the blobs of `store` that `policy` allows, and the entries
    /// of `log`.
    ///
    /// Unless [`NetConfig::discovery`] says otherwise, there is no relay, no name service and no multicast.
    /// Peers are then reached at the addresses in the address book.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(
        config: NetConfig,
        store: Store,
        log: Arc<dyn Log>,
        policy: Arc<dyn ServePolicy>,
    ) -> Result<Self, BindError> {
        let run = log.run();
        let endpoint = endpoint::bind(&config, &run, endpoint::Publish::Address).await?;
        let NetConfig { secret_key, discovery, clock, limits, .. } = config;
        let relays = discovery.relays.urls();
        let looks_up = discovery.relays == Relays::N0;
        let own_id = *endpoint.id().as_bytes();
        let listening = Listening::of(&endpoint, &discovery.advertise).await;
        let book = Book::new(own_id, limits.max_peers).reaching(relays, looks_up).sending_from(listening.sockets());
        let book = Arc::new(book);
        let (stop, again) = (watch::Sender::new(false), watch::Sender::new(BTreeSet::new()));
        let mut tasks = JoinSet::new();
        #[cfg(feature = "lan")]
        if discovery.lan {
            use crate::endpoint::lan;
            let watching = lan::watch(lan::announce(&endpoint)?, book.clone(), run);
            let mut stopped = stop.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    () = watching => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        }
        let connections = Arc::new(Connections::default());
        let sync = &limits.sync;
        let neighbours = Neighbours::new(&secret_key, sync.neighbours, sync.followers, book.clone());
        let (neighbours, clocks) = (Arc::new(neighbours), Arc::new(Clocks::new(clock)));
        let metrics = Arc::new(NetMetrics::default());
        let stall_timeout = limits.timeouts.stall;
        // Each protocol counts its inbound connections separately.
        let inbound = || Inbound::new(&limits.connections, book.roll().clone(), connections.clone(), metrics.clone());
        let have = HaveServer {
            store: store.clone(),
            policy: policy.clone(),
            book: book.clone(),
            inbound: inbound(),
            stall_timeout,
        };
        let serving = &limits.serving;
        let provider = Provider {
            store: store.clone(),
            policy,
            inbound: inbound(),
            requests: AdmissionControl::new(serving.max_requests, serving.max_requests_per_peer, book.roll().clone()),
            bucket: Arc::new(TokenBucket::new(serving.bytes_per_second)),
            max_request_bytes: serving.max_request_bytes,
            stall_timeout,
            metrics: metrics.clone(),
        };
        let sync = SyncServer {
            log: log.clone(),
            book: book.clone(),
            inbound: inbound(),
            connections: connections.clone(),
            neighbours: neighbours.clone(),
            clocks: clocks.clone(),
            metrics: metrics.clone(),
            stall_timeout,
        };
        #[cfg(test)]
        let served = provider.clone();
        let router = Router::builder(endpoint.clone())
            .accept(iroh_blobs::ALPN, provider)
            .accept(HAVE_ALPN, have)
            .accept(SYNC_ALPN, sync)
            .spawn();
        let pool = Pool::new(endpoint.clone(), book.clone(), connections.clone(), limits.timeouts.connect);
        let swarm = Swarm::new(store, book.clone(), pool, own_id, &limits);
        tasks.spawn(supervise_swarm(swarm.clone(), stop.subscribe()));
        let fetcher = Fetcher { swarm };
        let tasks = Mutex::new(Some(tasks));
        let inner = NetState {
            endpoint,
            listening,
            router,
            book,
            connections,
            neighbours,
            clocks,
            metrics,
            fetcher,
            #[cfg(test)]
            served,
            log,
            discovery,
            limits,
            again,
            stop,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// This node's id, which is the public key of its secret key.
    pub fn id(&self) -> PeerId {
        *self.inner.endpoint.id().as_bytes()
    }

    /// This node's id and the addresses at which it is reached.
    pub fn addr(&self) -> PeerAddr {
        self.inner.listening.addr()
    }

    /// The number of peers with which this node has an open connection.
    pub fn connected(&self) -> usize {
        self.inner.connections.peers()
    }

    /// The reason why no relay accepts this node at present, as text for people. `None` if one does, and if no relay
    /// is configured.
    pub fn relay_problem(&self) -> Option<String> {
        let relays = &self.inner.discovery.relays;
        if *relays == Relays::None {
            return None;
        }
        let known = self.inner.endpoint.home_relay_status().get();
        if known.iter().any(RelayStatus::is_connected) {
            return None;
        }
        let reason = known.iter().find_map(|relay| relay.last_error().map(|error| format!(" ({error:#})")));
        Some(format!("no relay of {relays} answers{}", reason.unwrap_or_default()))
    }

    /// Waits until a relay accepts this node. Returns whether one has within `patience`, and `false` at once if
    /// no relay is configured.
    pub async fn relayed(&self, patience: Duration) -> bool {
        self.inner.discovery.relays != Relays::None && timeout(patience, self.inner.endpoint.online()).await.is_ok()
    }

    /// Puts a peer into the address book. Returns whether it is there now: the book may be full, and this node
    /// itself is never in it.
    ///
    /// # Errors
    /// [`PeerAddrError`] if the address cannot be used.
    pub fn add_peer(&self, addr: PeerAddr) -> Result<bool, PeerAddrError> {
        Ok(self.inner.book.learn(addr.checked()?, AddrSource::Configured))
    }

    /// Says which peers take part in the run. They have places by right: in the address book, among the readers of this
    /// node's log, and among those that it serves. All others are strangers, and share the rest.
    pub fn call_roll(&self, roll: BTreeMap<PeerId, Standing>) {
        self.inner.book.roll().replace(roll);
    }

    /// All peers in the address book.
    pub fn peers(&self) -> Vec<PeerAddr> {
        self.inner.book.all()
    }

    /// The peers whose logs this node reads now: those that it chose, and those that read its own.
    pub fn neighbours(&self) -> Vec<PeerId> {
        self.inner.neighbours.read_by_us()
    }

    /// The difference between each peer's clock and this node's, measured when the peer's log was last asked
    /// for.
    pub fn skews(&self) -> BTreeMap<PeerId, Skew> {
        self.inner.clocks.all()
    }

    /// Asks to read a peer's log again from the last milestone.
    ///
    /// A node calls this when it refused an entry that came too early and may accept it now. Each repetition
    /// for the same peer waits longer, see [`SyncLimits::read_again_pause`](crate::SyncLimits).
    pub fn read_again(&self, peer: &PeerId) {
        self.inner.again.send_if_modified(|peers| peers.insert(*peer));
    }

    /// Adds the counters of this network, and iroh's own, to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.sub_registry_with_prefix("templar").register(self.inner.metrics.clone());
        registry.sub_registry_with_prefix("iroh").register_all(self.inner.endpoint.metrics());
    }

    /// The bytes of all packets received since the start, of every protocol.
    pub fn received_bytes(&self) -> u64 {
        let socket = &self.inner.endpoint.metrics().socket;
        socket.recv_data_ipv4.get() + socket.recv_data_ipv6.get() + socket.recv_data_relay.get()
    }

    /// Updates the gauges among the metrics. Counters are always up to date.
    pub fn refresh_metrics(&self) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let metrics = &self.inner.metrics;
        metrics.peers.set(gauge(self.inner.book.candidates().len()));
        metrics.peers_blamed.set(gauge(self.inner.book.blamed()));
        metrics.neighbours.set(gauge(self.neighbours().len()));
    }

    /// The last problem with each peer that had one, as text for people.
    pub fn problems(&self) -> BTreeMap<PeerId, ForeignText> {
        self.inner.book.problems()
    }

    /// Reports that `peer` sent invalid data. Its stream is closed, it is left alone for a while, and it is
    /// asked last for blobs. The `reason` appears in [`problems`](Self::problems).
    pub fn blame(&self, peer: &PeerId, reason: &str) {
        self.inner.book.blame(peer, reason);
    }

    /// Fetches one blob of at most `max_bytes` bytes into the store, from `providers` and all other known peers
    /// at once.
    ///
    /// Returns at once if the blob is whole in the store, and resumes if a part of it is there. If the caller
    /// drops the future and nobody else waits for the blob, the transfer ends and the received part stays.
    ///
    /// # Errors
    /// [`FetchError`]. In particular, [`FetchError::NoProvider`] holds the answer of each provider.
    pub async fn fetch(&self, id: &Hash, max_bytes: u64, providers: &[PeerId]) -> Result<Fetched, FetchError> {
        let span = tracing::debug_span!("fetch", blob = %id.short());
        self.fetching(self.inner.fetcher.fetch(id, max_bytes, providers), |fetched| fetched.received)
            .instrument(span)
            .await
    }

    /// Fetches several blobs at the same time, each with its own bound in bytes. A failure does not stop the
    /// others.
    ///
    /// # Errors
    /// The failure of the first blob, in the order of `ids`, that could not be fetched.
    pub async fn fetch_all(&self, ids: &[(Hash, u64)], providers: &[PeerId]) -> Result<Fetched, FetchError> {
        let span = tracing::debug_span!("fetch", blobs = ids.len());
        self.fetching(self.inner.fetcher.fetch_all(ids, providers), |fetched| fetched.received).instrument(span).await
    }

    /// Fetches the blobs that a blob ticket names, from the peer that it names: one blob, or a list of blobs
    /// and every blob on it. Together they may have at most `max_bytes` bytes.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and [`FetchError::NotAList`].
    pub async fn fetch_ticket(&self, ticket: &BlobTicket, max_bytes: u64) -> Result<FetchedTicket, FetchError> {
        let span = tracing::debug_span!("fetch", ticket = %ticket.hash().fmt_short());
        self.fetching(self.inner.fetcher.fetch_ticket(ticket, max_bytes), |fetched| fetched.fetched.received)
            .instrument(span)
            .await
    }

    /// Carries out a fetch, unless the network is shut down, and counts its outcome. `received` gives the bytes
    /// that came.
    async fn fetching<T>(
        &self,
        fetch: impl Future<Output = Result<T, FetchError>>,
        received: impl Fn(&T) -> u64,
    ) -> Result<T, FetchError> {
        if *self.inner.stop.borrow() {
            return Err(FetchError::Closed);
        }
        let fetched = fetch.await;
        let metrics = &self.inner.metrics;
        match &fetched {
            Ok(fetched) => {
                let bytes = received(fetched);
                metrics.fetches.inc();
                metrics.blob_bytes_fetched.inc_by(bytes);
                tracing::debug!(bytes, "fetched");
            }
            Err(error) => {
                metrics.fetches_failed.inc();
                tracing::debug!(%error, "not fetched");
            }
        }
        fetched
    }

    /// The bytes of blobs that this node has sent to peers, with the hashes that prove them.
    pub fn sent_bytes(&self) -> u64 {
        self.inner.metrics.blob_bytes_sent.get()
    }

    /// The progress of all fetches of this node together. The channel reports its changes.
    pub fn progress(&self) -> watch::Receiver<FetchProgress> {
        self.inner.fetcher.swarm.progress()
    }

    /// Begins to read the logs of this node's neighbours, now and later. A node calls this once.
    ///
    /// The entries of one peer come in that peer's order, and the streams of different peers are interleaved.
    /// Reading ends when the receiver is dropped, or with [`shutdown`](Self::shutdown).
    pub fn pull_entries(&self) -> mpsc::Receiver<Pulled> {
        let (out, entries) = mpsc::channel(self.inner.limits.sync.entries_in_flight.max(1));
        let listening = self.inner.listening.clone();
        let puller = Puller {
            endpoint: self.inner.endpoint.clone(),
            book: self.inner.book.clone(),
            connections: self.inner.connections.clone(),
            neighbours: self.inner.neighbours.clone(),
            clocks: self.inner.clocks.clone(),
            metrics: self.inner.metrics.clone(),
            log: self.inner.log.clone(),
            again: self.inner.again.clone(),
            caught_up: AtomicBool::new(false),
            limits: self.inner.limits.clone(),
            own_addr: Box::new(move || listening.addr()),
            out,
        };
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            // Tasks that have ended are removed from the set.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(supervise_pulls(puller, self.inner.stop.subscribe()));
        }
        entries
    }

    /// A ticket that invites others to the run. It names this node and some peers that the node has met.
    ///
    /// `record` is the id of a recent window record, if the ticket vouches for one.
    pub fn ticket(&self, record: Option<Hash>) -> Ticket {
        let mut peers = vec![self.addr()];
        peers.extend(self.inner.book.shareable(None, PEERS_IN_TICKET));
        Ticket { run: self.inner.log.run(), record, peers }
    }

    /// A ticket for one blob of this node's store, in the format of iroh-blobs.
    pub fn blob_ticket(&self, id: &Hash) -> BlobTicket {
        self.iroh_ticket(id, BlobFormat::Raw)
    }

    /// A ticket for a collection (see [`collect`](crate::collect)) and every blob in it, in the format of
    /// iroh-blobs.
    pub fn collection_ticket(&self, id: &Hash) -> BlobTicket {
        self.iroh_ticket(id, BlobFormat::HashSeq)
    }

    fn iroh_ticket(&self, id: &Hash, format: BlobFormat) -> BlobTicket {
        let addr = self.addr();
        let iroh_addr = addr.to_endpoint_addr().unwrap_or_else(|| self.inner.endpoint.id().into());
        BlobTicket::new(iroh_addr, to_iroh(id), format)
    }

    /// Ends every task and closes every connection. The store stays open.
    pub async fn shutdown(&self) {
        let tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.inner.stop.send_replace(true);
        if let Some(mut tasks) = tasks {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the network ended badly");
                }
            }
        }
        match timeout(FAREWELL, self.inner.router.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the router of the network ended badly"),
            // Peers that are gone cannot confirm the end of their connections. The living ones have been told.
            Err(_) => tracing::debug!("some peers did not confirm the end of their connections"),
        }
    }
}
