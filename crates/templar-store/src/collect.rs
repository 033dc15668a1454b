//! Removing blobs: what nothing wants any more, and what turned out to be corrupt.
//!
//! Invariant: a removal removes the blobs that it names and nothing else, and never runs beside an import, whose bytes it
//! could take for nobody's.
//!
//! iroh-blobs deletes only by collecting garbage: everything without a tag that its callback does not protect. So its
//! collector is set up with a callback that waits for a [`Request`], protects all blobs but those to be removed, and so
//! turns a collection into a removal.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use iroh_blobs::store::{GcConfig, ProtectOutcome};
use templar_manifest::Hash;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::store::{from_iroh, io_error, to_iroh};
use crate::{ListError, RemoveError, Store};

/// One collection.
struct Request {
    protected: HashSet<iroh_blobs::Hash>,
    /// Told when it is done; dropped where the database stopped first.
    done: oneshot::Sender<()>,
}

/// Asks iroh-blobs' collector to run.
#[derive(Debug)]
pub(crate) struct Collector {
    requests: mpsc::Sender<Request>,
}

struct Waiting {
    requests: mpsc::Receiver<Request>,
    under_way: Option<oneshot::Sender<()>>,
}

/// A collector and what iroh-blobs is set up with for it. `store` is to be set to the store once that is open.
pub(crate) fn collector(store: Arc<OnceLock<iroh_blobs::api::Store>>) -> (Collector, GcConfig) {
    let (requests, receiver) = mpsc::channel(1);
    let waiting = Arc::new(Mutex::new(Waiting { requests: receiver, under_way: None }));
    let next: iroh_blobs::store::ProtectCb = Arc::new(move |live| {
        let (waiting, store) = (waiting.clone(), store.clone());
        Box::pin(async move {
            let mut waiting = waiting.lock().await;
            // To be called again is how a collection ends.
            if let Some(done) = waiting.under_way.take() {
                let _ = done.send(());
            }
            match waiting.requests.recv().await {
                Some(request) => {
                    live.extend(request.protected);
                    waiting.under_way = Some(request.done);
                }
                // The last handle is gone. Only a database that has stopped ends the collector, which would keep it open.
                None => {
                    if let Some(store) = store.get().cloned() {
                        let _ = tokio::spawn(async move { store.shutdown().await }).await;
                    }
                }
            }
            ProtectOutcome::Continue
        })
    });
    (Collector { requests }, GcConfig { interval: Duration::ZERO, add_protected: Some(next) })
}

impl Store {
    /// Removes blobs, whole ones and those of which only a part is here; names that are not here are well.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] while anything is imported: nothing was removed, and a later attempt may succeed.
    pub async fn remove(&self, ids: &BTreeSet<Hash>) -> Result<(), RemoveError> {
        let Some(disk) = self.disk() else { return Err(RemoveError::Memory) };
        let Ok(_alone) = disk.imports.try_write() else { return Err(RemoveError::Busy) };
        for id in ids {
            let untagged = self.blobs().tags().delete(id.to_string()).await;
            untagged.map_err(|error| RemoveError::Io(io_error(error)))?;
        }
        let protected = self.all().await?.into_iter().filter(|id| !ids.contains(id)).map(|id| to_iroh(&id)).collect();
        let (done, ended) = oneshot::channel();
        let asked = disk.collector.requests.send(Request { protected, done }).await;
        asked.map_err(|_| ListError::Closed)?;
        ended.await.map_err(|_| ListError::Closed)?;
        Ok(())
    }

    /// Every name that the database has, of whole blobs and of parts, sorted.
    pub(crate) async fn all(&self) -> Result<Vec<Hash>, ListError> {
        let hashes = self.blobs().blobs().list().hashes().await.map_err(|error| match error {
            iroh_blobs::api::RequestError::Rpc { .. } => ListError::Closed,
            inner => ListError::Io(io_error(inner)),
        })?;
        // A database that has stopped lists nothing, without an error.
        self.has(&Hash::default()).await?;
        let mut ids: Vec<Hash> = hashes.iter().map(from_iroh).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

impl From<ListError> for RemoveError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Closed => Self::Closed,
            ListError::Io(source) => Self::Io(source),
        }
    }
}

impl From<RemoveError> for io::Error {
    fn from(error: RemoveError) -> Self {
        Self::other(error)
    }
}
