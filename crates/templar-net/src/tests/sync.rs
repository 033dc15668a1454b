//! Entries reach every node of a run, and no other run, and a reader continues where it stopped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use templar_manifest::Hash;
use templar_store::Store;

use super::{Node, TestLog, limits_with, run, soon, until_caught_up};
use crate::{MAX_ENTRY_BYTES, NetLimits, Pulled, ServeAll};

#[tokio::test]
async fn entries_reach_everybody_and_a_late_joiner_with_one_address() {
    let (a, b, c) = (Node::new(1).await, Node::new(2).await, Node::new(3).await);
    // A chain of addresses: A knows nobody, B knows A, C knows B.
    b.knows(&a.net);
    c.knows(&b.net);
    let mut tasks = vec![a.follow(), b.follow(), c.follow()];
    for (node, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        for i in 0..50 {
            node.log.push(format!("{name} {i}"));
        }
    }
    for node in [&a, &b, &c] {
        node.log.has(150).await;
    }
    let late = Node::new(4).await;
    late.knows(&c.net);
    tasks.push(late.follow());
    late.log.has(150).await;
    // An entry of the latecomer reaches nodes that it was never told of.
    late.log.push("late");
    for node in [&a, &b, &c] {
        node.log.has(151).await;
        assert_eq!(node.log.sorted(), late.log.sorted());
    }
    assert!(late.net.peers().len() >= 2, "it learned of others: {:?}", late.net.peers());
    for node in [a, b, c, late] {
        node.end().await;
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_goes_on_where_it_stopped() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    a.log.push("one");
    a.log.push("two");
    b.knows(&a.net);
    let mut pulled = b.net.pull_entries();
    assert_eq!(until_caught_up(&mut pulled).await, ["one", "two"]);
    a.log.push("three");
    assert_eq!(until_caught_up(&mut pulled).await, ["three"]);

    // A restarts at another address with the same key and log, and contacts B.
    let (log, store) = (a.log.clone(), a.store.clone());
    soon(a.net.shutdown()).await;
    log.push("four");
    let a = Node::with(1, NetLimits::default(), store.clone(), log, Arc::new(ServeAll)).await;
    a.knows(&b.net);
    let task = a.follow();
    assert_eq!(until_caught_up(&mut pulled).await, ["four"]);

    // A has lost its log and has another one, so B reads it from the beginning.
    soon(a.net.shutdown()).await;
    soon(task).await.unwrap();
    let log = TestLog::new(run());
    for entry in ["1", "2", "3", "4", "5"] {
        log.push(entry);
    }
    let a = Node::with(1, NetLimits::default(), store, log, Arc::new(ServeAll)).await;
    a.knows(&b.net);
    let task = a.follow();
    assert_eq!(until_caught_up(&mut pulled).await, ["1", "2", "3", "4", "5"]);
    a.end().await;
    b.end().await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn entries_of_every_length_arrive_as_they_were() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    let mut sent = Vec::new();
    for len in [0, 1, 127, 128, 70_000, MAX_ENTRY_BYTES] {
        let entry = super::bytes(len, 9);
        a.log.push(entry.clone());
        sent.push(entry);
    }
    // An entry that is too long for a frame is left out and does not stop the others.
    a.log.push(super::bytes(MAX_ENTRY_BYTES + 1, 9));
    a.log.push("last");
    sent.push(Bytes::from("last"));
    b.knows(&a.net);
    assert_eq!(until_caught_up(&mut b.net.pull_entries()).await, sent);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let a = Node::new(1).await;
    let limits = limits_with(|limits| limits.sync.entries_in_flight = 1);
    let b = Node::with(2, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await;
    for i in 0..2000 {
        a.log.push(format!("{i:01000}"));
    }
    b.knows(&a.net);
    let mut pulled = b.net.pull_entries();
    let mut last = None;
    for _ in 0..2000 {
        // Other tasks run between two entries.
        tokio::task::yield_now().await;
        last = soon(pulled.recv()).await;
    }
    assert!(matches!(last, Some(Pulled::Entry { bytes, .. }) if bytes.ends_with(b"1999")));
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn an_interrupted_stream_loses_and_repeats_nothing() {
    let a = Node::new(1).await;
    let limits = limits_with(|limits| {
        limits.sync.entries_in_flight = 1;
        limits.pauses.misbehaviour = Duration::from_millis(5);
    });
    let b = Node::with(2, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await;
    let entries: Vec<Bytes> = (0..12).map(|i| format!("entry {i}").into()).collect();
    for entry in &entries {
        a.log.push(entry.clone());
    }
    b.knows(&a.net);
    let mut pulled = b.net.pull_entries();
    let mut arrived = Vec::new();
    while arrived.len() < entries.len() {
        match soon(pulled.recv()).await.unwrap() {
            Pulled::Entry { bytes, .. } => arrived.push(bytes),
            Pulled::CaughtUp { .. } => break,
        }
        // This cuts the stream while one entry is in the channel and the next one waits for room.
        b.net.blame(&a.net.id(), "a test");
    }
    assert_eq!(arrived, entries);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn another_run_is_refused() {
    let a = Node::new(1).await;
    a.log.push("entry");
    let other = TestLog::new(Hash::of(b"another run"));
    let b = Node::with(2, NetLimits::default(), Store::memory().await, other, Arc::new(ServeAll)).await;
    b.knows(&a.net);
    let mut changes = b.net.inner.book.changes();
    let mut pulled = b.net.pull_entries();
    let told = || b.net.problems().get(&a.net.id()).is_some_and(|problem| problem.contains("another run"));
    while !told() {
        soon(changes.changed()).await.unwrap();
    }
    assert!(pulled.try_recv().is_err(), "nothing came");
    assert!(a.net.peers().is_empty(), "strangers stay out of the book");
    a.end().await;
    b.end().await;
}
