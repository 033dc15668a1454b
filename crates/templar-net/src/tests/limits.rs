//! The limits on peers hold: bytes per second, connections, requests, and buffered memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, ConnectionError, ReadError, ReadExactError};
use iroh_blobs::protocol::{ERR_INTERNAL, ERR_LIMIT, GetManyRequest, GetRequest, Request};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::time::Instant;

use super::hostile::endpoint;
use super::{Node, TestLog, bytes, limits_with, run, soon};
use crate::{ConnectionLimits, NetLimits, ServeAll, Standing};

async fn node(seed: u8, limits: NetLimits) -> Node {
    Node::with(seed, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await
}

/// The time that `b` needs to fetch a megabyte from `a`.
async fn time_to_fetch(a: NetLimits, b: NetLimits) -> Duration {
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
    // The first tenth of a second's bytes may come at once.
    let least = Duration::from_millis(1_890);
    let up = limits_with(|limits| limits.serving.bytes_per_second = Some(500_000));
    let down = limits_with(|limits| limits.fetching.bytes_per_second = Some(500_000));
    let (up, down) = tokio::join!(time_to_fetch(up, NetLimits::default()), time_to_fetch(NetLimits::default(), down));
    assert!(up >= least && down >= least, "{up:?} {down:?}");
}

fn request(id: &Hash) -> Vec<u8> {
    postcard::to_allocvec(&Request::Get(GetRequest::blob(to_iroh(id)))).unwrap()
}

#[tokio::test]
async fn a_peer_that_does_not_read_makes_us_hold_a_few_megabytes() {
    let limits = limits_with(|limits| {
        limits.connections.memory = 1 << 20;
        limits.timeouts.stall = Duration::from_secs(1);
    });
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
    // First all requests are being served, and then all have been given up.
    for being_served in [8, 0] {
        soon(async {
            while a.net.inner.served.requests.count() != being_served {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // The reader's receive windows (1.25 MB for each stream by default) took some bytes. All others waited here.
    let windows = 8 * 1_250_000;
    let sent = a.net.sent_bytes();
    assert!(sent <= windows + (1 << 20) + 8 * (16 << 10) * 2, "{sent} bytes were taken from the disk");
    soon(reader.close()).await;
    a.end().await;
}

#[tokio::test]
async fn requests_are_bounded_in_length_and_number() {
    let limits = limits_with(|limits| {
        limits.serving.max_request_bytes = 2_000;
        limits.serving.max_requests_per_peer = 4;
        limits.timeouts.stall = Duration::from_secs(1);
    });
    let a = node(1, limits).await;
    let id = a.store.put(bytes(100_000, 1)).await.unwrap();
    let asker = endpoint(50).await;
    let connection = soon(asker.connect(a.net.addr().to_endpoint_addr().unwrap(), iroh_blobs::ALPN)).await.unwrap();
    let mut first = [0; 8];

    // Two requests of the same kind: one fits, and one is too long.
    for (hashes, fits) in [(50, true), (70, false)] {
        let many: GetManyRequest = (0..hashes)
            .map(|n: u64| if n == 0 { to_iroh(&id) } else { iroh_blobs::Hash::new(n.to_le_bytes()) })
            .collect();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&postcard::to_allocvec(&Request::GetMany(many)).unwrap()).await.ok();
        send.finish().ok();
        let read = soon(recv.read_exact(&mut first)).await;
        let refused = matches!(&read, Err(ReadExactError::ReadError(ReadError::Reset(code))) if *code == ERR_INTERNAL);
        // A missing blob is an error, too, but only after the first blob, which is here, has been sent.
        let served = a.net.sent_bytes() > 0;
        assert!(if fits { served || refused } else { refused }, "{hashes}: {read:?}");
    }

    // Requests that never end are given up after a second. While four wait, a fifth is refused.
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
    // Then there is room again.
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
    let connections = ConnectionLimits { memory: 1 << 20, max_memory_per_peer: 2 << 20, ..ConnectionLimits::default() };
    assert_eq!(connections.inbound(), (512, 2));
    assert_eq!(ConnectionLimits { max_memory: 3 << 20, ..connections.clone() }.inbound(), (3, 2));
    let limits = NetLimits { connections, ..NetLimits::default() };
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

/// A blob of `node`, and connections for blobs on which strangers send nothing.
async fn crowded(node: &Node, strangers: u8, each: usize) -> (Hash, Vec<iroh::Endpoint>, Vec<Connection>) {
    let id = node.store.put(bytes(10_000, 1)).await.unwrap();
    let to = node.net.addr().to_endpoint_addr().unwrap();
    let (mut ends, mut held) = (Vec::new(), Vec::new());
    for seed in 100..100 + strangers {
        let end = endpoint(seed).await;
        for _ in 0..each {
            held.push(soon(end.connect(to.clone(), iroh_blobs::ALPN)).await.unwrap());
        }
        ends.push(end);
    }
    (id, ends, held)
}

fn few_places() -> NetLimits {
    limits_with(|limits| (limits.connections.max_inbound, limits.connections.max_inbound_per_peer) = (16, 2))
}

#[tokio::test]
async fn idle_strangers_shut_no_door_for_a_stranger() {
    let a = node(1, few_places()).await;
    let (id, ends, held) = crowded(&a, 8, 2).await;
    let b = Node::new(2).await;
    b.knows(&a.net);
    // The first tries may find eight places whose holders have come just now.
    soon(async { while b.net.fetch(&id, 1_000_000, &[]).await.is_err() {} }).await;
    assert!(a.net.inner.metrics.connections_displaced.get() > 0 || a.net.inner.metrics.connections_refused.get() > 0);
    drop(held);
    for end in ends {
        soon(end.close()).await;
    }
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn busy_strangers_shut_no_door_for_a_member() {
    let a = node(1, few_places()).await;
    let (id, ends, held) = crowded(&a, 8, 2).await;
    // Requests that never end keep their connections busy.
    let mut streams = Vec::new();
    for connection in &held {
        if let Ok((mut send, recv)) = connection.open_bi().await {
            send.write_all(&[0]).await.ok();
            streams.push((send, recv));
        }
    }
    let b = Node::new(2).await;
    b.knows(&a.net);
    a.net.call_roll(BTreeMap::from([(b.net.id(), Standing::Member)]));
    soon(b.net.fetch(&id, 1_000_000, &[])).await.unwrap();
    drop((streams, held));
    for end in ends {
        soon(end.close()).await;
    }
    a.end().await;
    b.end().await;
}
