//! One node in a process of its own, with a store on disk: it seeds a blob, or fetches it and then serves it to
//! others.

use std::path::Path;
use std::sync::Arc;

use templar_manifest::Hash;
use templar_net::{Congestion, EmptyLog, Net, NetConfig, PeerAddr, ServeAll};
use templar_store::Store;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::Outcome;

/// `len` pseudo-random bytes (xorshift), the same for the same seed.
pub(crate) fn made_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[allow(clippy::disallowed_methods, reason = "an experiment's switch")]
fn congestion() -> Congestion {
    if std::env::var("CONGESTION").is_ok_and(|name| name == "cubic") { Congestion::Cubic } else { Congestion::Bbr }
}

async fn start(dir: &str, bind: &str, key: u8) -> Result<(Store, Net), Box<dyn std::error::Error>> {
    let store = Store::open(Path::new(dir)).await?;
    let config = NetConfig { bind: bind.parse()?, congestion: congestion(), ..NetConfig::loopback([key; 32]) };
    let log = Arc::new(EmptyLog::new(Hash::default()));
    let net = Net::bind(config, store.clone(), log, Arc::new(ServeAll)).await?;
    Ok((store, net))
}

async fn until_input_ends(net: &Net, store: &Store) {
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await.ok();
    net.shutdown().await;
    store.shutdown().await;
}

/// Serves a blob of `bytes` bytes until standard input ends, and prints its id and this node's address as JSON.
pub(crate) async fn seed(dir: &str, bind: &str, key: u8, bytes: usize) -> Outcome {
    let (store, net) = start(dir, bind, key).await?;
    let id = store.put(made_bytes(1, bytes)).await?;
    println!("{{\"id\":\"{id}\",\"peer\":\"{}\",\"ticket\":\"{}\"}}", net.addr(), net.blob_ticket(&id));
    until_input_ends(&net, &store).await;
    eprintln!("sent {} bytes, cpu {:.2} s", net.sent_bytes(), cpu_seconds("self"));
    Ok(())
}

/// Fetches the blob `id` from `peers`, prints the measurements as JSON, and serves it until standard input
/// ends.
pub(crate) async fn fetch(dir: &str, bind: &str, key: u8, id: &str, bytes: u64, peers: &[&str]) -> Outcome {
    let (store, net) = start(dir, bind, key).await?;
    for peer in peers {
        net.add_peer(peer.parse::<PeerAddr>()?)?;
    }
    let start = Instant::now();
    let fetched = net.fetch(&id.parse()?, bytes, &[]).await?;
    let seconds = start.elapsed().as_secs_f64();
    let (received, cpu) = (fetched.received, cpu_seconds("self"));
    println!("{{\"seconds\":{seconds:.3},\"received\":{received},\"sent\":{},\"cpu\":{cpu:.2}}}", net.sent_bytes());
    until_input_ends(&net, &store).await;
    Ok(())
}

/// The processor time of a process in seconds, user and system together. `self` means this process.
pub(crate) fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u64> = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    ticks.iter().sum::<u64>() as f64 / 100.0
}
