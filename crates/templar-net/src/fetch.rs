//! Fetching blobs: what is not here is wanted of the swarm, and waited for.
//!
//! Invariant: a blob that a fetch reports is whole, verified and kept; a failed fetch says what every provider answered.

use std::sync::Arc;
use std::time::Duration;

use iroh_blobs::BlobFormat;
use templar_manifest::Hash;
use templar_store::{ReadError, from_iroh};
use tokio::time::sleep;

use crate::book::Source;
use crate::collection;
use crate::error::FetchError;
use crate::peer::{PeerAddr, PeerId};
use crate::swarm::Swarm;
use crate::swarm::plan::Settled;
use crate::ticket::BlobTicket;

/// The longest list of hashes that a ticket may name, in bytes (32 per hash).
const MAX_LIST_BYTES: u64 = 1 << 20;

/// How often the lengths of a list's blobs are added up while they come.
const ADD_UP: Duration = Duration::from_millis(50);

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
    /// For a ticket of a collection: the files, each with the name that its sender gave it. See [`crate::file_path`].
    pub files: Vec<(String, Hash)>,
    /// The bytes of all of them.
    pub fetched: Fetched,
}

/// Fetches what callers ask for through one swarm.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) swarm: Arc<Swarm>,
}

impl Fetcher {
    /// The size of the blob if it is here already.
    async fn here(&self, id: &Hash, max_bytes: u64) -> Result<Option<u64>, FetchError> {
        let store = &self.swarm.store;
        if !store.has(id).await.map_err(|error| FetchError::list(id, &error))? {
            return Ok(None);
        }
        match store.size(id).await {
            Some(size) if size > max_bytes => Err(FetchError::TooLarge { id: *id, size, max_bytes }),
            size => Ok(size),
        }
    }

    pub(crate) async fn fetch(&self, id: &Hash, max_bytes: u64, providers: &[PeerId]) -> Result<Fetched, FetchError> {
        self.fetch_all(&[(*id, max_bytes)], providers).await
    }

    pub(crate) async fn fetch_all(&self, ids: &[(Hash, u64)], providers: &[PeerId]) -> Result<Fetched, FetchError> {
        let mut all = Fetched::default();
        // One failure does not keep the other blobs away; the first in the caller's order is reported.
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
                Settled::Failed(failure) => fail(position, FetchError::of(&id, failure, max_bytes)),
            }
        }
        failed.map_or(Ok(all), |(_, error)| Err(error))
    }

    pub(crate) async fn fetch_ticket(&self, ticket: &BlobTicket, max_bytes: u64) -> Result<FetchedTicket, FetchError> {
        let addr = PeerAddr::from_endpoint_addr(ticket.addr());
        let provider = [addr.id];
        if let Some(addr) = addr.usable() {
            self.swarm.book.learn(addr, Source::Configured);
        }
        let root = from_iroh(&ticket.hash());
        if ticket.format() == BlobFormat::Raw {
            let fetched = self.fetch(&root, max_bytes, &provider).await?;
            return Ok(FetchedTicket { root, children: Vec::new(), files: Vec::new(), fetched });
        }
        let mut all = self.fetch(&root, max_bytes.min(MAX_LIST_BYTES), &provider).await?;
        let list = self.swarm.store.get(&root, MAX_LIST_BYTES).await.map_err(|error| read_error(&root, &error))?;
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

    /// The names that a collection gives its files; none where the list is not one.
    async fn files(&self, children: &[Hash]) -> Result<Vec<(String, Hash)>, FetchError> {
        let Some((first, others)) = children.split_first() else { return Ok(Vec::new()) };
        match self.swarm.store.get(first, MAX_LIST_BYTES).await {
            Ok(bytes) => Ok(collection::names(&bytes, others).unwrap_or_default()),
            Err(ReadError::TooLarge { .. }) => Ok(Vec::new()),
            Err(error) => Err(read_error(first, &error)),
        }
    }

    /// Returns when the blobs turn out to be longer than `max_bytes` together: a large one's length is proven before its
    /// bytes come.
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

fn read_error(id: &Hash, error: &ReadError) -> FetchError {
    FetchError::Store { id: *id, reason: error.to_string() }
}
