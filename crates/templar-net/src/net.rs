//! The [`Net`] handle: binds the endpoint, owns every task, and offers fetching, pulling, tickets and the address book.
//!
//! Invariant: everything started here has ended when [`Net::shutdown`] returns. The store is the node's and stays open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::Endpoint;
use iroh::protocol::Router;
use iroh_blobs::BlobFormat;
use iroh_metrics::Registry;
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::book::{Book, Source};
use crate::clock::{Clocks, Skew};
use crate::fetch::{Fetched, FetchedTicket, Fetcher};
use crate::gate::{Door, Gate};
use crate::have::{HAVE_ALPN, HaveServer};
use crate::lines::Lines;
use crate::metrics::NetMetrics;
use crate::neighbours::Neighbours;
use crate::peer::{PeerAddr, PeerAddrError, PeerId};
use crate::pool::Pool;
use crate::provide::{Provider, ServePolicy};
use crate::pull::{Pulled, Puller, supervise};
use crate::rate::Bucket;
use crate::reach::{self, Reach};
use crate::serve::{Log, SyncServer};
use crate::swarm::{Progress, Swarm};
use crate::ticket::{BlobTicket, Ticket};
use crate::wire::SYNC_ALPN;
use crate::{BindError, FetchError, Limits, NetConfig};

/// How many other peers a ticket names beside this node.
const PEERS_IN_TICKET: usize = 4;

/// How long the end of connections may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// One node's connections. Cheap to clone: all clones are the same node.
#[derive(Clone)]
pub struct Net {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    endpoint: Endpoint,
    router: Router,
    pub(crate) book: Arc<Book>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) neighbours: Arc<Neighbours>,
    clocks: Arc<Clocks>,
    pub(crate) metrics: Arc<NetMetrics>,
    pub(crate) fetcher: Fetcher,
    #[cfg(test)]
    pub(crate) served: Provider,
    log: Arc<dyn Log>,
    reach: Reach,
    limits: Limits,
    /// Peers whose logs are to be read again.
    again: watch::Sender<BTreeSet<PeerId>>,
    stop: watch::Sender<bool>,
    /// None once the network is shut down.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Net").field(&self.addr().to_string()).finish()
    }
}

