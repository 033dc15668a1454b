//! Removes what no run needs any more when a window has closed, where the configuration asks for it: what the rule lets go, and
//! deltas and traces that came too late for their cut. Parts of blobs stay for who may go on fetching them, and for `store gc`.

use std::collections::BTreeSet;
use std::sync::Arc;

use templar_manifest::Hash;
use templar_store::{BlobSource, ReadError, RemoveError, Store};

use super::{Done, Driver};
use crate::compute::compute;
use crate::event::Event;
use crate::home::Home;
use crate::inventory::{self, InventoryError, retention};
use crate::retention::Retention;

/// What a pruning node knows besides its own run.
#[derive(Clone)]
pub(crate) struct Pruner {
    store: Store,
    blobs: Arc<dyn BlobSource>,
    /// What the other runs of the home say, which stand still while this node runs.
    others: Arc<Retention>,
}

impl Pruner {
    /// For a node of `run` in `home`. Blocks.
    pub(crate) fn new(
        home: &Home,
        store: Store,
        blobs: Arc<dyn BlobSource>,
        run: templar_manifest::RunId,
    ) -> Result<Self, InventoryError> {
        let others = inventory::runs(home, &*blobs, Some(run))?.rule;
        Ok(Self { store, blobs, others: Arc::new(others) })
    }
}

impl Driver {
    /// Begins to remove what the rule of [`crate::retention`] lets go. Waits for a moment at which nothing is under way that
    /// reads or fetches: that moment comes, since a window has phases in which a node only waits.
    pub(super) fn prune(&mut self) {
        let windows = self.replica.node().closed().len();
        let quiet = self.under_way.iter().all(|name| name.contains("deadline"));
        let Some(pruner) = self.pruner.clone().filter(|_| self.pruned < windows && quiet && self.is_current()) else {
            return;
        };
        self.pruned = windows;
        let (context, node) = (self.replica.context.clone(), self.replica.node().clone());
        self.spawn("pruning".to_owned(), |shared| async move {
            let Pruner { store, blobs, others } = pruner;
            let held = store.list().await.unwrap_or_default();
            let whole = held.clone();
            let released = compute(move || {
                let mut rule = retention(&context, &node, &*blobs);
                rule.and((*others).clone());
                let uncut = inventory::uncut(&context, &node, &rule, &*blobs, &whole)?;
                Ok::<_, ReadError>(rule.released().copied().chain(uncut).collect::<BTreeSet<Hash>>())
            })
            .await;
            let released = match released {
                Ok(released) => released,
                Err(error) => {
                    store.check().await?;
                    tracing::warn!(%error, "nothing was pruned");
                    return Ok(Done::Pruned);
                }
            };
            let goes: Vec<(Hash, u64)> = held.into_iter().filter(|(id, _)| released.contains(id)).collect();
            if goes.is_empty() {
                return Ok(Done::Pruned);
            }
            match store.remove(&goes.iter().map(|(id, _)| *id).collect()).await {
                Ok(()) => {
                    let bytes = goes.iter().map(|(_, bytes)| bytes).sum();
                    let _ = shared.events.send(Event::Pruned { blobs: goes.len() as u64, bytes }).await;
                }
                // The next window that closes brings another try.
                Err(RemoveError::Busy) => {}
                Err(error) => {
                    store.check().await?;
                    tracing::warn!(%error, "nothing was pruned");
                }
            }
            Ok(Done::Pruned)
        });
    }
}
