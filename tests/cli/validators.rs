//! Validators and miners that act in turn. The status names the participants that are awaited, the last
//! signature closes the window, and steps are paid if genesis says so.
//!
//! One directory serves all four participants, with the key of the one that acts. So everything that the
//! network would bring is already there.

use std::fs;

use serde_json::{Value, json};

use super::home::{Home, Said, hash};

struct Turns {
    home: Home,
    keys: Vec<(String, String)>,
}

impl Turns {
    /// This many keys in ascending order, with one home for all.
    fn new(count: usize) -> Self {
        let home = Home::new("0");
        let mut keys = Vec::new();
        for seed in 0..count {
            let of = Home::new(&seed.to_string());
            let public = hash(&of.ok(["key", "show"]), "key");
            keys.push((public, fs::read_to_string(of.path().join("key")).unwrap()));
        }
        keys.sort();
        Self { home, keys }
    }

    fn act_as(&self, who: usize) -> &Home {
        let path = self.home.path().join("key");
        fs::write(path, &self.keys[who].1).unwrap();
        &self.home
    }
}

/// The first keys validate, the others mine.
fn roles(turns: &Turns, validators: usize, further: &[&str]) {
    let mut arguments: Vec<String> = further.iter().map(|argument| (*argument).to_owned()).collect();
    for who in 0..validators {
        let anchor = hash(&turns.act_as(who).ok(["key", "show", "--anchor", "test"]), "anchor");
        arguments.extend(["--validator".to_owned(), format!("{}:1:{anchor}", turns.keys[who].0)]);
    }
    for (miner, _) in &turns.keys[validators..] {
        arguments.extend(["--miner".to_owned(), miner.clone()]);
    }
    turns.home.ok(["dataset", "import", "--bundled"]);
    turns.home.run_new(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
}

#[test]
fn a_silent_validator_of_four_does_not_stop_the_others() {
    let turns = Turns::new(5);
    roles(&turns, 4, &[]);
    turns.act_as(4).ok(["train", "--window", "0"]);
    // Validator 0 proposes in window 0. Validator 3 stays silent.
    let round = |code: i32, command: &[&str]| -> Vec<Said> {
        (0..3)
            .map(|who| turns.act_as(who).say([command, &["--json"]].concat()))
            .inspect(|said| {
                assert!([0, code].contains(&said.code), "{command:?}: {said:?}");
            })
            .collect()
    };
    round(5, &["close", "--commits", "--window", "0"]);
    round(5, &["close", "--commits", "--window", "0"]);
    round(5, &["close", "--commits", "--window", "0"]);
    let waits = turns.act_as(0).fails(5, ["score", "--window", "0"]).last();
    assert_eq!(waits["awaited"], json!([{"key": turns.keys[3].0, "what": "reveal"}]));
    // Two steps of votes on the values that count, then the scores.
    round(5, &["score", "--window", "0", "--late"]);
    round(5, &["score", "--window", "0", "--late"]);
    assert!(round(0, &["score", "--window", "0", "--late"]).iter().all(|said| said.code == 0));
    round(5, &["close", "--window", "0"]);
    let last = round(5, &["close", "--window", "0"]).pop().unwrap().last();
    assert_eq!((last["closed"].clone(), last["signatures"].clone()), (json!(true), json!(3)), "{last}");
    assert_eq!(turns.home.ok(["audit"])["verdict"], "match");
}

#[test]
fn two_validators_close_a_window_together() {
    let turns = Turns::new(4);
    let home = &turns.home;
    roles(&turns, 2, &[]);
    // Validators propose in turn. So in one of two windows each of them only votes.
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

/// Slow hardware in a run that pays by steps: half of the steps earn half of the pay, with others and without. A window
/// mints as much of its emission as it has proven of the steps that all members could take.
#[test]
fn steps_are_paid_in_proportion_and_without_others_too() {
    let turns = Turns::new(3);
    let home = &turns.home;
    roles(&turns, 1, &["--pay", "steps"]);
    let genesis = &home.ok(["run", "show"])["genesis"];
    assert_eq!((&genesis["gauntlet"]["assigned_pages"], &genesis["registration"]["slots"]), (&json!(0), &json!(20)));
    let paid = |window: &str, miners: &[(usize, &str)]| {
        for (who, steps) in miners {
            turns.act_as(*who).ok(["train", "--window", window, "--steps", steps]);
        }
        turns.act_as(0).ok(["close", "--commits", "--window", window]);
        let score = turns.act_as(0).ok(["score", "--window", window]);
        assert!(score["entries"].as_array().unwrap().iter().all(|entry| entry["replay"] == "match"), "{score}");
        let closed = turns.act_as(0).ok(["close", "--window", window]);
        let mints = closed["body"]["mints"].as_array().unwrap();
        let of = |who: usize| mints.iter().find(|mint| mint["account"] == turns.keys[who].0.as_str());
        [1, 2].map(|who| of(who).map_or(0, |mint| mint["amount_micros"].as_u64().unwrap()))
    };
    // Of 410,000 micro-ALPHA a window six eighths and one eighth, to parts per million.
    assert_eq!(paid("0", &[(1, "4"), (2, "2")]), [204_999, 102_499]);
    assert_eq!(paid("1", &[(2, "1")]), [0, 51_250]);
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}