impl Net {
    /// Binds a node's endpoint and begins to serve: blobs of `store` as `policy` allows, and the entries of `log`.
    ///
    /// Unless [`NetConfig::reach`] says otherwise there is no relay, no name service and no multicast: peers are reached at the
    /// addresses that the book learns.
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
        let endpoint = reach::bind(&config, &run, reach::Publish::Address).await?;
        let NetConfig { secret_key, reach, clock, limits, .. } = config;
        let relays = reach.relays.urls();
        let looks_up = reach.relays == reach::Relays::N0;
        let own_id = *endpoint.id().as_bytes();
        let book = Arc::new(Book::new(own_id, limits.max_peers).reaching(relays, looks_up));
        let (stop, again) = (watch::Sender::new(false), watch::Sender::new(BTreeSet::new()));
        let mut tasks = JoinSet::new();
        #[cfg(feature = "lan")]
        if reach.lan {
            let watching = crate::lan::watch(crate::lan::announce(&endpoint)?, book.clone(), run);
            let mut stopped = stop.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    () = watching => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        }
        let lines = Arc::new(Lines::default());
        let neighbours = Neighbours::new(&secret_key, limits.neighbours, limits.followers, book.clone());
        let (neighbours, clocks) = (Arc::new(neighbours), Arc::new(Clocks::new(clock)));
        let metrics = Arc::new(NetMetrics::default());
        let door = || Door::new(&limits, lines.clone(), metrics.clone());
        let have = HaveServer {
            store: store.clone(),
            policy: policy.clone(),
            book: book.clone(),
            door: door(),
            stall_timeout: limits.stall_timeout,
        };
        let provider = Provider {
            store: store.clone(),
            policy,
            door: door(),
            requests: Gate::new(limits.max_requests, limits.max_requests_per_peer),
            bucket: Arc::new(Bucket::new(limits.upload_bytes_per_second)),
            max_request_bytes: limits.max_request_bytes,
            stall_timeout: limits.stall_timeout,
            metrics: metrics.clone(),
        };
        let sync = SyncServer {
            log: log.clone(),
            book: book.clone(),
            door: door(),
            lines: lines.clone(),
            neighbours: neighbours.clone(),
            clocks: clocks.clone(),
            metrics: metrics.clone(),
            stall_timeout: limits.stall_timeout,
        };
        #[cfg(test)]
        let served = provider.clone();
        let router = Router::builder(endpoint.clone())
            .accept(iroh_blobs::ALPN, provider)
            .accept(HAVE_ALPN, have)
            .accept(SYNC_ALPN, sync)
            .spawn();
        let pool = Pool::new(endpoint.clone(), book.clone(), lines.clone(), limits.connect_timeout);
        let swarm = Swarm::new(store, book.clone(), pool, own_id, limits.clone());
        tasks.spawn(swarm.clone().supervise(stop.subscribe()));
        let fetcher = Fetcher { swarm };
        let tasks = Mutex::new(Some(tasks));
        let inner = Inner {
            endpoint,
            router,
            book,
            lines,
            neighbours,
            clocks,
            metrics,
            fetcher,
            #[cfg(test)]
            served,
            log,
            reach,
            limits,
            again,
            stop,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// This node's id: the public key of its secret key.
    pub fn id(&self) -> PeerId {
        *self.inner.endpoint.id().as_bytes()
    }

    /// This node's id and the addresses it is reached at.
    pub fn addr(&self) -> PeerAddr {
        reach::listening_at(&self.inner.endpoint, &self.inner.reach.advertise)
    }

    /// Waits until a relay has taken this node in, if relays are configured; says whether one has within `patience`.
    pub async fn relayed(&self, patience: Duration) -> bool {
        self.inner.reach.relays != reach::Relays::None && timeout(patience, self.inner.endpoint.online()).await.is_ok()
    }

    /// Puts a peer into the address book. Returns whether there was room for it; this node itself is not put in.
    ///
    /// # Errors
    /// [`PeerAddrError`] when the address is of no use.
    pub fn add_peer(&self, addr: PeerAddr) -> Result<bool, PeerAddrError> {
        Ok(self.inner.book.learn(addr.checked()?, Source::Configured))
    }

    /// Every peer in the address book.
    pub fn peers(&self) -> Vec<PeerAddr> {
        self.inner.book.all()
    }

    /// Peers whose logs this node reads now: those that it chose, and those that read its own.
    pub fn neighbours(&self) -> Vec<PeerId> {
        self.inner.neighbours.read_by_us()
    }

    /// Each peer's clock against this node's, as it was when its log was last asked for.
    pub fn skews(&self) -> BTreeMap<PeerId, Skew> {
        self.inner.clocks.all()
    }

    /// Reads a peer's log again from the last milestone, soon: something of it was not taken when it came, and may be taken
    /// now. Asked for again and again, it happens ever more rarely.
    pub fn read_again(&self, peer: &PeerId) {
        self.inner.again.send_if_modified(|peers| peers.insert(*peer));
    }

    /// Adds what this network counts, and what iroh counts below it, to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.sub_registry_with_prefix("templar").register(self.inner.metrics.clone());
        registry.sub_registry_with_prefix("iroh").register_all(self.inner.endpoint.metrics());
    }

    /// Bytes of packets that arrived since the start, whatever they carried.
    pub fn received_bytes(&self) -> u64 {
        let socket = &self.inner.endpoint.metrics().socket;
        socket.recv_data_ipv4.get() + socket.recv_data_ipv6.get() + socket.recv_data_relay.get()
    }

