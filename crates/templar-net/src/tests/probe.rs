//! Probes tell the answers of peers apart, and peers do not remember the prober.

use std::sync::Arc;
use std::time::Duration;

use templar_manifest::Hash;
use templar_store::Store;

use super::hostile::{Hostile, hello};
use super::{Node, TestLog, config, impatient, run, soon};
use crate::frame::encode;
use crate::peers::peer::PeerAddr;
use crate::sync::wire::{MAX_REPLY, SyncReply};
use crate::{NetConfig, ProbeError, Prober, Relays, ServeAll};

async fn prober() -> Prober {
    let clock = Some((|| 1_000_000) as crate::Clock);
    Prober::bind(NetConfig { clock, ..config(200, impatient()) }, run()).await.unwrap()
}

#[tokio::test]
async fn a_peer_answers_and_forgets_who_asked() {
    let a = Node::new(1).await;
    let prober = prober().await;
    let probe = soon(prober.ask(&a.net.addr())).await.unwrap();
    assert_eq!((probe.skew, probe.peers), (None, 0));
    assert!(a.net.peers().is_empty() && a.net.neighbours().is_empty());
    assert_eq!(prober.relayed(Duration::ZERO).await, None, "there is no relay to ask");
    prober.close().await;
    a.end().await;
}

#[tokio::test]
async fn answers_that_are_none_say_what_they_are() {
    let other = TestLog::new(Hash::of(b"another run"));
    let other = Node::with(1, impatient(), Store::memory().await, other, Arc::new(ServeAll)).await;
    let prober = prober().await;
    let ask = async |peer: &PeerAddr| soon(prober.ask(peer)).await.unwrap_err();
    assert_eq!(ask(&other.net.addr()).await, ProbeError::OtherRun { run: Hash::of(b"another run") });

    let nobody = PeerAddr { addrs: vec![([127, 0, 0, 1], 1_u16).into()], ..other.net.addr() };
    let gone = Node::new(3).await;
    let addr = gone.net.addr();
    gone.end().await;
    assert!(matches!(ask(&addr).await, ProbeError::Unreachable(_)));
    assert!(matches!(ask(&PeerAddr { addrs: Vec::new(), ..nobody.clone() }).await, ProbeError::Unreachable(_)));
    assert!(matches!(ask(&PeerAddr { id: [2; 32], ..nobody }).await, ProbeError::Addr(_)));

    let answers = [
        (Vec::new(), false),
        (vec![0xff; 64], false),
        (encode(&SyncReply::CaughtUp, MAX_REPLY).unwrap(), true),
        (encode(&hello(Vec::new()), MAX_REPLY).unwrap()[..5].to_vec(), true),
    ];
    for (seed, (answer, ends)) in (10..).zip(answers) {
        let hostile = Hostile::new(seed, answer, ends).await;
        let error = ask(&hostile.addr).await;
        assert!(matches!(error, ProbeError::Protocol(_)), "{error}");
        hostile.end().await;
    }
    prober.close().await;
    other.end().await;
}

#[test]
fn relays_are_said_in_one_word_or_by_url() {
    for text in ["none", "n0", "https://relay.example/", "https://a.example/,http://127.0.0.1:3340/"] {
        assert_eq!(text.parse::<Relays>().unwrap().to_string(), text);
    }
    for text in ["", "N0", "relay.example", "ftp://relay.example/", "127.0.0.1:3340", "https://a.example/,"] {
        assert!(text.parse::<Relays>().is_err(), "{text}");
    }
    assert_eq!(Relays::None.urls().len(), 0);
    assert!(!Relays::N0.urls().is_empty());
}
