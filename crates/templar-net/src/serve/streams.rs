//! The two streams of a request for blobs, bounded: a reader of limited length, and a writer of limited rate
//! that may not stall.
//!
//! Invariant: nothing that the peer sends or leaves unread makes one of them buffer more than its bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::VarInt;
use iroh_blobs::util::{RecvStream, SendStream};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::metrics::NetMetrics;
use crate::serve::rate::TokenBucket;

/// A receiving stream that fails once more than `left` bytes have been read.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    pub(super) reader: R,
    /// The bytes that may still be read.
    pub(super) left: usize,
}

impl<R: RecvStream> Bounded<R> {
    fn count(&mut self, len: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(len).ok_or_else(too_long)?;
        Ok(())
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a request that is too long")
}

impl<R: RecvStream> RecvStream for Bounded<R> {
    async fn recv_bytes(&mut self, len: usize) -> io::Result<Bytes> {
        // The inner reader allocates `len` bytes. One byte more than allowed is enough to see that there are
        // too many.
        let bytes = self.reader.recv_bytes(len.min(self.left + 1)).await?;
        self.count(bytes.len())?;
        Ok(bytes)
    }

    async fn recv_bytes_exact(&mut self, len: usize) -> io::Result<Bytes> {
        self.count(len)?;
        self.reader.recv_bytes_exact(len).await
    }

    async fn recv_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        self.count(target.len())?;
        self.reader.recv_exact(target).await
    }

    fn stop(&mut self, code: VarInt) -> io::Result<()> {
        RecvStream::stop(&mut self.reader, code)
    }

    fn id(&self) -> u64 {
        RecvStream::id(&self.reader)
    }
}

/// A sending stream whose bytes wait for the upload rate, and that fails when the peer does not read for too
/// long.
#[derive(Debug)]
pub(super) struct Metered<W> {
    pub(super) writer: W,
    pub(super) bucket: Arc<TokenBucket>,
    /// The longest time that the peer may take to accept one write.
    pub(super) stall_timeout: Duration,
    pub(super) metrics: Arc<NetMetrics>,
}

impl<W: SendStream> Metered<W> {
    /// Waits until `len` bytes may be sent.
    async fn pay(&mut self, len: usize) {
        self.bucket.take(len).await;
        self.metrics.blob_bytes_sent.inc_by(len as u64);
    }
}

fn stalled<T>(result: Result<io::Result<T>, Elapsed>) -> io::Result<T> {
    result.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
}

impl<W: SendStream> SendStream for Metered<W> {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.pay(bytes.len()).await;
        stalled(timeout(self.stall_timeout, self.writer.send_bytes(bytes)).await)
    }

    async fn send(&mut self, buf: &[u8]) -> io::Result<()> {
        self.pay(buf.len()).await;
        stalled(timeout(self.stall_timeout, self.writer.send(buf)).await)
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.writer.sync().await
    }

    fn reset(&mut self, code: VarInt) -> io::Result<()> {
        SendStream::reset(&mut self.writer, code)
    }

    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        SendStream::stopped(&mut self.writer).await
    }

    fn id(&self) -> u64 {
        SendStream::id(&self.writer)
    }
}
