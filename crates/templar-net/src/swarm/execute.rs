//! Carries out the plan's jobs: makes the request, writes the bytes into the store, and settles blobs that are
//! complete.
//!
//! Invariant: a blob counts as here only when the store holds all of it and protects it from deletion.

use std::io;

use iroh::endpoint::Connection;
use templar_manifest::Hash;
use templar_store::PutError;
use tokio::sync::Notify;

use crate::swarm::plan::{BlobPiece, FetchFailure, Job, Plan, SMALL_BYTES, Time};
use crate::swarm::transfer::{Transfer, TransferError};
use crate::swarm::{MEMORY_UNIT, Swarm, bump};

/// The number of received bytes after which the progress is shown anew.
const PROGRESS_STEP: u64 = 1 << 20;

impl Swarm {
    /// Fetches the piece of one lease. Returns early, without an error, when `holder` says that the lease is
    /// void.
    pub(super) async fn execute(
        &self,
        connection: &Connection,
        job: &Job,
        holder: &Notify,
    ) -> Result<(), TransferError> {
        let lease = job.lease;
        let transfer = Transfer {
            store: &self.store,
            connection,
            id: job.id,
            max_bytes: job.max_bytes,
            stall_timeout: self.stall_timeout,
            bucket: &self.bucket,
        };
        match &job.piece {
            BlobPiece::Range { size, left } => {
                let came = |next| self.come(|plan, now| plan.advance(lease, next, now));
                transfer.range(*size, left.clone(), came, holder.notified()).await
            }
            BlobPiece::Proof { start } => {
                let (size, stored) = tokio::select! {
                    biased;
                    () = holder.notified() => return Ok(()),
                    proof = transfer.proof(*start) => proof?,
                };
                self.change(|plan, _| plan.proved(lease, size, &stored));
                bump(&self.work);
                Ok(())
            }
            BlobPiece::Whole => tokio::select! {
                biased;
                () = holder.notified() => Ok(()),
                whole = self.whole(&transfer, job) => whole,
            },
        }
    }

    /// Fetches a small blob into memory, once there is room for it, and puts it into the store.
    async fn whole(&self, transfer: &Transfer<'_>, job: &Job) -> Result<(), TransferError> {
        let units = job.max_bytes.min(SMALL_BYTES).div_ceil(MEMORY_UNIT).max(1);
        let room = self.memory.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        let _room = room.map_err(|_| TransferError::Local(io::Error::other("the network is shut down")))?;
        let came = |bytes| self.come(|plan, now| plan.advance_whole(job.lease, bytes, now));
        let Some(bytes) = transfer.whole(came).await? else { return Ok(()) };
        let size = bytes.len() as u64;
        self.store.put(bytes).await.map_err(put_error)?;
        self.change(|plan, _| plan.came_whole(job.lease, size));
        bump(&self.settled);
        Ok(())
    }

    /// Counts bytes that came. It is cheaper than [`change`](Self::change), because a gigabyte comes in 65,536
    /// groups.
    fn come<T>(&self, change: impl FnOnce(&mut Plan, Time) -> T) -> T {
        let now = self.now();
        let mut board = self.lock();
        let result = change(&mut board.plan, now);
        let progress = board.plan.progress();
        drop(board);
        self.progress.send_if_modified(|shown| {
            let step = progress.received.abs_diff(shown.received) >= PROGRESS_STEP;
            if step {
                *shown = progress;
            }
            step
        });
        result
    }

    /// Settles a blob of which no chunk is missing any more.
    pub(super) async fn complete(&self, id: &Hash) {
        let Some(size) = self.lock().plan.is_whole(id) else { return };
        let kept = match self.store.has(id).await {
            Ok(true) => self.store.keep(id).await.map_err(put_error),
            Ok(false) => match self.local(id).await {
                // A request that was stopped has counted a chunk that did not reach the store.
                Ok(local) if self.change(|plan, _| plan.recount(id, &local)) => return bump(&self.work),
                Ok(_) => self.store.keep(id).await.map_err(put_error),
                Err(reason) => Err(TransferError::Local(io::Error::other(reason))),
            },
            Err(error) => Err(TransferError::Local(io::Error::other(error))),
        };
        self.change(|plan, _| match kept {
            Ok(()) => plan.done(id, size),
            Err(TransferError::Local(error)) => plan.fail(id, local_failure(&error)),
            Err(_) => {}
        });
        bump(&self.settled);
    }
}

fn put_error(error: PutError) -> TransferError {
    TransferError::Local(match error {
        PutError::DiskFull => io::ErrorKind::StorageFull.into(),
        PutError::Io(error) => error,
        other => io::Error::other(other),
    })
}

/// The failure of a fetch that an error of the local store means.
pub(super) fn local_failure(error: &io::Error) -> FetchFailure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchFailure::DiskFull,
        _ => FetchFailure::Store(error.to_string()),
    }
}
