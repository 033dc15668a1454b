//! Two validators and two miners, each acting in turn: who is awaited is said, and the last signature closes.
//!
//! One directory serves all four, with the key of whoever acts: what the network would bring is then always there.

use std::fs;

use serde_json::{Value, json};

use super::home::{Home, hash};

struct Turns {
    home: Home,
    keys: Vec<(String, String)>,
}

impl Turns {
    /// Homes for four keys; the first one's is used by all.
    fn new() -> Self {
        let home = Home::new("0");
        let mut keys = Vec::new();
        for seed in ["0", "1", "2", "3"] {
            let of = Home::new(seed);
            let public = hash(&of.ok(["key", "show"]), "key");
            keys.push((public, fs::read_to_string(of.path().join("key")).unwrap()));
        }
        Self { home, keys }
    }

    fn act_as(&self, who: usize) -> &Home {
        let path = self.home.path().join("key");
        fs::write(path, &self.keys[who].1).unwrap();
        &self.home
    }
}

#[test]
fn two_validators_close_a_window_together() {
    let turns = Turns::new();
    let home = &turns.home;
    home.ok(["dataset", "import", "--bundled"]);
    let mut arguments = Vec::new();
    for who in [0, 1] {
        let anchor = hash(&turns.act_as(who).ok(["key", "show", "--anchor", "test"]), "anchor");
        arguments.extend(["--validator".to_owned(), format!("{}:1:{anchor}", turns.keys[who].0)]);
    }
    for who in [2, 3] {
        arguments.extend(["--miner".to_owned(), turns.keys[who].0.clone()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    home.run_new(&arguments, &[]);
    // Validators propose in turn, so in one of two windows each of them is the one that votes.
    for window in ["0", "1"] {
        turns.act_as(0).fails(1, ["train", "--window", window]);
        for who in [2, 3] {
            turns.act_as(who).ok(["train", "--window", window]);
            turns.act_as(who).fails(1, ["score", "--window", window]);
        }
        let until = |command: &[&str]| -> Value {
            for _ in 0..4 {
                for who in [0, 1] {
                    let said = turns.act_as(who).say([command, &["--json"]].concat());
                    match said.code {
                        0 if said.last()["type"] == "result" && who == 1 => return said.last(),
                        0 | 5 => {}
                        _ => panic!("{command:?}: {said:?}"),
                    }
                }
            }
            panic!("{command:?} does not end");
        };
        let waits = turns.act_as(0).fails(5, ["close", "--commits", "--window", window]).last();
        assert!(
            waits["awaited"].as_array().unwrap().iter().any(|one| one["key"] == turns.keys[1].0.as_str()),
            "{waits}"
        );
        let cut = until(&["close", "--commits", "--window", window]);
        assert_eq!(cut["contributions"].as_array().unwrap().len(), 2);
        let score = until(&["score", "--window", window]);
        // Each contribution is replayed by one of the two.
        let drawn = |score: &Value| {
            let entries = score["entries"].as_array().unwrap();
            entries.iter().filter(|entry| entry["replay"] == "match").count()
        };
        let other = turns.act_as(0).ok(["score", "--window", window]);
        assert_eq!(drawn(&score) + drawn(&other), 2, "{score} {other}");
        let closed = until(&["close", "--window", window]);
        assert_eq!((closed["signatures"].clone(), closed["closed"].clone()), (json!(2), json!(true)));
        assert_eq!(closed["aggregated"].as_array().unwrap().len(), 2);
    }
    let audit = home.ok(["audit"]);
    assert_eq!((audit["verdict"].clone(), audit["contributions"].clone()), (json!("match"), json!(4)));
    let miner = &turns.keys[3].0;
    assert_eq!(home.ok(["train", "--window", "0", "--miner", miner])["verdict"], "match");
    home.fails(3, ["train", "--window", "0", "--miner", &turns.keys[0].0]);
}
