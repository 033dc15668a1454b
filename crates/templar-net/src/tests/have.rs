//! Answers about blobs are true and bounded, and they reveal nothing that may not be served.

use std::sync::Arc;

use iroh::endpoint::ConnectionError;
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};

use super::hostile::endpoint;
use super::{Allowed, Node, TestLog, bytes, run, soon};
use crate::NetLimits;
use crate::frame::encode;
use crate::peers::close_code;
use crate::serve::have::{HAVE_ALPN, Have, MAX_ASKED, MAX_QUESTION, Question, ask};

#[tokio::test]
async fn what_is_withheld_looks_as_if_it_were_not_here() {
    let policy = Arc::new(Allowed::default());
    let log = TestLog::new(run());
    let a = Node::with(1, NetLimits::default(), Store::memory().await, log, policy.clone()).await;
    let b = Node::new(2).await;
    b.knows(&a.net);
    let withheld = a.store.put(bytes(100_000, 1)).await.unwrap();
    let absent = Hash::of(b"absent");
    let connection = b.net.inner.fetcher.swarm.pool.optional_connection(HAVE_ALPN, &a.net.id()).await.unwrap();
    assert_eq!(soon(ask(&connection, &[withheld, absent])).await.unwrap(), [Have::Nothing, Have::Nothing]);
    policy.allow(absent);
    assert_eq!(soon(ask(&connection, &[withheld, absent])).await.unwrap(), [Have::Nothing, Have::Nothing]);
    policy.allow(withheld);
    assert_eq!(soon(ask(&connection, &[withheld, absent])).await.unwrap(), [Have::All, Have::Nothing]);

    // A part of the blob, in whole groups.
    let data = bytes(200_000, 2);
    let id = b.store.put(data).await.unwrap();
    policy.allow(id);
    let ranges = ChunkRanges::chunks(16..50) | ChunkRanges::last_chunk();
    let part = b.store.blobs().export_bao(to_iroh(&id), ranges.clone()).bao_to_vec().await.unwrap();
    a.store.blobs().import_bao_bytes(to_iroh(&id), ranges, part).await.unwrap();
    assert_eq!(soon(ask(&connection, &[id])).await.unwrap(), [Have::Part(ChunkRanges::chunks(16..48))]);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn questions_that_break_the_protocol_are_closed() {
    let a = Node::new(1).await;
    let addr = a.net.addr().to_endpoint_addr().unwrap();
    let asker = endpoint(50).await;
    let too_many = encode(&Question { ids: vec![Hash::of(b""); MAX_ASKED + 1] }, usize::MAX).unwrap();
    let too_long = u32::try_from(MAX_QUESTION + 1).unwrap().to_le_bytes().to_vec();
    let garbage = [2_u32.to_le_bytes().to_vec(), vec![7, 7]].concat();
    for question in [too_many, too_long, garbage] {
        let connection = soon(asker.connect(addr.clone(), HAVE_ALPN)).await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&question).await.unwrap();
        let closed = soon(connection.closed()).await;
        assert!(
            matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == close_code::PROTOCOL),
            "{closed}"
        );
    }
    soon(asker.close()).await;
    a.end().await;
}
