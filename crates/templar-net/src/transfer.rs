//! One blob from one provider into the store: asks for what is missing, verifies each chunk, bounds size and silence.
//!
//! Invariant: no more than `max_bytes` of a blob are ever stored, since a wrong length fails the hash tree's verification at the
//! latest with the last chunk; chunks that verified stay in the store whatever happens next.

use std::future::Future;
use std::num::NonZeroU64;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh_blobs::HashAndFormat;
use iroh_blobs::get::fsm::{self, AtBlobHeaderNextError, BlobContentNext, ConnectedNext, DecodeError, EndBlobNext};
use iroh_blobs::get::{GetError, request::get_verified_size};
use iroh_blobs::protocol::{ERR_LIMIT, ERR_PERMISSION};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::time::timeout;

use crate::error::ProviderAnswer;

/// Chunks decoded and not yet written.
const CHUNKS_IN_FLIGHT: usize = 64;

/// Why a transfer ended early.
#[derive(Debug)]
pub(crate) enum TransferError {
    /// This provider failed; another may not.
    Provider(ProviderAnswer),
    /// The blob has this verified length, above the limit: nobody can help.
    TooLarge { size: u64 },
    /// Our own store failed.
    Local(std::io::Error),
}

impl From<ProviderAnswer> for TransferError {
    fn from(answer: ProviderAnswer) -> Self {
        Self::Provider(answer)
    }
}

/// Fetches what is missing of `id` over `connection`. Returns how many bytes came.
pub(crate) async fn transfer(
    store: &Store,
    connection: &Connection,
    id: &Hash,
    max_bytes: u64,
    stall_timeout: Duration,
) -> Result<u64, TransferError> {
    let hash = to_iroh(id);
    let blobs = store.blobs();
    let local = blobs.remote().local(HashAndFormat::raw(hash)).await.map_err(local_error)?;
    if local.is_complete() {
        return Ok(0);
    }

    let start =
        progress(stall_timeout, fsm::start(connection.clone(), local.missing(), Default::default()).next()).await?;
    let ConnectedNext::StartRoot(root) = progress(stall_timeout, start.next()).await? else {
        return Ok(0);
    };
    let (mut content, size) = progress(stall_timeout, root.next().next()).await?;
    if size > max_bytes {
        drop(content);
        return Err(prove_too_large(connection, &hash, size, max_bytes, stall_timeout).await);
    }
    let Some(length) = NonZeroU64::new(size) else {
        return Err(ProviderAnswer::BadData("it says that the blob is empty".to_owned()).into());
    };

    let import = blobs.import_bao(hash, length, CHUNKS_IN_FLIGHT).await.map_err(local_error)?;
    let mut received = 0_u64;
    let outcome = loop {
        match timeout(stall_timeout, content.next()).await {
            Err(_) => break Err(ProviderAnswer::Stalled),
            Ok(BlobContentNext::More((next, Ok(item)))) => {
                received = next.stats().counters.payload_bytes_read;
                if import.tx.send(item).await.is_err() {
                    // The store stopped listening; its own answer below says why.
                    break Ok(None);
                }
                content = next;
            }
            Ok(BlobContentNext::More((_, Err(error)))) => break Err(answer(error.into(), received)),
            Ok(BlobContentNext::Done(end)) => break Ok(Some(end)),
        }
    };
    // Ends the import; what has arrived stays.
    drop(import.tx);
    let stored = import.rx.await.map_err(local_error)?;
    stored.map_err(|iroh_blobs::api::Error::Io(error)| TransferError::Local(error))?;
    match outcome? {
        Some(end) => {
            if let EndBlobNext::Closing(closing) = end.next() {
                // All bytes are here; how the stream ends does not matter any more.
                timeout(stall_timeout, closing.next()).await.ok();
            }
            Ok(received)
        }
        None => Err(TransferError::Local(std::io::Error::other("the store stopped taking the blob"))),
    }
}

/// Tells a provider that lies about the length from a blob that really is too large.
async fn prove_too_large(
    connection: &Connection,
    hash: &iroh_blobs::Hash,
    claimed: u64,
    max_bytes: u64,
    stall_timeout: Duration,
) -> TransferError {
    match timeout(stall_timeout, get_verified_size(connection, hash)).await {
        Ok(Ok((size, _))) if size > max_bytes => TransferError::TooLarge { size },
        _ => ProviderAnswer::ClaimsTooLarge { size: claimed }.into(),
    }
}

/// Waits for one step of the exchange.
async fn progress<T, E: Into<GetError>>(
    stall_timeout: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, ProviderAnswer> {
    match timeout(stall_timeout, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(answer(error.into(), 0)),
        Err(_) => Err(ProviderAnswer::Stalled),
    }
}

/// What an error of the exchange says about the provider.
fn answer(error: GetError, received: u64) -> ProviderAnswer {
    let missing = || if received == 0 { ProviderAnswer::NotHere } else { ProviderAnswer::Aborted { received } };
    if let Some(code) = error.iroh_error_code() {
        return match code {
            ERR_PERMISSION => ProviderAnswer::Refused,
            ERR_LIMIT => ProviderAnswer::Busy,
            _ => missing(),
        };
    }
    match &error {
        GetError::AtBlobHeaderNext { source: AtBlobHeaderNextError::NotFound { .. }, .. } => missing(),
        GetError::Decode { source, .. } => match source {
            DecodeError::ChunkNotFound { .. }
            | DecodeError::ParentNotFound { .. }
            | DecodeError::LeafNotFound { .. } => missing(),
            DecodeError::ParentHashMismatch { .. } | DecodeError::LeafHashMismatch { .. } => {
                ProviderAnswer::BadData(source.to_string())
            }
            _ => ProviderAnswer::Lost(source.to_string()),
        },
        _ => ProviderAnswer::Lost(error.to_string()),
    }
}

fn local_error(error: impl std::fmt::Display) -> TransferError {
    TransferError::Local(std::io::Error::other(error.to_string()))
}
