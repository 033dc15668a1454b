//! Fetching blobs: one provider after another until the bytes are here, several blobs at a time.
//!
//! Invariant: a blob that a fetch reports is whole, verified and kept; a failed fetch says what every provider answered.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use iroh_blobs::BlobFormat;
use n0_future::{BufferedStreamExt, StreamExt, stream};
use templar_manifest::Hash;
use templar_store::{ReadError, Store, from_iroh};

use crate::book::{Book, Source};
use crate::config::Limits;
use crate::error::{FetchError, ProviderAnswer};
use crate::peer::{PeerAddr, PeerId};
use crate::pool::Pool;
use crate::ticket::BlobTicket;
use crate::transfer::{TransferError, transfer};

/// The longest list of hashes that a ticket may name, in bytes (32 per hash).
const MAX_LIST_BYTES: u64 = 1 << 20;

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    /// The length of the blob (or of all blobs together), in bytes.
    pub size: u64,
    /// How many of these bytes came over the network now; the rest was here before.
    pub received: u64,
}

/// What a ticket named and brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTicket {
    /// The blob that the ticket names.
    pub root: Hash,
    /// For a ticket of a list: the blobs that it names, in its order.
    pub children: Vec<Hash>,
    /// The bytes of all of them.
    pub fetched: Fetched,
}

/// Fetches into one store from the peers of one book.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) store: Store,
    pub(crate) book: Arc<Book>,
    pub(crate) pool: Pool,
    pub(crate) limits: Limits,
    /// Blobs being fetched, so that two callers who want the same one share the work.
    pub(crate) in_flight: Mutex<BTreeMap<Hash, Weak<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    fn turn(&self, id: &Hash) -> Arc<tokio::sync::Mutex<()>> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = in_flight.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        in_flight.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        in_flight.insert(*id, Arc::downgrade(&turn));
        turn
    }

    /// The size of the blob if it is here already.
    async fn here(&self, id: &Hash, max_bytes: u64) -> Result<Option<u64>, FetchError> {
        if !self.store.has(id).await.map_err(|error| FetchError::list(id, &error))? {
            return Ok(None);
        }
        match self.store.size(id).await {
            Some(size) if size > max_bytes => Err(FetchError::TooLarge { id: *id, size, max_bytes }),
            size => Ok(size),
        }
    }

    pub(crate) async fn fetch(&self, id: &Hash, max_bytes: u64, providers: &[PeerId]) -> Result<Fetched, FetchError> {
        if let Some(size) = self.here(id, max_bytes).await? {
            return Ok(Fetched { size, received: 0 });
        }
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        if let Some(size) = self.here(id, max_bytes).await? {
            return Ok(Fetched { size, received: 0 });
        }
        let order = self.book.order(providers);
        if order.is_empty() {
            return Err(FetchError::NoPeers { id: *id });
        }
        let mut answers = Vec::new();
        let mut received = 0_u64;
        for peer in order {
            match self.fetch_from(&peer, id, max_bytes).await {
                Ok(bytes) => {
                    received = received.saturating_add(bytes);
                    if let Some(size) = self.here(id, max_bytes).await? {
                        self.store.keep(id).await.map_err(|error| FetchError::put(id, &error))?;
                        return Ok(Fetched { size, received });
                    }
                    answers.push((peer, ProviderAnswer::NotHere));
                }
                Err(TransferError::Provider(answer)) => {
                    tracing::debug!(blob = %id.short(), %answer, "a provider failed");
                    match &answer {
                        ProviderAnswer::BadData(_) | ProviderAnswer::ClaimsTooLarge { .. } => {
                            self.book.blame(&peer, format!("{answer} for blob {id}"));
                        }
                        ProviderAnswer::Stalled | ProviderAnswer::Aborted { .. } => {
                            self.book.note(&peer, format!("{answer} for blob {id}"));
                        }
                        _ => {}
                    }
                    if let ProviderAnswer::Aborted { received: bytes } = &answer {
                        received = received.saturating_add(*bytes);
                    }
                    answers.push((peer, answer));
                }
                Err(TransferError::TooLarge { size }) => return Err(FetchError::TooLarge { id: *id, size, max_bytes }),
                Err(TransferError::Local(error)) if is_disk_full(&error) => {
                    return Err(FetchError::DiskFull { id: *id });
                }
                Err(TransferError::Local(error)) => {
                    return Err(FetchError::Store { id: *id, reason: error.to_string() });
                }
            }
        }
        Err(FetchError::NoProvider { id: *id, answers })
    }

    async fn fetch_from(&self, peer: &PeerId, id: &Hash, max_bytes: u64) -> Result<u64, TransferError> {
        let connection = self.pool.connection(peer).await.map_err(ProviderAnswer::Unreachable)?;
        transfer(&self.store, &connection, id, max_bytes, self.limits.stall_timeout).await
    }

    pub(crate) async fn fetch_all(&self, ids: &[(Hash, u64)], providers: &[PeerId]) -> Result<Fetched, FetchError> {
        // Owned, so that the future can go to any thread whatever the lifetimes of `ids`.
        let ids: Vec<(usize, (Hash, u64))> = ids.iter().copied().enumerate().collect();
        let fetches = ids.into_iter().map(|(position, (id, max_bytes))| {
            // Several providers share the work: each blob begins with another of them.
            let mut providers = providers.to_vec();
            if !providers.is_empty() {
                let first = position % providers.len();
                providers.rotate_left(first);
            }
            async move { self.fetch(&id, max_bytes, &providers).await }
        });
        let mut outcomes = stream::iter(fetches).buffered_ordered(self.limits.fetches_in_flight);
        let mut all = Fetched::default();
        let mut failed = None;
        // One failure does not keep the other blobs away; the first in the caller's order is reported.
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(fetched) => {
                    all.size = all.size.saturating_add(fetched.size);
                    all.received = all.received.saturating_add(fetched.received);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(all), Err)
    }

    pub(crate) async fn fetch_ticket(&self, ticket: &BlobTicket, max_bytes: u64) -> Result<FetchedTicket, FetchError> {
        let addr = PeerAddr::from_endpoint_addr(ticket.addr());
        let provider = [addr.id];
        if let Some(addr) = addr.usable() {
            self.book.learn(addr, Source::Configured);
        }
        let root = from_iroh(&ticket.hash());
        if ticket.format() == BlobFormat::Raw {
            let fetched = self.fetch(&root, max_bytes, &provider).await?;
            return Ok(FetchedTicket { root, children: Vec::new(), fetched });
        }
        let mut all = self.fetch(&root, max_bytes.min(MAX_LIST_BYTES), &provider).await?;
        let list = self.store.get(&root, MAX_LIST_BYTES).await.map_err(|error| read_error(&root, &error))?;
        let (hashes, rest) = list.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(FetchError::NotAList { id: root });
        }
        let children: Vec<Hash> = hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect();
        // One after another, so that the limit holds for all of them together.
        for id in &children {
            let left = max_bytes.saturating_sub(all.size);
            let fetched = self.fetch(id, left, &provider).await?;
            all.size = all.size.saturating_add(fetched.size);
            all.received = all.received.saturating_add(fetched.received);
        }
        Ok(FetchedTicket { root, children, fetched: all })
    }
}

fn read_error(id: &Hash, error: &ReadError) -> FetchError {
    FetchError::Store { id: *id, reason: error.to_string() }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
