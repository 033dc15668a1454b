//! The [`Net`] handle: binds the endpoint, owns every task, and offers fetching, pulling, tickets and the address book.
//!
//! Invariant: everything started here has ended when [`Net::shutdown`] returns. The store is the node's and stays open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::{PortmapperConfig, QuicTransportConfig, VarInt, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, RelayMode, SecretKey};
use iroh_blobs::BlobFormat;
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::book::{Book, Source};
use crate::fetch::{Fetched, FetchedTicket, Fetcher};
use crate::gate::Gate;
use crate::have::{HAVE_ALPN, HaveServer};
use crate::lines::Lines;
use crate::peer::{MAX_ADDRS, PeerAddr, PeerAddrError, PeerId};
use crate::pool::Pool;
use crate::provide::{Provider, ServePolicy};
use crate::pull::{Pulled, Puller, supervise};
use crate::rate::Bucket;
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
    lines: Arc<Lines>,
    pub(crate) fetcher: Fetcher,
    pub(crate) served: Provider,
    run: Hash,
    limits: Limits,
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
    /// No relay, no name service, no port mapping: peers are reached at the addresses that the book learns.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(
        config: NetConfig,
        store: Store,
        log: Arc<dyn Log>,
        policy: Arc<dyn ServePolicy>,
    ) -> Result<Self, BindError> {
        let endpoint = bind_endpoint(&config).await?;
        let limits = config.limits;
        let book = Arc::new(Book::new(*endpoint.id().as_bytes(), limits.max_peers));
        let lines = Arc::new(Lines::default());
        let (inbound, inbound_per_peer) = limits.inbound();
        let gate = || Gate::new(inbound, inbound_per_peer);
        let run = log.run();
        let have = HaveServer {
            store: store.clone(),
            policy: policy.clone(),
            book: book.clone(),
            gate: gate(),
            lines: lines.clone(),
            stall_timeout: limits.stall_timeout,
        };
        let provider = Provider {
            store: store.clone(),
            policy,
            gate: gate(),
            requests: Gate::new(limits.max_requests, limits.max_requests_per_peer),
            lines: lines.clone(),
            bucket: Arc::new(Bucket::new(limits.upload_bytes_per_second)),
            max_request_bytes: limits.max_request_bytes,
            stall_timeout: limits.stall_timeout,
            sent: Arc::default(),
        };
        let sync = SyncServer {
            log,
            book: book.clone(),
            gate: gate(),
            lines: lines.clone(),
            stall_timeout: limits.stall_timeout,
        };
        let served = provider.clone();
        let router = Router::builder(endpoint.clone())
            .accept(iroh_blobs::ALPN, provider)
            .accept(HAVE_ALPN, have)
            .accept(SYNC_ALPN, sync)
            .spawn();
        let pool = Pool::new(endpoint.clone(), book.clone(), lines.clone(), limits.connect_timeout);
        let swarm = Swarm::new(store, book.clone(), pool, *endpoint.id().as_bytes(), limits.clone());
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(swarm.clone().supervise(stop.subscribe()));
        let tasks = Mutex::new(Some(tasks));
        let fetcher = Fetcher { swarm };
        Ok(Self { inner: Arc::new(Inner { endpoint, router, book, lines, fetcher, served, run, limits, stop, tasks }) })
    }

    /// This node's id: the public key of its secret key.
    pub fn id(&self) -> PeerId {
        *self.inner.endpoint.id().as_bytes()
    }

    /// This node's id and the addresses it listens at.
    pub fn addr(&self) -> PeerAddr {
        listening_at(&self.inner.endpoint)
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
        self.inner.fetcher.fetch(id, max_bytes, providers).await
    }

    /// Fetches blobs, each with its own limit in bytes, many at a time. Tries all of them whatever happens.
    ///
    /// # Errors
    /// The failure of the first blob, in the order of `ids`, that could not be fetched.
    pub async fn fetch_all(&self, ids: &[(Hash, u64)], providers: &[PeerId]) -> Result<Fetched, FetchError> {
        self.open()?;
        self.inner.fetcher.fetch_all(ids, providers).await
    }

    /// Fetches what a blob ticket names, from the peer it names: a blob, or a list of blobs and every blob on it,
    /// together at most `max_bytes`.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and [`FetchError::NotAList`].
    pub async fn fetch_ticket(&self, ticket: &BlobTicket, max_bytes: u64) -> Result<FetchedTicket, FetchError> {
        self.open()?;
        self.inner.fetcher.fetch_ticket(ticket, max_bytes).await
    }

    /// How many bytes of blobs, with the hashes that prove them, this node has sent to peers.
    pub fn sent_bytes(&self) -> u64 {
        self.inner.served.sent.load(Ordering::Relaxed)
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
        let endpoint = self.inner.endpoint.clone();
        let puller = Puller {
            endpoint: endpoint.clone(),
            book: self.inner.book.clone(),
            lines: self.inner.lines.clone(),
            run: self.inner.run,
            limits: self.inner.limits.clone(),
            own_addr: Box::new(move || listening_at(&endpoint)),
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
        Ticket { run: self.inner.run, record, peers }
    }

    /// A ticket for one blob of this node's store, in iroh-blobs' own form.
    pub fn blob_ticket(&self, id: &Hash) -> BlobTicket {
        let addr = self.addr();
        let iroh_addr = addr
            .addrs
            .iter()
            .fold(self.inner.endpoint.id().into(), |iroh_addr: iroh::EndpointAddr, addr| iroh_addr.with_ip_addr(*addr));
        BlobTicket::new(iroh_addr, to_iroh(id), BlobFormat::Raw)
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

async fn bind_endpoint(config: &NetConfig) -> Result<Endpoint, BindError> {
    let limits = &config.limits;
    let idle = limits.idle_timeout.try_into().map_err(|_| BindError::Limit { name: "idle_timeout" })?;
    let transport = QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(limits.keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .send_window(u64::from(limits.connection_memory))
        .receive_window(VarInt::from_u32(limits.connection_memory))
        .stream_receive_window(VarInt::from_u32(limits.connection_memory / 2))
        .build();
    let addr_error = |reason: String| BindError::Addr { addr: config.bind, reason };
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&config.secret_key))
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport)
        .clear_ip_transports()
        .bind_addr(config.bind)
        .map_err(|error| addr_error(error.to_string()))?
        .bind()
        .await
        .map_err(|error| addr_error(format!("{error:#}")))
}

/// The bound socket, or what it stands for when it listens on all interfaces.
fn listening_at(endpoint: &Endpoint) -> PeerAddr {
    let mut addrs: BTreeSet<_> =
        endpoint.bound_sockets().into_iter().filter(|addr| !addr.ip().is_unspecified()).collect();
    if addrs.is_empty() {
        addrs = endpoint.addr().ip_addrs().copied().collect();
    }
    let addr = PeerAddr { id: *endpoint.id().as_bytes(), addrs: addrs.into_iter().take(MAX_ADDRS).collect() };
    addr.clone().usable().unwrap_or(addr)
}
