//! Evidence that is handed to a running node. If it proves nothing, nothing changes; if it proves a
//! contradiction, a record slashes for it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;
use templar_home::access::{Access, HandInError};
use templar_manifest::{Contradiction, Envelope, Hash, Inbox};
use templar_protocol::{Entry, EvidenceEntry};

use super::running::Running;
use super::{Home, refused};
use crate::cli::evidence::statements;
use crate::cli::home::hash;

/// The answer of a home's node, on its socket, to bytes that are handed in as evidence under this hash.
fn answer(home: &Home, bytes: &[u8], id: Hash) -> (u8, String) {
    let mut stream = UnixStream::connect(home.path().join("node.sock")).unwrap();
    let length = (bytes.len() as u64).to_le_bytes();
    stream.write_all(&[&b"e"[..], id.as_bytes(), &length, bytes].concat()).unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).unwrap();
    let mut reason = vec![0; u64::from_le_bytes(header[1..].try_into().unwrap()) as usize];
    stream.read_exact(&mut reason).unwrap();
    (header[0], String::from_utf8(reason).unwrap())
}

fn envelope(path: &str) -> Envelope {
    match Entry::decode(&std::fs::read(path).unwrap()).unwrap() {
        Entry::Envelope(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

/// One of two miners holds two contradicting statements of the validator, and hands them to its own node while
/// that node trains.
#[test]
fn a_running_node_takes_evidence_and_a_record_burns_for_it() {
    let (validator, miner, other) = (Home::new("judge"), Home::new("first"), Home::new("second"));
    validator.ok(["dataset", "import", "--bundled"]);
    let key_of = |home: &Home| hash(&home.ok(["key", "show"]), "key");
    // Many windows close while this test looks at one, and standings count from the first window on.
    let settings = ["emission.vesting_windows=256", "gauntlet.proof.warm_up_windows=60000"];
    validator.run_new(&["--miner", &key_of(&miner), "--miner", &key_of(&other)], &settings);
    let judging = Running::start(&validator, ["node", "--role", "validator"]);
    let mine = |home: &Home| {
        home.ok(["run", "join", &judging.ticket()]);
        Running::start(home, ["node", "--role", "miner"])
    };
    let (mining, beside) = (mine(&miner), mine(&other));
    let closes = || mining.until(|line| line["type"] == "closed");
    let a_window_closes = || closes()["window"].as_u64().unwrap();
    // From here on the validator has unvested pay that can be slashed.
    while let closed = closes()
        && closed["minted"] == 0.0
    {
        assert!(closed["window"].as_u64() < Some(20), "nobody is paid");
    }
    let [one, two, three] = statements(&validator);

    for second in [&one, &three] {
        let error = refused(&miner, 4, ["evidence", "submit", &one, second]);
        assert_eq!(error["error"], "evidence proves nothing");
    }
    // The node itself refuses bad evidence that did not come through the command, which checks first.
    let access = Access::read(&miner.path()).unwrap();
    assert!(access.is_beside_a_node());
    let run = access.run(None).unwrap().run;
    let shown = |second: &str| {
        let (first, second) = (envelope(&one), envelope(second));
        let (signer, window) = (first.signer, first.open::<Inbox>().unwrap().payload().window);
        EvidenceEntry { run, window, contradiction: Contradiction { signer, window, first, second } }
    };
    for second in [&one, &three] {
        let Err(HandInError::Refused(reason)) = access.show(shown(second)) else { panic!("it is taken") };
        assert!(reason.starts_with("evidence proves nothing: evidence against "), "{reason}");
    }
    let (rubbish, statement) = (b"rubbish".to_vec(), std::fs::read(&one).unwrap());
    for (bytes, id, expected) in [
        (&rubbish, Hash::of(&statement), "the bytes of the request do not have its hash"),
        (&rubbish, Hash::of(&rubbish), "the request does not decode: "),
        (&statement, Hash::of(&statement), "the request does not decode: the entry is no evidence"),
    ] {
        let (status, reason) = answer(&miner, bytes, id);
        assert!(status == 4 && reason.starts_with(expected), "{status} {reason}");
    }
    a_window_closes();
    assert_eq!(miner.ok(["evidence", "show"])["evidence"].as_array().unwrap().len(), 0);

    let said = miner.ok(["evidence", "submit", &two, &one]);
    assert_eq!((said["kind"].as_str(), said["handed_to_node"].as_bool()), (Some("inbox"), Some(true)));
    let found = loop {
        let closed = a_window_closes();
        let listed = validator.ok(["evidence", "show"])["evidence"].take();
        if let [found] = &listed.as_array().unwrap()[..] {
            break found.clone();
        }
        assert!(closed < said["window"].as_u64().unwrap() + 20, "window {closed} has closed and burns nothing for it");
    };
    assert_eq!((&found["signer"], &found["account"]), (&said["signer"], &said["signer"]));
    assert_eq!((&found["window"], &found["kind"]), (&said["window"], &Value::from("inbox")));
    assert_eq!(found["shown_by"].as_array().unwrap().len(), 1);
    assert!(found["burnt_micros"].as_u64().unwrap() > 0, "{found}");

    // Nothing is slashed a second time.
    refused(&miner, 4, ["evidence", "submit", &one, &two]);
    a_window_closes();
    for node in [mining, beside, judging] {
        node.stop();
    }
    assert_eq!(validator.ok(["evidence", "show"])["evidence"].as_array().unwrap().len(), 1);
    assert_eq!(validator.ok(["audit"])["verdict"], "match");
}
