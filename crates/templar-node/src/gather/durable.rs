//! Makes blobs durable before this node signs what names them, so that a power cut cannot leave it without them.

use templar_audit::Applied;
use templar_manifest::{Contribution, Hash, MAX_PAYLOAD_BYTES, Signed, State, payload};
use templar_store::PutError;

use super::Gatherer;
use crate::executor::WorkError;

impl Gatherer {
    async fn sync(&self, blobs: &[Hash]) -> Result<(), WorkError> {
        match self.store.sync(blobs).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.store.check().await?;
                Err(WorkError::Put(PutError::Io(std::io::Error::other(error))))
            }
        }
    }

    /// Makes the deltas and traces that are here durable, before a score or a record that names them is signed.
    /// Validators that vouched for them must be able to serve them to the next auditor.
    pub(crate) async fn sync_evidence(&self, contributions: &[Signed<Contribution>]) -> Result<(), WorkError> {
        let named =
            contributions.iter().map(Signed::payload).flat_map(|claim| [claim.delta.hash(), claim.trace.hash()]);
        let mut here = Vec::new();
        for id in named {
            if self.store.has(&id).await.unwrap_or(false) {
                here.push(id);
            }
        }
        self.sync(&here).await
    }

    /// Makes a new checkpoint and its aggregate durable, before a record that names them is signed.
    pub(crate) async fn sync_checkpoint(&self, applied: &Applied) -> Result<(), WorkError> {
        let mut blobs = vec![applied.stepped.checkpoint.hash(), applied.stepped.aggregate.hash()];
        blobs.extend(applied.checkpoint.tensors.iter().map(|tensor| tensor.blob.hash()));
        self.sync(&blobs).await
    }

    /// Makes the blobs of a contribution durable, before it is signed.
    pub(crate) async fn sync_contribution(&self, contribution: &Contribution) -> Result<(), WorkError> {
        let mut blobs = vec![contribution.delta.hash(), contribution.trace.hash(), contribution.state_out.hash()];
        let bytes = self.store.get(&contribution.state_out.hash(), MAX_PAYLOAD_BYTES as u64).await;
        let state: Option<State> = bytes.ok().and_then(|bytes| payload::decode(&bytes).ok());
        blobs.extend(state.iter().flat_map(|state| &state.tensors).map(|tensor| tensor.blob.hash()));
        self.sync(&blobs).await
    }
}
