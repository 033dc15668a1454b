//! The blobs that the other runs of a pruning node's home need.

use std::sync::Arc;

use templar_blob::BlobSource;
use templar_home::Home;
use templar_home::inventory::{self, InventoryError};
use templar_home::retention::Retention;
use templar_manifest::RunId;
use templar_store::{BlockingStore, Store};

use crate::compute::compute;

/// The needs of the other runs of the home, and the store.
#[derive(Clone)]
pub(super) struct Pruner {
    pub(super) store: Store,
    pub(super) blobs: Arc<dyn BlobSource>,
    /// The verdicts of the other runs. They do not change while this node holds the home.
    pub(super) others: Arc<Retention>,
}

impl Pruner {
    /// For a node of `run` in `home`.
    ///
    /// # Errors
    /// Another run of the home cannot be read, so it is not known what that run needs.
    pub(super) async fn new(home: &Home, store: &Store, run: RunId) -> Result<Self, InventoryError> {
        let blobs = Arc::new(BlockingStore::new(store.clone(), tokio::runtime::Handle::current()));
        let (home, store) = (home.clone(), store.clone());
        compute(move || {
            let others = inventory::runs(&home, &*blobs, Some(run))?.rule;
            Ok(Self { store, blobs, others: Arc::new(others) })
        })
        .await
    }
}
