//! An audit asks the peers of the home for a later record, and believes only what the rules prove.

use std::fs;

use serde_json::Value;
use templar_home::access::Access;
use templar_home::journal::Journal;
use templar_manifest::{Hash, Kind, PublicKey, SecretKey, WindowIndex, payload};
use templar_protocol::Entry;
use templar_query::QueryError;
use templar_query::audit::AuditPlan;
use templar_query::audit::findings::{AuditAnswer, AuditSummary};
use templar_query::audit::head::AskPeers;

use super::damage::copy_dir;
use super::home::{Home, hash};
use super::network::running::Running;

#[test]
fn a_home_that_is_behind_its_peers_is_told_so() {
    let origin = Home::with_run("ahead", &[]);
    origin.window("0");
    let home = Home::new("behind");
    let sharer = Running::start(&origin, ["share"]);
    home.ok(["run", "join", &sharer.ticket()]);
    home.ok(["fetch", "w0"]);
    let said = home.fails(0, ["audit"]);
    let peers = said.lines().into_iter().find(|line| line["type"] == "peers").unwrap();
    assert_eq!((&peers["answered"], &peers["ahead"], &said.last()["ahead"]), (&1.into(), &Value::Null, &Value::Null));
    sharer.stop();
    // Nobody answers, and the home says so.
    let said = home.say(["audit"]);
    assert!(said.code == 0 && said.err.contains("none of 1 known peer says"), "{said:?}");
    assert!(!said.out.contains("asked"), "{said:?}");

    origin.window("1");
    let sharer = Running::start(&origin, ["share"]);
    let key = hash(&origin.ok(["key", "show"]), "key");
    let address = sharer.started["addresses"][0].as_str().unwrap();
    let dead = format!("{}@127.0.0.1:9", SecretKey::from_bytes(&[9; 32]).public());
    fs::write(home.path().join("peers.json"), serde_json::json!([dead, format!("{key}@{address}")]).to_string())
        .unwrap();
    let behind = home.fails(5, ["audit", "--sign"]);
    let end = behind.last();
    assert_eq!((&end["verdict"], &end["ahead"]["window"]), (&"unavailable".into(), &1.into()), "{end}");
    assert_eq!(end["ahead"]["record"], origin.ok(["show", "w1"])["id"]);
    assert!(end["what"].as_str().unwrap().contains("this home is behind: peers have window 1"), "{end}");
    assert!(end["hint"].as_str().unwrap().contains("`templar fetch "), "{end}");
    let windows: Vec<Value> = behind.lines().into_iter().filter(|line| line["type"] == "window").collect();
    assert!(windows.len() == 1 && windows[0]["verdict"] == "match" && windows[0]["signed"].is_string(), "{windows:?}");
    // What it has is right, and an audit without a network has nobody to ask.
    assert_eq!(home.ok(["audit", "--window", "0"])["ahead"]["window"], 1);
    assert_eq!(home.ok(["audit", "--offline"])["ahead"], Value::Null);
    home.ok(["fetch", &hash(&origin.ok(["run", "show"]), "run")]);
    assert_eq!(home.ok(["audit"])["windows"], 2);
    sharer.stop();
}

/// Peers that say what they are told to say.
#[derive(Debug)]
struct Peers(Vec<Vec<Entry>>);

impl AskPeers for Peers {
    fn entries_after(&self, reached: &[Hash]) -> Vec<Vec<Entry>> {
        assert_eq!(reached.len(), 1, "one window is closed");
        self.0.clone()
    }
}

#[derive(Debug)]
struct Failed;

impl From<QueryError> for Failed {
    fn from(error: QueryError) -> Self {
        panic!("{error}")
    }
}

fn audit(home: &Home, peers: &Peers) -> AuditSummary {
    let access = Access::read(&home.path()).unwrap();
    let run = access.home.current_run().unwrap().unwrap();
    let auditor = PublicKey::from_bytes([0; 32]);
    let plan = AuditPlan { access: &access, run, window: None, expect: None, peers: Some(peers), auditor };
    plan.run::<Failed>(&mut |_| Ok(())).unwrap()
}

#[test]
fn no_peer_can_invent_a_record() {
    let origin = Home::with_run("invented", &[]);
    origin.window("0");
    let home = Home::absent();
    copy_dir(&origin.path(), &home.path());
    origin.window("1");
    let run = hash(&origin.ok(["run", "show"]), "run");
    let entries: Vec<Entry> = Journal::read(&origin.path().join("runs").join(run))
        .unwrap()
        .iter()
        .map(|bytes| Entry::decode(bytes).unwrap())
        .collect();
    let is_vote = |entry: &Entry| match entry {
        Entry::Envelope(envelope) => payload::peek(&envelope.payload).unwrap().0 == Kind::Vote,
        _ => false,
    };
    let stranger = SecretKey::from_bytes(&[7; 32]).public();
    // The same votes, said to be another's, so that no signature verifies.
    let forged = |entry: &Entry| {
        let mut entry = entry.clone();
        if let Entry::Envelope(envelope) = &mut entry {
            envelope.signer = stranger;
        }
        entry
    };
    let unvoted: Vec<Entry> = entries.iter().filter(|entry| !is_vote(entry)).cloned().collect();
    let mut backwards = unvoted.clone();
    backwards.reverse();
    let lies = vec![unvoted.clone(), entries.iter().map(forged).collect(), backwards, Vec::new()];
    let found = audit(&home, &Peers(lies.clone()));
    assert_eq!((found.ahead, found.answer().verdict), (None, AuditAnswer::Match));
    // One honest peer among them is enough.
    let honest = audit(&home, &Peers([lies, vec![entries]].concat()));
    assert_eq!(honest.answer().verdict, AuditAnswer::Unavailable);
    let ahead = honest.ahead.unwrap();
    assert_eq!(ahead.window, WindowIndex(1));
    assert_eq!(ahead.record.to_string(), hash(&origin.ok(["show", "w1"]), "id"));
}
