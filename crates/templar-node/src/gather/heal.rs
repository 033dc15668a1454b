//! Heals this node's own corrupt blobs: repairs them on the disk and fetches what is missing.

use std::time::Duration;

use templar_manifest::Hash;
use templar_store::{RemoveError, Repaired};

use super::{Gatherer, within};
use crate::executor::WorkError;
use crate::tally::MAX_BLOB_BYTES;

/// How long peers are asked for the right bytes before work is tried again.
const HEALING_PATIENCE: Duration = Duration::from_secs(10);

/// The result of healing a corrupt blob.
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
    /// Repairs the blobs that reads have found corrupt, and fetches their missing parts.
    pub(crate) async fn heal(&self) -> Result<Vec<Healed>, WorkError> {
        let mut healed = Vec::new();
        for id in self.damage.take().into_keys() {
            let whole = match self.store.repair(&id).await {
                Ok(Repaired::Whole) => true,
                Ok(Repaired::Partial { .. }) => {
                    self.fetch(&[(id, MAX_BLOB_BYTES)], &[], within(HEALING_PATIENCE)).await?
                }
                // An import is under way. The next read will find the blob corrupt again, and then it is healed.
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
