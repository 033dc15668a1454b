//! Fetches blobs for callers: registers the blobs that are not in the store with the swarm, and waits for them.
//!
//! Invariant: a blob that a fetch reports is whole, verified, and protected from deletion. A failed fetch names
//! the answer of each provider.

use std::sync::Arc;
use std::time::Duration;

use iroh_blobs::BlobFormat;
use templar_blob::ReadError;
use templar_manifest::Hash;
use templar_store::from_iroh;
use tokio::time::sleep;

use crate::collection;
use crate::error::FetchError;
use crate::peers::book::AddrSource;
use crate::peers::peer::{PeerAddr, PeerId};
use crate::swarm::Swarm;
use crate::swarm::plan::{FetchFailure, Settled};
use crate::ticket::BlobTicket;

/// The longest list of hashes that a ticket may name, in bytes (32 per hash).
const MAX_LIST_BYTES: u64 = 1 << 20;

/// The interval at which the lengths of a list's blobs are added up while they come.
const ADD_UP: Duration = Duration::from_millis(50);

/// The result of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    /// The length of the blob (or of all blobs together), in bytes.
    pub size: u64,
    /// The bytes that came over the network. The rest was in the store before.
    pub received: u64,
}

/// The result of fetching a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTicket {
    /// The blob that the ticket names.
    pub root: Hash,
    /// The blobs on the list, in its order, if the ticket names a list. Otherwise empty.
    pub children: Vec<Hash>,
    /// The files of the collection, if the ticket names one, each with the name that its sender gave it. Turn a
    /// name into a path only through [`crate::file_path`].
    pub files: Vec<(String, Hash)>,
    /// The bytes of all blobs together, the list included.
    pub fetched: Fetched,
}

/// Fetches blobs for callers, through the node's swarm.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) swarm: Arc<Swarm>,
}

impl Fetcher {
    /// The length of a blob that is whole in the store, or `None`.
    async fn here(&self, id: &Hash, max_bytes: u64) -> Result<Option<u64>, FetchError> {
        let store = &self.swarm.store;
        if !store.has(id).await.map_err(|error| store_error(id, &error))? {
            return Ok(None);
        }
        match store.size(id).await {
            Some(size) if size > max_bytes => Err(FetchError::TooLarge { id: *id, size, max_bytes }),
            size => Ok(size),
        }
    }

    /// Fetches one blob of at most `max_bytes` bytes. See [`Net::fetch`](crate::Net::fetch).
    pub(crate) async fn fetch(&self, id: &Hash, max_bytes: u64, providers: &[PeerId]) -> Result<Fetched, FetchError> {
        self.fetch_all(&[(*id, max_bytes)], providers).await
    }

    /// Fetches several blobs, each with its bound in bytes. See [`Net::fetch_all`](crate::Net::fetch_all).
    pub(crate) async fn fetch_all(&self, ids: &[(Hash, u64)], providers: &[PeerId]) -> Result<Fetched, FetchError> {
        let mut all = Fetched::default();
        // A failure does not stop the other blobs. The first failure in the caller's order is reported.
        let mut failed: Option<(usize, FetchError)> = None;
        let mut fail = |position: usize, error: FetchError| {
            if failed.as_ref().is_none_or(|(first, _)| position < *first) {
                failed = Some((position, error));
            }
        };
        let mut wanted = Vec::new();
        for (position, (id, max_bytes)) in ids.iter().enumerate() {
            match self.here(id, *max_bytes).await {
                Ok(Some(size)) => all.size = all.size.saturating_add(size),
                Ok(None) => wanted.push((position, (*id, *max_bytes))),
                Err(error) => fail(position, error),
            }
        }
        let blobs: Vec<(Hash, u64)> = wanted.iter().map(|(_, blob)| *blob).collect();
        let interest = self.swarm.want(&blobs, providers).await;
        let interest = interest.map_err(|(id, reason)| FetchError::Store { id, reason })?;
        for (number, (position, (id, max_bytes))) in wanted.into_iter().enumerate() {
            let (settled, received) = interest.outcome(number).await;
            all.received = all.received.saturating_add(received);
            match settled {
                Settled::Here { size } if size > max_bytes => {
                    fail(position, FetchError::TooLarge { id, size, max_bytes });
                }
                Settled::Here { size } => all.size = all.size.saturating_add(size),
                Settled::Failed(failure) => fail(position, fetch_error(&id, failure, max_bytes)),
            }
        }
        failed.map_or(Ok(all), |(_, error)| Err(error))
    }

