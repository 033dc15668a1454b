//! Removes blobs that no run needs any more when a window has closed, if the configuration asks for it. These
//! are the blobs that the rule of retention lets go, and deltas and traces that came too late for their cut.
//! Parts of blobs stay, since a fetch may continue from them; `store gc` removes them.

use std::collections::BTreeSet;

use templar_blob::ReadError;
use templar_home::inventory::{retention, uncut};
use templar_manifest::Hash;
use templar_store::RemoveError;

use super::Driver;
use super::pruner::Pruner;
use super::task::{Done, TaskId};
use crate::compute::compute;
use crate::event::NodeEvent;

impl Driver {
    /// Begins to remove the blobs that the rule of [`templar_home::retention`] lets go, unless a task is under
    /// way that reads or fetches. A moment without such a task comes, since a window has phases in which a node
    /// only waits.
    pub(super) fn prune(&mut self) {
        let open = self.replica.node().state().window();
        let quiet = self.tasks.only_wait();
        let Some(pruner) = self.pruner.clone().filter(|_| self.followed.pruned < open && quiet && self.is_current())
        else {
            return;
        };
        self.followed.pruned = open;
        let (context, node) = (self.replica.context.clone(), self.replica.node().clone());
        self.spawn(TaskId::Prune, |shared| async move {
            let Pruner { store, blobs, others } = pruner;
            let held = store.list().await.unwrap_or_default();
            let whole = held.clone();
            let released = compute(move || {
                let mut rule = retention(&context, &node, &*blobs);
                rule.and((*others).clone());
                let uncut = uncut(&context, &node, &rule, &*blobs, &whole)?;
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
                    shared.emit(NodeEvent::Pruned { blobs: goes.len() as u64, bytes }).await;
                }
                // The next window that closes brings another attempt.
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
