//! An executor on an open store.

use std::sync::Arc;

use templar_blob::{Damage, Watched};
use templar_home::Home;
use templar_home::context::RunContext;
use templar_store::{BlockingStore, Store};

use super::{Executor, WorkError};

impl Executor {
    /// An executor that reads from `store` and keeps its results there. `damage` remembers the blobs that it
    /// finds corrupt.
    ///
    /// # Errors
    /// The system gives no compute threads.
    pub(crate) fn on_store(home: &Home, store: &Store, context: RunContext, damage: Damage) -> Result<Self, WorkError> {
        let handle = tokio::runtime::Handle::current();
        let blobs = Arc::new(Watched { blobs: BlockingStore::new(store.clone(), handle.clone()), damage });
        let keeping = store.clone();
        let keep = Arc::new(move |bytes: Vec<u8>| handle.block_on(keeping.put(bytes)));
        Self::new(context, home.clone(), blobs, keep)
    }
}
