//! A transfer is one request to one provider: a small blob whole, the proof of a large blob's length, or a
//! range of it.
//!
//! Each chunk is verified against the blob's hash as it arrives, and verified chunks stay when the transfer fails
//! later. Invariant: a range is written only under a length that the blob's last chunk has proven. Earlier
//! chunks verify under a wrong length as well, and the nodes of the hash tree would then land in wrong places
//! of the store.

use std::future::Future;
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use bao_tree::io::BaoContentItem;
use bytes::{Bytes, BytesMut};
use iroh::endpoint::Connection;
use iroh_blobs::get::fsm::{
    self, AtBlobContent, AtBlobHeaderNextError, BlobContentNext, ConnectedNext, DecodeError, EndBlobNext,
};
use iroh_blobs::get::{GetError, request::get_verified_size};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt, ERR_LIMIT, ERR_PERMISSION, GetRequest};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::time::timeout;

use crate::error::ProviderAnswer;
use crate::foreign::ForeignText;
use crate::ranges::{GROUP, GROUP_BYTES, chunks, set};
use crate::serve::rate::TokenBucket;
use crate::words;

/// The number of chunks that may be decoded and not yet written.
const CHUNKS_IN_FLIGHT: usize = 64;

/// The reason why a transfer ended early.
#[derive(Debug)]
pub(crate) enum TransferError {
    /// This provider failed. Another one may succeed.
    Provider(ProviderAnswer),
    /// The blob's verified length is above the limit, so no provider can help.
    TooLarge { size: u64 },
    /// The local store failed.
    Local(std::io::Error),
}

impl From<ProviderAnswer> for TransferError {
    fn from(answer: ProviderAnswer) -> Self {
        Self::Provider(answer)
    }
}

/// One blob, the connection to one provider of it, and the bounds of the transfer.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) connection: &'a Connection,
    pub(crate) id: Hash,
    /// The largest length of the blob, in bytes.
    pub(crate) max_bytes: u64,
    /// The longest time that the provider may take for one step of the exchange.
    pub(crate) stall_timeout: Duration,
    /// Bounds the bytes accepted per second, over all transfers.
    pub(crate) bucket: &'a TokenBucket,
}

