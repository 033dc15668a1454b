//! A log whose owner could not be reached is tried again: after pauses that grow, and at once when the owner comes by itself.

use std::sync::Arc;
use std::time::Duration;

use iroh::SecretKey;
use templar_store::Store;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Node, TestLog, run, soon};
use crate::peer::{Addr, PeerAddr};
use crate::{Limits, PeerId, ServeAll};

const NEVER: Duration = Duration::from_secs(3600);

fn id(seed: u8) -> PeerId {
    *SecretKey::from_bytes(&[seed; 32]).public().as_bytes()
}

/// A node that looks for the node with the key `seed` where this socket listens and never answers.
async fn knocking_at(seed: u8, socket: &UdpSocket, limits: Limits) -> Node {
    let node = Node::with(100, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await;
    let addr = PeerAddr { id: id(seed), addrs: vec![Addr::Ip(socket.local_addr().unwrap())] };
    node.net.add_peer(addr).unwrap();
    node
}

async fn silent() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// Returns when so many attempts in a row have failed.
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
    let limits = Limits { connect_timeout: Duration::from_millis(1), retry_pause: pause, ..Limits::default() };
    let node = knocking_at(1, &socket, limits).await;
    let start = Instant::now();
    let task = node.follow();
    fails(&node, &id(1), 5).await;
    // 20, 40, 80 and 160 ms.
    assert!(start.elapsed() >= pause * 15, "{:?}", start.elapsed());
    node.end().await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn who_brings_something_each_time_is_not_waited_for_longer_each_time() {
    let pause = Duration::from_millis(20);
    let limits = Limits { retry_pause: pause, max_retry_pause: NEVER, ..Limits::default() };
    let b = Node::with(100, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await;
    let a = Node::new(1).await;
    b.knows(&a.net);
    let task = b.follow();
    // Doubled each time, the last pause alone would take 41 seconds.
    for count in 1..=13 {
        a.log.push(format!("{count}"));
        b.log.has(count).await;
        a.net.inner.lines.hang_up(&b.net.id());
    }
    a.end().await;
    b.end().await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn who_was_away_is_found_when_it_is_back() {
    let socket = silent().await;
    let limits = Limits { connect_timeout: Duration::from_millis(100), ..Limits::default() };
    let b = knocking_at(1, &socket, limits).await;
    let task = b.follow();
    fails(&b, &id(1), 1).await;
    let addr = socket.local_addr().unwrap();
    drop(socket);
    // It listens where it is looked for, and looks for nobody itself.
    let log = TestLog::new(run());
    log.push("a");
    let config = crate::NetConfig { bind: addr, ..super::config(1, Limits::default()) };
    let store = Store::memory().await;
    let a = crate::Net::bind(config, store.clone(), log, Arc::new(ServeAll)).await.unwrap();
    b.log.has(1).await;
    soon(a.shutdown()).await;
    store.shutdown().await;
    b.end().await;
    soon(task).await.unwrap();
}

/// Node 1 begins elsewhere, knows `b` and has something to say; that is read although `b` waits, or knocks, for an hour.
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
    let limits = Limits { connect_timeout: Duration::from_millis(100), retry_pause: NEVER, ..Limits::default() };
    let b = knocking_at(1, &socket, Limits { max_retry_pause: NEVER, ..limits }).await;
    let task = b.follow();
    fails(&b, &id(1), 1).await;
    comes_by_itself(b).await;
    soon(task).await.unwrap();
}

/// A node that knocks for an hour where this socket listens.
async fn knocks_at(socket: &UdpSocket) -> (Node, JoinHandle<()>) {
    let limits = Limits { connect_timeout: NEVER, idle_timeout: NEVER, retry_pause: NEVER, ..Limits::default() };
    let node = knocking_at(1, socket, Limits { max_retry_pause: NEVER, ..limits }).await;
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
    // It waits to be found.
    let a = Node::new(1).await;
    a.log.push("a");
    b.knows(&a.net);
    b.log.has(1).await;
    a.end().await;
    b.end().await;
    soon(task).await.unwrap();
}
