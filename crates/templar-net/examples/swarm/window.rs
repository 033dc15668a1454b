//! Measures table 5 of `BENCH.md`: each node has one delta, and all nodes fetch all others at the same moment,
//! as after a cut.

use std::sync::Arc;

use templar_manifest::Hash;
use templar_net::{EmptyLog, Net, NetConfig, ServeAll};
use templar_store::Store;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Outcome;
use crate::node::made_bytes;

/// Runs `nodes` nodes with deltas of `bytes` bytes, and prints the times and the traffic.
pub(crate) async fn run(nodes: u8, bytes: usize) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mut all = Vec::new();
    for node in 1..=nodes {
        let store = Store::open(&dir.path().join(node.to_string())).await?;
        let id = store.put(made_bytes(u64::from(node), bytes)).await?;
        let config = NetConfig::loopback([node; 32]);
        let log = Arc::new(EmptyLog::new(Hash::default()));
        let net = Net::bind(config, store.clone(), log, Arc::new(ServeAll)).await?;
        all.push((store, net, id));
    }
    for (_, net, _) in &all {
        for (_, other, _) in &all {
            net.add_peer(other.addr())?;
        }
    }
    let start = Instant::now();
    let mut fetches = JoinSet::new();
    for (_, net, own) in &all {
        let blobs: Vec<(Hash, u64)> =
            all.iter().filter(|(_, _, id)| id != own).map(|(_, _, id)| (*id, bytes as u64)).collect();
        let net = net.clone();
        fetches.spawn(async move {
            let fetched = net.fetch_all(&blobs, &[]).await;
            (fetched, start.elapsed())
        });
    }
    let (mut last, mut received) = (0.0_f64, 0);
    while let Some(ended) = fetches.join_next().await {
        let (fetched, time) = ended?;
        received += fetched?.received;
        last = last.max(time.as_secs_f64());
    }
    let sent: Vec<u64> = all.iter().map(|(_, net, _)| net.sent_bytes()).collect();
    let most = sent.iter().max().copied().unwrap_or(0);
    println!(
        "{nodes} nodes, deltas of {bytes} bytes: all after {last:.2} s; {} bytes down each, {} up each, at most {most}",
        received / u64::from(nodes),
        sent.iter().sum::<u64>() / u64::from(nodes),
    );
    for (store, net, _) in all {
        net.shutdown().await;
        store.shutdown().await;
    }
    Ok(())
}