impl Transfer<'_> {
    /// Asks for chunks, and checks the blob's length as the provider claims it. Returns the state of the
    /// exchange and the length.
    async fn start(&self, chunks: ChunkRanges) -> Result<(AtBlobContent, u64), TransferError> {
        let request = GetRequest::blob_ranges(to_iroh(&self.id), chunks);
        let start = self.step(fsm::start(self.connection.clone(), request, Default::default()).next()).await?;
        let ConnectedNext::StartRoot(root) = self.step(start.next()).await? else {
            return Err(ProviderAnswer::NotHere.into());
        };
        let (content, size) = self.step(root.next().next()).await?;
        if size > self.max_bytes {
            drop(content);
            return Err(self.prove_too_large(size).await);
        }
        if size == 0 {
            return Err(ProviderAnswer::BadData(ForeignText::of("it says that the blob is empty")).into());
        }
        Ok((content, size))
    }

    /// Fetches the whole blob into memory.
    ///
    /// `came` is told the number of bytes that have come, and returns whether to go on. If it stops, the result
    /// is `None`.
    pub(crate) async fn whole(&self, mut came: impl FnMut(u64) -> bool) -> Result<Option<Bytes>, TransferError> {
        let (mut content, size) = self.start(ChunkRanges::all()).await?;
        let mut bytes = BytesMut::new();
        loop {
            match timeout(self.stall_timeout, content.next()).await {
                Err(_) => return Err(ProviderAnswer::Stalled.into()),
                Ok(BlobContentNext::More((next, Ok(item)))) => {
                    content = next;
                    if let BaoContentItem::Leaf(leaf) = item {
                        self.bucket.take(leaf.data.len()).await;
                        bytes.extend_from_slice(&leaf.data);
                        if !came(bytes.len() as u64) {
                            return Ok(None);
                        }
                    }
                }
                Ok(BlobContentNext::More((_, Err(error)))) => {
                    return Err(answer(error.into(), bytes.len() as u64).into());
                }
                Ok(BlobContentNext::Done(end)) => {
                    self.close(end).await;
                    break;
                }
            }
        }
        if bytes.len() as u64 == size {
            Ok(Some(bytes.freeze()))
        } else {
            Err(ProviderAnswer::BadData(ForeignText::of(format_args!("{} bytes of {size}", bytes.len()))).into())
        }
    }

    /// Proves the blob's length by its chunks from `start` on, or by its last chunk if it is shorter.
    ///
    /// Returns the length in bytes, and the chunks that are in the store now: the last group.
    pub(crate) async fn proof(&self, start: u64) -> Result<(u64, ChunkRanges), TransferError> {
        let (size, mut items) = self.tail(start, None).await?;
        let length = NonZeroU64::new(size).ok_or(ProviderAnswer::NotHere)?;
        let first = first_offset(&items)
            .ok_or_else(|| ProviderAnswer::BadData(ForeignText::of("no chunk proves its length")))?;
        let group = first / GROUP_BYTES * GROUP;
        if first % GROUP_BYTES != 0 {
            // A process that starts after a crash verifies whole groups. Without the last one it would not know the
            // length, and so nothing of what came.
            items = self.tail(group, Some(size)).await?.1;
        }
        let import = self.store.blobs().import_bao(to_iroh(&self.id), length, CHUNKS_IN_FLIGHT).await;
        let import = import.map_err(local_error)?;
        for item in items {
            if import.tx.send(item).await.is_err() {
                break;
            }
        }
        drop(import.tx);
        let stored = import.rx.await.map_err(local_error)?;
        stored.map_err(|iroh_blobs::api::Error::Io(error)| TransferError::Local(error))?;
        // From here on the store remembers the blob after a crash, so the chunks that follow are found again.
        self.store.blobs().sync_db().await.map_err(local_error)?;
        Ok((size, set(&(group..chunks(size)))))
    }

    /// Fetches the chunks from `start` on into memory, or the last chunk of a shorter blob. Returns the blob's length
    /// too, which is `size` if that is given.
    ///
    /// At most one group comes, with the hashes above it: a blob that has more behind `start` has been refused.
    async fn tail(&self, start: u64, size: Option<u64>) -> Result<(u64, Vec<BaoContentItem>), TransferError> {
        let (mut content, claimed) = self.start(ChunkRanges::chunks(start..)).await?;
        if let Some(size) = size.filter(|size| *size != claimed) {
            return Err(
                ProviderAnswer::BadData(ForeignText::of(format_args!("claims {claimed} bytes of {size}"))).into()
            );
        }
        let mut items = Vec::new();
        loop {
            match timeout(self.stall_timeout, content.next()).await {
                Err(_) => return Err(ProviderAnswer::Stalled.into()),
                Ok(BlobContentNext::More((next, Ok(item)))) => {
                    content = next;
                    items.push(item);
                }
                Ok(BlobContentNext::More((_, Err(error)))) => return Err(answer(error.into(), 0).into()),
                Ok(BlobContentNext::Done(end)) => {
                    self.close(end).await;
                    return Ok((claimed, items));
                }
            }
        }
    }

    /// Fetches a range of chunks of a blob of `size` bytes into the store.
    ///
    /// `came` is told the end of the chunks that have come, before they are stored. It returns the end of the
    /// range, which may have shrunk meanwhile: the transfer stops there, and stops at once if the result is
    /// `None`. It also stops when `stopped` is ready.
    pub(crate) async fn range(
        &self,
        size: u64,
        range: Range<u64>,
        mut came: impl FnMut(u64) -> Option<u64>,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), TransferError> {
        let mut stopped = std::pin::pin!(stopped);
        let (mut content, claimed) = tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            started = self.start(set(&range)) => started?,
        };
        if claimed != size {
            return Err(
                ProviderAnswer::BadData(ForeignText::of(format_args!("claims {claimed} bytes of {size}"))).into()
            );
        }
        let length = NonZeroU64::new(size).ok_or(ProviderAnswer::NotHere)?;
        let import = self.store.blobs().import_bao(to_iroh(&self.id), length, CHUNKS_IN_FLIGHT).await;
        let import = import.map_err(local_error)?;
        let mut received = 0_u64;
        let outcome = loop {
            let next = tokio::select! {
                biased;
                () = &mut stopped => break Ok(None),
                next = timeout(self.stall_timeout, content.next()) => next,
            };
            match next {
                Err(_) => break Err(ProviderAnswer::Stalled),
                Ok(BlobContentNext::More((next, Ok(item)))) => {
                    content = next;
                    let mut cut = false;
                    if let BaoContentItem::Leaf(leaf) = &item {
                        let length = leaf.data.len();
                        let end = chunks(leaf.offset + length as u64);
                        match came(end) {
                            // Another peer took these chunks over while they were on their way.
                            Some(range_end) if end > range_end => break Ok(None),
                            // Another peer took the end of the range over, so the chunks that follow are not
                            // wanted.
                            Some(range_end) => cut = end == range_end && range_end < range.end,
                            None => break Ok(None),
                        }
                        received += length as u64;
                        self.bucket.take(length).await;
                    }
                    if import.tx.send(item).await.is_err() {
                        // The store stopped listening. Its answer below gives the reason.
                        break Ok(None);
                    }
                    if cut {
                        break Ok(None);
                    }
                }
                Ok(BlobContentNext::More((_, Err(error)))) => break Err(answer(error.into(), received)),
                Ok(BlobContentNext::Done(end)) => break Ok(Some(end)),
            }
        };
        // This ends the import. The chunks that have arrived stay.
        drop(import.tx);
        let stored = import.rx.await.map_err(local_error)?;
        stored.map_err(|iroh_blobs::api::Error::Io(error)| TransferError::Local(error))?;
        if let Some(end) = outcome? {
            self.close(end).await;
        }
        Ok(())
    }

    /// Ends the stream. All bytes have come, so its outcome does not matter.
    async fn close(&self, end: fsm::AtEndBlob) {
        if let EndBlobNext::Closing(closing) = end.next() {
            timeout(self.stall_timeout, closing.next()).await.ok();
        }
    }

    /// Finds out whether the blob is really too large or the provider lies about its length.
    async fn prove_too_large(&self, claimed: u64) -> TransferError {
        let proof = timeout(self.stall_timeout, get_verified_size(self.connection, &to_iroh(&self.id))).await;
        match proof {
            Ok(Ok((size, _))) if size > self.max_bytes => TransferError::TooLarge { size },
            _ => ProviderAnswer::ClaimsTooLarge { size: claimed }.into(),
        }
    }

    /// Waits for one step of the exchange, at most for the stall timeout.
    async fn step<T, E: Into<GetError>>(&self, step: impl Future<Output = Result<T, E>>) -> Result<T, ProviderAnswer> {
        match timeout(self.stall_timeout, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(answer(error.into(), 0)),
            Err(_) => Err(ProviderAnswer::Stalled),
        }
    }
}

/// The offset of the first bytes among these items.
fn first_offset(items: &[BaoContentItem]) -> Option<u64> {
    items.iter().find_map(|item| if let BaoContentItem::Leaf(leaf) = item { Some(leaf.offset) } else { None })
}

/// The provider's answer that an error of the exchange means. `received` bytes had come before it.
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
                ProviderAnswer::BadData(ForeignText::of("they have another hash"))
            }
            _ => ProviderAnswer::Lost(words::transfer(&error)),
        },
        _ => ProviderAnswer::Lost(words::transfer(&error)),
    }
}

fn local_error(error: impl std::fmt::Display) -> TransferError {
    TransferError::Local(std::io::Error::other(error.to_string()))
}
