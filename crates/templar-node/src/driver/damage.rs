//! Blobs of our own that turn out to be corrupt while work reads them: remembered, repaired, fetched again.
//!
//! Work fails on such a blob like on any that is missing, and is begun again; what is done in between is this.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::Hash;
use templar_store::{BlockingStore, RemoveError, Repaired};

use super::gather::{Gatherer, within};
use crate::exchange::MAX_BLOB_BYTES;
use crate::replica::lock;
use crate::workbench::WorkError;

/// How long peers are asked for the right bytes before work is tried again.
const HEALING_PATIENCE: Duration = Duration::from_secs(10);

/// The blobs that reads have found corrupt since they were healed last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Damage(Arc<Mutex<BTreeSet<Hash>>>);

impl Damage {
    /// Remembers what an error tells.
    pub(crate) fn note(&self, error: &ReadError) {
        // A repair reads again before it changes anything, so what was only busy loses nothing.
        if let ReadError::Corrupt { id, .. } | ReadError::Io { id, .. } = error {
            lock(&self.0).insert(*id);
        }
    }

    fn take(&self) -> BTreeSet<Hash> {
        std::mem::take(&mut lock(&self.0))
    }
}

/// A store whose corrupt blobs are remembered.
pub(crate) struct Watched {
    pub(crate) blobs: BlockingStore,
    pub(crate) damage: Damage,
}

impl BlobSource for Watched {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        self.blobs.read(id, max_bytes).inspect_err(|error| self.damage.note(error))
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains(id)
    }
}

/// What became of a corrupt blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Healed {
    pub(crate) id: Hash,
    pub(crate) whole: bool,
}

impl std::fmt::Display for Healed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.whole { "it is whole again" } else { "no peer has given it yet" };
        write!(f, "blob {} was corrupt on the disk; {end}", self.id)
    }
}

impl Gatherer {
    /// Repairs what reads have found corrupt, and fetches the rest of it.
    pub(crate) async fn heal(&self) -> Result<Vec<Healed>, WorkError> {
        let mut healed = Vec::new();
        for id in self.damage.take() {
            let whole = match self.store.repair(&id).await {
                Ok(Repaired::Whole) => true,
                Ok(Repaired::Partial { .. }) => {
                    self.fetch(&[(id, MAX_BLOB_BYTES)], &[], within(HEALING_PATIENCE)).await?
                }
                // Something is on its way in, so the next read will find it corrupt again.
                Err(RemoveError::Busy) => continue,
                Err(error) => {
                    self.store.check().await?;
                    tracing::warn!(blob = %id.short(), %error, "a corrupt blob is not repaired");
                    continue;
                }
            };
            healed.push(Healed { id, whole });
        }
        Ok(healed)
    }
}