    /// Brings those metrics up to date that are states and not counts.
    pub fn refresh_metrics(&self) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let metrics = &self.inner.metrics;
        metrics.peers.set(gauge(self.inner.book.candidates().len()));
        metrics.peers_blamed.set(gauge(self.inner.book.blamed()));
        metrics.neighbours.set(gauge(self.neighbours().len()));
    }

    /// The last thing that went wrong with each peer, in words, for peers that had any trouble.
    pub fn problems(&self) -> BTreeMap<PeerId, String> {
        self.inner.book.problems()
    }

    /// Tells that what `peer` sends is invalid: its stream is closed, it is left alone for a while, and it is asked
    /// last for blobs. `reason` is kept for [`problems`](Self::problems).
    pub fn blame(&self, peer: &PeerId, reason: &str) {
        self.inner.book.blame(peer, reason.to_owned());
    }

    /// Fetches one blob of at most `max_bytes` into the store, from `providers` and every other known peer at once. Returns
    /// at once what is here already; resumes what is partly here. A caller that stops waiting, when it is the last, ends
    /// the transfer, and what has come stays.
    ///
    /// # Errors
    /// [`FetchError::NoProvider`] names what each provider answered.
    pub async fn fetch(&self, id: &Hash, max_bytes: u64, providers: &[PeerId]) -> Result<Fetched, FetchError> {
        self.open()?;
        self.counted(self.inner.fetcher.fetch(id, max_bytes, providers).await, |fetched| fetched.received)
    }

    /// Fetches blobs, each with its own limit in bytes, many at a time. Tries all of them whatever happens.
    ///
    /// # Errors
    /// The failure of the first blob, in the order of `ids`, that could not be fetched.
    pub async fn fetch_all(&self, ids: &[(Hash, u64)], providers: &[PeerId]) -> Result<Fetched, FetchError> {
        self.open()?;
        self.counted(self.inner.fetcher.fetch_all(ids, providers).await, |fetched| fetched.received)
    }

    /// Fetches what a blob ticket names, from the peer it names: a blob, or a list of blobs and every blob on it,
    /// together at most `max_bytes`.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and [`FetchError::NotAList`].
    pub async fn fetch_ticket(&self, ticket: &BlobTicket, max_bytes: u64) -> Result<FetchedTicket, FetchError> {
        self.open()?;
        self.counted(self.inner.fetcher.fetch_ticket(ticket, max_bytes).await, |fetched| fetched.fetched.received)
    }

    fn counted<T>(&self, fetched: Result<T, FetchError>, received: impl Fn(&T) -> u64) -> Result<T, FetchError> {
        let metrics = &self.inner.metrics;
        match &fetched {
            Ok(fetched) => {
                metrics.fetches.inc();
                metrics.blob_bytes_fetched.inc_by(received(fetched));
            }
            Err(_) => {
                metrics.fetches_failed.inc();
            }
        }
        fetched
    }

    /// How many bytes of blobs, with the hashes that prove them, this node has sent to peers.
    pub fn sent_bytes(&self) -> u64 {
        self.inner.metrics.blob_bytes_sent.get()
    }

    /// How far all fetches of this node are, as it changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.fetcher.swarm.progress()
    }

    /// Begins to pull the log entries of every peer in the book, now and later; ends when the receiver is dropped or
    /// with [`shutdown`](Self::shutdown). A node calls this once.
    ///
    /// Entries of one peer come in that peer's order; the peers' streams are interleaved as they arrive.
    pub fn pull_entries(&self) -> mpsc::Receiver<Pulled> {
        let (out, entries) = mpsc::channel(self.inner.limits.entries_in_flight.max(1));
        let (endpoint, advertise) = (self.inner.endpoint.clone(), self.inner.reach.advertise.clone());
        let puller = Puller {
            endpoint: endpoint.clone(),
            book: self.inner.book.clone(),
            lines: self.inner.lines.clone(),
            neighbours: self.inner.neighbours.clone(),
            clocks: self.inner.clocks.clone(),
            metrics: self.inner.metrics.clone(),
            log: self.inner.log.clone(),
            again: self.inner.again.clone(),
            caught_up: AtomicBool::new(false),
            limits: self.inner.limits.clone(),
            own_addr: Box::new(move || reach::listening_at(&endpoint, &advertise)),
            out,
        };
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            // What has ended is forgotten.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(supervise(puller, self.inner.stop.subscribe()));
        }
        entries
    }

    /// An invitation to the run: this node and some peers that it has met.
    pub fn ticket(&self, record: Option<Hash>) -> Ticket {
        let mut peers = vec![self.addr()];
        peers.extend(self.inner.book.shareable(None, PEERS_IN_TICKET));
        Ticket { run: self.inner.log.run(), record, peers }
    }

    /// A ticket for one blob of this node's store, in iroh-blobs' own form.
    pub fn blob_ticket(&self, id: &Hash) -> BlobTicket {
        self.iroh_ticket(id, BlobFormat::Raw)
    }

    /// A ticket for a collection (see [`collect`](crate::collect)) and every blob of it, likewise.
    pub fn collection_ticket(&self, id: &Hash) -> BlobTicket {
        self.iroh_ticket(id, BlobFormat::HashSeq)
    }

    fn iroh_ticket(&self, id: &Hash, format: BlobFormat) -> BlobTicket {
        let addr = self.addr();
        let iroh_addr = addr.to_endpoint_addr().unwrap_or_else(|| self.inner.endpoint.id().into());
        BlobTicket::new(iroh_addr, to_iroh(id), format)
    }

    /// Closes every connection and ends every task. The store stays open.
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
            // Peers that are gone cannot confirm the end of their connections; those that live have been told.
            Err(_) => tracing::debug!("some peers did not confirm the end of their connections"),
        }
    }

    fn open(&self) -> Result<(), FetchError> {
        if *self.inner.stop.borrow() { Err(FetchError::Closed) } else { Ok(()) }
    }
}
