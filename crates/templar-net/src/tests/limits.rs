//! What peers may use of us is bounded: bytes a second, connections, requests, what waits in memory.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{ConnectionError, ReadError, ReadExactError};
use iroh_blobs::protocol::{ERR_INTERNAL, ERR_LIMIT, GetManyRequest, GetRequest, Request};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::time::Instant;

use super::hostile::endpoint;
use super::{Node, TestLog, bytes, run, soon};
use crate::{Limits, ServeAll};

async fn node(seed: u8, limits: Limits) -> Node {
    Node::with(seed, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await
}

/// How long `b` takes to fetch a megabyte from `a`.
async fn time_to_fetch(a: Limits, b: Limits) -> Duration {
    let (a, b) = (node(1, a).await, node(2, b).await);
    b.knows(&a.net);
    let id = a.store.put(bytes(1_000_000, 1)).await.unwrap();
    let start = Instant::now();
    soon(b.net.fetch(&id, 1_000_000, &[])).await.unwrap();
    let time = start.elapsed();
    a.end().await;
    b.end().await;
    time
}

#[tokio::test]
async fn no_more_is_sent_and_taken_in_a_second_than_is_allowed() {
    // A tenth of a second's worth may come at once.
    let least = Duration::from_millis(1_890);
    let up = Limits { upload_bytes_per_second: Some(500_000), ..Limits::default() };
    let down = Limits { download_bytes_per_second: Some(500_000), ..Limits::default() };
    let (up, down) = tokio::join!(time_to_fetch(up, Limits::default()), time_to_fetch(Limits::default(), down));
    assert!(up >= least && down >= least, "{up:?} {down:?}");
}

fn request(id: &Hash) -> Vec<u8> {
    postcard::to_allocvec(&Request::Get(GetRequest::blob(to_iroh(id)))).unwrap()
}

#[tokio::test]
async fn a_peer_that_does_not_read_makes_us_hold_a_few_megabytes() {
    let limits = Limits { connection_memory: 1 << 20, stall_timeout: Duration::from_secs(1), ..Limits::default() };
    let a = node(1, limits).await;
    let id = a.store.put(bytes(32 << 20, 1)).await.unwrap();
    let reader = endpoint(50).await;
    let connection = soon(reader.connect(a.net.addr().to_endpoint_addr().unwrap(), iroh_blobs::ALPN)).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..8 {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&request(&id)).await.unwrap();
        send.finish().unwrap();
        streams.push(recv);
    }
    // All are being served, and then all have been given up.
    for being_served in [8, 0] {
        soon(async {
            while a.net.inner.served.requests.count() != being_served {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // What the reader's own windows took (1.25 MB for each stream by default) has left us; the rest waited here.
    let windows = 8 * 1_250_000;
    let sent = a.net.sent_bytes();
    assert!(sent <= windows + (1 << 20) + 8 * (16 << 10) * 2, "{sent} bytes were taken from the disk");
    soon(reader.close()).await;
    a.end().await;
}

#[tokio::test]
async fn requests_are_bounded_in_length_and_number() {
    let limits = Limits {
        max_request_bytes: 2_000,
        max_requests_per_peer: 4,
        stall_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let a = node(1, limits).await;
    let id = a.store.put(bytes(100_000, 1)).await.unwrap();
    let asker = endpoint(50).await;
    let connection = soon(asker.connect(a.net.addr().to_endpoint_addr().unwrap(), iroh_blobs::ALPN)).await.unwrap();
    let mut first = [0; 8];

    // Of the same kind, one that fits and one that is too long.
    for (hashes, fits) in [(50, true), (70, false)] {
        let many: GetManyRequest = (0..hashes)
            .map(|n: u64| if n == 0 { to_iroh(&id) } else { iroh_blobs::Hash::new(n.to_le_bytes()) })
            .collect();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&postcard::to_allocvec(&Request::GetMany(many)).unwrap()).await.ok();
        send.finish().ok();
        let read = soon(recv.read_exact(&mut first)).await;
        let refused = matches!(&read, Err(ReadExactError::ReadError(ReadError::Reset(code))) if *code == ERR_INTERNAL);
        // What is not here is an error too, but not before the first blob that is.
        let served = a.net.sent_bytes() > 0;
        assert!(if fits { served || refused } else { refused }, "{hashes}: {read:?}");
    }

    // Requests that never end are given a second; while they wait, a fifth is one too many.
    let mut open = Vec::new();
    for _ in 0..4 {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        open.push((send, recv));
    }
    soon(async {
        while a.net.inner.served.requests.count() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&request(&id)).await.ok();
    send.finish().ok();
    let read = soon(recv.read_exact(&mut first)).await;
    assert!(matches!(&read, Err(ReadExactError::ReadError(ReadError::Reset(code))) if *code == ERR_LIMIT), "{read:?}");
    for (_send, mut recv) in open {
        let read = soon(recv.read_exact(&mut first)).await;
        assert!(matches!(&read, Err(ReadExactError::ReadError(ReadError::Reset(_)))), "{read:?}");
    }
    // And then there is room again.
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&request(&id)).await.unwrap();
    send.finish().unwrap();
    soon(recv.read_exact(&mut first)).await.unwrap();
    assert_eq!(u64::from_le_bytes(first), 100_000);
    soon(asker.close()).await;
    a.end().await;
}

#[tokio::test]
async fn memory_bounds_the_number_of_connections() {
    let limits = Limits { connection_memory: 1 << 20, max_memory_per_peer: 2 << 20, ..Limits::default() };
    assert_eq!(limits.inbound(), (512, 2));
    assert_eq!(Limits { max_memory: 3 << 20, ..limits.clone() }.inbound(), (3, 2));
    let a = node(1, limits).await;
    let asker = endpoint(50).await;
    let addr = a.net.addr().to_endpoint_addr().unwrap();
    let mut served = Vec::new();
    for _ in 0..2 {
        let connection = soon(asker.connect(addr.clone(), iroh_blobs::ALPN)).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&request(&Hash::of(b"absent"))).await.unwrap();
        send.finish().unwrap();
        soon(recv.read_to_end(10)).await.ok();
        served.push(connection);
    }
    let third = soon(asker.connect(addr, iroh_blobs::ALPN)).await.unwrap();
    let closed = soon(third.closed()).await;
    assert!(matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == ERR_LIMIT), "{closed}");
    drop(served);
    soon(asker.close()).await;
    a.end().await;
}