    /// Fetches the blobs that a ticket names. See [`Net::fetch_ticket`](crate::Net::fetch_ticket).
    pub(crate) async fn fetch_ticket(&self, ticket: &BlobTicket, max_bytes: u64) -> Result<FetchedTicket, FetchError> {
        let addr = PeerAddr::from_endpoint_addr(ticket.addr());
        let provider = [addr.id];
        if let Some(addr) = addr.usable() {
            self.swarm.book.learn(addr, AddrSource::Configured);
        }
        let root = from_iroh(&ticket.hash());
        if ticket.format() == BlobFormat::Raw {
            let fetched = self.fetch(&root, max_bytes, &provider).await?;
            return Ok(FetchedTicket { root, children: Vec::new(), files: Vec::new(), fetched });
        }
        let mut all = self.fetch(&root, max_bytes.min(MAX_LIST_BYTES), &provider).await?;
        let list = self.swarm.store.get(&root, MAX_LIST_BYTES).await.map_err(|error| store_error(&root, &error))?;
        let (hashes, rest) = list.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(FetchError::NotAList { id: root });
        }
        let children: Vec<Hash> = hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect();
        let left = max_bytes.saturating_sub(all.size);
        let blobs: Vec<(Hash, u64)> = children.iter().map(|id| (*id, left)).collect();
        let too_large = |size| FetchError::TooLarge { id: root, size, max_bytes: left };
        let fetched = tokio::select! {
            fetched = self.fetch_all(&blobs, &provider) => fetched?,
            size = self.grows_beyond(&children, left) => return Err(too_large(size)),
        };
        if fetched.size > left {
            return Err(too_large(fetched.size));
        }
        all.size = all.size.saturating_add(fetched.size);
        all.received = all.received.saturating_add(fetched.received);
        Ok(FetchedTicket { root, files: self.files(&children).await?, children, fetched: all })
    }

    /// The files of a collection with their names. Empty if the list is not a collection.
    async fn files(&self, children: &[Hash]) -> Result<Vec<(String, Hash)>, FetchError> {
        let Some((first, others)) = children.split_first() else { return Ok(Vec::new()) };
        match self.swarm.store.get(first, MAX_LIST_BYTES).await {
            Ok(bytes) => Ok(collection::names(&bytes, others).unwrap_or_default()),
            Err(ReadError::TooLarge { .. }) => Ok(Vec::new()),
            Err(error) => Err(store_error(first, &error)),
        }
    }

    /// Returns the sum of the blobs' lengths once it is above `max_bytes`, and otherwise never.
    ///
    /// The length of a large blob is proven before its bytes come, so a list that is too long costs little.
    async fn grows_beyond(&self, ids: &[Hash], max_bytes: u64) -> u64 {
        loop {
            let known = self.swarm.known_bytes(ids);
            if known > max_bytes {
                return known;
            }
            sleep(ADD_UP).await;
        }
    }
}

fn store_error(id: &Hash, error: &impl std::error::Error) -> FetchError {
    FetchError::Store { id: *id, reason: error.to_string() }
}

/// The caller's error for a blob that the plan could not bring.
fn fetch_error(id: &Hash, failure: FetchFailure, max_bytes: u64) -> FetchError {
    match failure {
        FetchFailure::NoProvider(answers) if answers.is_empty() => FetchError::NoPeers { id: *id },
        FetchFailure::NoProvider(answers) => FetchError::NoProvider { id: *id, answers },
        FetchFailure::TooLarge { size } => FetchError::TooLarge { id: *id, size, max_bytes },
        FetchFailure::DiskFull => FetchError::DiskFull { id: *id },
        FetchFailure::Store(reason) => FetchError::Store { id: *id, reason },
        FetchFailure::Closed => FetchError::Closed,
    }
}
