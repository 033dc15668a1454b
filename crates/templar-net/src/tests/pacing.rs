//! The round trip of a connection's path decides which congestion control it gets.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::PathId;
use noq_proto::congestion::{Bbr3, Cubic};
use templar_store::Store;

use super::lossy_line::{V4, V6, bind, line, through};
use super::{TestLog, bytes, run, soon};
use crate::EmptyLog;

const SIZE: usize = 4_000_000;

/// The congestion controller of a provider after it has served a blob, directly or over a line with this delay.
/// `None` if this machine cannot make such a line.
async fn decides(delay: Option<Duration>) -> Option<Box<dyn Any>> {
    let line = match delay {
        Some(delay) => Some(line(delay, 0, 1)?),
        None => None,
    };
    let (near, far) = (Store::memory().await, Store::memory().await);
    let receiver = bind(1, V4, &near, Arc::new(EmptyLog::new(run()))).await;
    let provider = bind(2, if line.is_some() { V6 } else { V4 }, &far, TestLog::new(run())).await;
    let id = far.put(bytes(SIZE, 1)).await.unwrap();
    let addr = match &line {
        Some(line) => through(line, &provider, V4).await,
        None => provider.addr(),
    };
    receiver.add_peer(addr).unwrap();
    soon(receiver.fetch(&id, SIZE as u64, &[])).await.unwrap();
    let served = provider.inner.connections.with(&receiver.id());
    // Among the connections with the receiver, this is the one that carried the blob.
    let sent = |connection: &iroh::endpoint::Connection| connection.stats().udp_tx.bytes;
    let decides = served.iter().max_by_key(|connection| sent(connection)).unwrap().congestion_state(PathId::ZERO);
    drop(served);
    for (net, store) in [(receiver, near), (provider, far)] {
        soon(net.shutdown()).await;
        store.shutdown().await;
    }
    Some(decides.unwrap().into_any())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_path_has_bbr() {
    let Some(decides) = decides(Some(Duration::from_millis(5))).await else { return };
    assert!(decides.is::<Bbr3>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_path_has_cubic() {
    assert!(decides(None).await.unwrap().is::<Cubic>());
}
