//! `templar evidence`: statements that it accepts, statements that it refuses, and its list.

use templar_home::access::Access;
use templar_manifest::{Hash, Inbox, SecretKey, Signed};
use templar_protocol::Entry;

use super::home::Home;
use super::liars::{Lie, window};

/// Files with two different inboxes of one key, and a third inbox signed by another key.
pub(crate) fn statements(home: &Home) -> [String; 3] {
    let access = Access::read(&home.path()).unwrap();
    let context = access.run(None).unwrap();
    let node = access.fold(&context).unwrap();
    let (key, other) = (access.home.key().unwrap(), SecretKey::from_bytes(Hash::of(b"somebody else").as_bytes()));
    let miner = key.public();
    let said = |name: &str, by: &SecretKey, what: &[u8]| {
        let entry = templar_manifest::CutEntry { miner, contribution: Hash::of(what).into() };
        let (run, window, validator) = (node.state().run(), node.state().window(), by.public());
        let contributions = vec![entry];
        let inbox = Inbox { run, window, validator, contributions, registrations: Vec::new() };
        let path = home.path().join(name);
        std::fs::write(&path, Entry::Envelope(Signed::sign(inbox, by).envelope()).encode()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    [said("one.bin", &key, b"one"), said("two.bin", &key, b"two"), said("three.bin", &other, b"three")]
}

#[test]
fn two_statements_are_handed_in_shown_and_listed() {
    let home = Home::with_run("evidence", &[]);
    let [one, two, three] = statements(&home);
    let journal = || {
        let access = Access::read(&home.path()).unwrap();
        let run = access.run(None).unwrap().run;
        templar_home::journal::Journal::read(&access.home.run_dir(&run)).unwrap().len()
    };
    let before = journal();
    // Files that prove nothing are refused with the reason and a hint, and nothing is kept.
    for other in [&one, &three] {
        let said = home.fails(4, ["evidence", "submit", &one, other]);
        let error = serde_json::from_str::<serde_json::Value>(said.err.trim()).unwrap();
        assert_eq!(error["error"], "evidence proves nothing");
        assert!(error["causes"][0].as_str().unwrap().starts_with("evidence against "), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("signed by one key"), "{error}");
    }
    home.fails(3, ["evidence", "submit", &one, "0123abcd"]);
    home.fails(2, ["evidence", "submit", &one, "nothing"]);
    std::fs::write(home.path().join("rubbish"), b"rubbish").unwrap();
    home.fails(1, ["evidence", "submit", &one, home.path().join("rubbish").to_str().unwrap()]);
    assert_eq!(journal(), before);
    assert_eq!(home.ok(["evidence", "show"])["evidence"].as_array().unwrap().len(), 0);

    let said = home.ok(["evidence", "submit", &two, &one]);
    assert_eq!((said["kind"].as_str(), said["handed_to_node"].as_bool()), (Some("inbox"), Some(false)));
    assert_eq!(journal(), before + 1);
    // A second time, the evidence is already here.
    home.ok(["evidence", "submit", &one, &two]);
    assert_eq!(journal(), before + 1);

    window(&home, &Lie::default());
    for of in
        [&["evidence", "show"][..], &["evidence", "show", "--window", "0"], &["evidence", "show", "--window", "w0"]]
    {
        let listed = home.ok(of.iter().copied());
        let found = &listed["evidence"][0];
        assert_eq!(
            (found["kind"].as_str(), found["window"].as_u64(), found["recorded"].as_u64()),
            (Some("inbox"), Some(0), Some(0))
        );
        assert_eq!(found["signer"], said["signer"]);
        assert_eq!(found["shown_by"].as_array().unwrap().len(), 1);
    }
    assert_eq!(home.ok(["evidence", "show", "--window", "1"])["evidence"].as_array().unwrap().len(), 0);
    // The record has slashed for it.
    home.fails(4, ["evidence", "submit", &one, &two]);
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}
