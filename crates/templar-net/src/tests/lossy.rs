//! Blobs arrive and logs converge although three datagrams of ten are lost in each direction.
//!
//! Some nodes listen on IPv6 only and the others on IPv4 only, so no datagram can avoid the lossy line between
//! them. Nodes with the same protocol are cut off from each other. LOSS_SIZE and LOSS_WINDOWS make the test
//! longer.

use std::sync::Arc;
use std::time::Duration;

use templar_store::Store;
use tokio::time::timeout;

use super::converge::{Journal, Taken, said, vote};
use super::lossy_line::{Line, V4, V6, bind, line, through};
use super::{TestLog, bytes, run};
use crate::{EmptyLog, Fetched, PeerId, Pulled};

/// The loss of the line, in thousandths.
const LOSS: u64 = 300;

/// A time that nothing here exceeds, so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(600);

fn scale(name: &str, short: u64) -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the long form's number")]
    let said = std::env::var(name);
    said.map_or(short, |text| text.parse().unwrap())
}

fn assert_lossy(line: &Line) {
    let (passed, lost) = line.counts();
    assert!(lost > 100 && (lost * 10).abs_diff((passed + lost) * 3) < passed + lost, "{lost} lost, {passed} passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_come_from_two_providers() {
    let Some(line) = line(Duration::ZERO, LOSS, 1) else { return };
    let size = usize::try_from(scale("LOSS_SIZE", 3_000_000)).unwrap();
    let store = Store::memory().await;
    let receiver = bind(1, V4, &store, Arc::new(EmptyLog::new(run()))).await;
    let mut providers = Vec::new();
    let blobs = [(bytes(size, 1), size), (bytes(50_000, 2), 50_000), (bytes(1_000, 3), 1_000)];
    let mut wanted = Vec::new();
    for seed in [2, 3] {
        let store = Store::memory().await;
        wanted.clear();
        for (data, len) in &blobs {
            wanted.push((store.put(data.clone()).await.unwrap(), *len as u64));
        }
        let net = bind(seed, V6, &store, TestLog::new(run())).await;
        receiver.add_peer(through(&line, &net, V4).await).unwrap();
        providers.push((net, store));
    }
    let fetched = timeout(PATIENCE, receiver.fetch_all(&wanted, &[])).await.unwrap().unwrap();
    let all = wanted.iter().map(|(_, len)| len).sum();
    assert_eq!(fetched, Fetched { size: all, received: all });
    for ((id, len), (data, _)) in wanted.iter().zip(&blobs) {
        assert_eq!(store.get(id, *len).await.unwrap(), data);
    }
    assert_lossy(&line);
    for (net, store) in providers.into_iter().chain([(receiver, store)]) {
        net.shutdown().await;
        store.shutdown().await;
    }
}

/// A hub on IPv6, and three nodes on IPv4 that know only the hub. Windows proceed as in [`super::converge`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_end_alike() {
    let Some(line) = line(Duration::ZERO, LOSS, 2) else { return };
    let windows = scale("LOSS_WINDOWS", 4);
    let mut nodes = Vec::new();
    for seed in 1..=4 {
        let (journal, store) = (Journal::new(&[]), Store::memory().await);
        let net = bind(seed, if seed == 1 { V6 } else { V4 }, &store, journal.clone()).await;
        nodes.push((journal, store, net));
    }
    let hub = through(&line, &nodes[0].2, V4).await;
    let ids: Vec<PeerId> = nodes.iter().map(|(_, _, net)| net.id()).collect();
    let mut tasks = Vec::new();
    for (index, (journal, _, net)) in nodes.iter().enumerate() {
        if index > 0 {
            let others: Vec<PeerId> = ids[1..].iter().copied().filter(|id| *id != net.id()).collect();
            net.inner.connections.cut_off(&others);
            net.add_peer(hub.clone()).unwrap();
        }
        let (mut pulled, taking, asking) = (net.pull_entries(), journal.clone(), net.clone());
        tasks.push(tokio::spawn(async move {
            while let Some(pulled) = pulled.recv().await {
                let Pulled::Entry { peer, bytes } = pulled else { continue };
                if taking.take(&bytes) == Taken::OutOfTime {
                    asking.read_again(&peer);
                }
            }
        }));
    }
    let reach = async |journal: &Journal, window: u64| {
        timeout(PATIENCE, journal.window.subscribe().wait_for(|open| *open >= window)).await.unwrap().unwrap();
    };
    for window in 0..windows {
        for (signer, (journal, ..)) in nodes.iter().enumerate() {
            reach(journal, window).await;
            assert_eq!(journal.take(said(window, signer).as_bytes()), Taken::In);
        }
        let (closer, ..) = &nodes[nodes.len() - 1];
        assert_eq!(closer.take(vote(window, 0..nodes.len()).as_bytes()), Taken::In);
    }
    for (journal, ..) in &nodes {
        reach(journal, windows).await;
        assert_eq!(journal.votes(), nodes[0].0.votes());
    }
    assert_lossy(&line);
    for (_, store, net) in nodes {
        net.shutdown().await;
        store.shutdown().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
}
