//! The collector of garbage of iroh-blobs, made to run when it is asked to.
//!
//! iroh-blobs deletes a blob only by collecting garbage: it removes every blob that has no tag and that a
//! callback does not protect. The collector is set up with a callback that waits for a [`Collection`] and
//! protects all blobs but those to be removed. So a collection becomes a removal.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use iroh_blobs::store::{GcConfig, ProtectOutcome};
use tokio::sync::{Mutex, mpsc, oneshot};

/// One collection that is to run.
struct Collection {
    /// The blobs that stay.
    protected: HashSet<iroh_blobs::Hash>,
    /// Told when the collection is done; dropped where the database stopped first.
    done: oneshot::Sender<()>,
}

/// The collector ended before the collection was done: the database has stopped.
#[derive(Debug)]
pub(crate) struct CollectorStopped;

/// Asks iroh-blobs' collector to run.
#[derive(Debug)]
pub(crate) struct Collector {
    requests: mpsc::Sender<Collection>,
}

impl Collector {
    /// Removes every blob that has no tag and is not `protected`.
    pub(crate) async fn collect(&self, protected: HashSet<iroh_blobs::Hash>) -> Result<(), CollectorStopped> {
        let (done, ended) = oneshot::channel();
        self.requests.send(Collection { protected, done }).await.map_err(|_| CollectorStopped)?;
        ended.await.map_err(|_| CollectorStopped)
    }
}

struct Waiting {
    requests: mpsc::Receiver<Collection>,
    under_way: Option<oneshot::Sender<()>>,
}

/// Creates a collector, and the configuration with which iroh-blobs must be opened for it. The caller sets
/// `store` to the store as soon as that is open.
pub(crate) fn collector(store: Arc<OnceLock<iroh_blobs::api::Store>>) -> (Collector, GcConfig) {
    let (requests, receiver) = mpsc::channel(1);
    let waiting = Arc::new(Mutex::new(Waiting { requests: receiver, under_way: None }));
    let next: iroh_blobs::store::ProtectCb = Arc::new(move |live| {
        let (waiting, store) = (waiting.clone(), store.clone());
        Box::pin(async move {
            let mut waiting = waiting.lock().await;
            // The callback is called again only after a collection has ended.
            if let Some(done) = waiting.under_way.take() {
                let _ = done.send(());
            }
            match waiting.requests.recv().await {
                Some(request) => {
                    live.extend(request.protected);
                    waiting.under_way = Some(request.done);
                }
                // The last handle is gone. The collector would keep the database open, and ends only when that
                // has stopped.
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
