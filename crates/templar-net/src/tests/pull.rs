//! A peer that could not be reached is tried again: after growing pauses, and at once when it makes contact
//! itself.

use std::sync::Arc;
use std::time::Duration;

use iroh::SecretKey;
use templar_store::Store;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Node, TestLog, limits_with, run, soon};
use crate::peers::peer::{Addr, PeerAddr};
use crate::{NetLimits, PeerId, ServeAll};

const NEVER: Duration = Duration::from_secs(3600);

fn id(seed: u8) -> PeerId {
    *SecretKey::from_bytes(&[seed; 32]).public().as_bytes()
}

/// A node that tries to reach the node with the key `seed` at this socket, which never answers.
async fn knocking_at(seed: u8, socket: &UdpSocket, limits: NetLimits) -> Node {
    let node = Node::with(100, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await;
    let addr = PeerAddr { id: id(seed), addrs: vec![Addr::Ip(socket.local_addr().unwrap())] };
    node.net.add_peer(addr).unwrap();
    node
}

async fn silent() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// Waits until this number of successive attempts has failed.
async fn fails(node: &Node, peer: &PeerId, times: u32) {
    soon(async {
        while node.net.inner.book.failures(peer) < times {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn pauses_between_attempts_grow() {
    let socket = silent().await;
    let pause = Duration::from_millis(20);
    let limits = limits_with(|limits| {
        limits.timeouts.connect = Duration::from_millis(1);
        limits.pauses.retry = pause;
    });
    let node = knocking_at(1, &socket, limits).await;
    let start = Instant::now();
    let task = node.follow();
    fails(&node, &id(1), 5).await;
    // The pauses are 20, 40, 80 and 160 ms.
    assert!(start.elapsed() >= pause * 15, "{:?}", start.elapsed());
    node.end().await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn who_brings_something_each_time_is_not_waited_for_longer_each_time() {
    let pause = Duration::from_millis(20);
    let limits = limits_with(|limits| {
        limits.pauses.retry = pause;
        limits.pauses.max_retry = NEVER;
    });
    let b = Node::with(100, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await;
    let a = Node::new(1).await;
    b.knows(&a.net);
    let task = b.follow();
    // If the pause doubled each time, the last one alone would take 41 seconds.
    for count in 1..=13 {
        a.log.push(format!("{count}"));
        b.log.has(count).await;
        a.net.inner.connections.hang_up(&b.net.id());
    }
    a.end().await;
    b.end().await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn who_was_away_is_found_when_it_is_back() {
    let socket = silent().await;
    let limits = limits_with(|limits| limits.timeouts.connect = Duration::from_millis(100));
    let b = knocking_at(1, &socket, limits).await;
    let task = b.follow();
    fails(&b, &id(1), 1).await;
    let addr = socket.local_addr().unwrap();
    drop(socket);
    // The node now listens at that address, and tries to reach nobody itself.
    let log = TestLog::new(run());
    log.push("a");
    let config = crate::NetConfig { bind: addr, ..super::config(1, NetLimits::default()) };
    let store = Store::memory().await;
    let a = crate::Net::bind(config, store.clone(), log, Arc::new(ServeAll)).await.unwrap();
    b.log.has(1).await;
    soon(a.shutdown()).await;
    store.shutdown().await;
    b.end().await;
    soon(task).await.unwrap();
}

/// Node 1 starts at another address, knows `b`, and has an entry. `b` reads it although it would pause, or try the
/// old address, for an hour.
async fn comes_by_itself(b: Node) {
    let a = Node::new(1).await;
    a.log.push("a");
    a.knows(&b.net);
    let task = a.follow();
    b.log.has(1).await;
    a.end().await;
    soon(task).await.unwrap();
    b.end().await;
}

#[tokio::test]
async fn who_comes_during_a_pause_is_read_at_once() {
    let socket = silent().await;
    let limits = limits_with(|limits| {
        limits.timeouts.connect = Duration::from_millis(100);
        limits.pauses.retry = NEVER;
        limits.pauses.max_retry = NEVER;
    });
    let b = knocking_at(1, &socket, limits).await;
    let task = b.follow();
    fails(&b, &id(1), 1).await;
    comes_by_itself(b).await;
    soon(task).await.unwrap();
}

/// A node that tries for an hour to reach a peer at this socket.
async fn knocks_at(socket: &UdpSocket) -> (Node, JoinHandle<()>) {
    let limits = limits_with(|limits| {
        limits.timeouts.connect = NEVER;
        limits.timeouts.idle = NEVER;
        limits.pauses.retry = NEVER;
        limits.pauses.max_retry = NEVER;
    });
    let node = knocking_at(1, socket, limits).await;
    let task = node.follow();
    soon(socket.recv_from(&mut [0; 2048])).await.unwrap();
    (node, task)
}

#[tokio::test]
async fn who_comes_while_we_knock_elsewhere_is_read_at_once() {
    let socket = silent().await;
    let (b, task) = knocks_at(&socket).await;
    comes_by_itself(b).await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn who_is_said_to_be_elsewhere_while_we_knock_is_read_at_once() {
    let socket = silent().await;
    let (b, task) = knocks_at(&socket).await;
    // This node waits for others to make contact.
    let a = Node::new(1).await;
    a.log.push("a");
    b.knows(&a.net);
    b.log.has(1).await;
    a.end().await;
    b.end().await;
    soon(task).await.unwrap();
}
