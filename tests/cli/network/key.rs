//! One key on two nodes: the node that notices signs nothing more and says so, and `doctor` finds it before a node
//! starts.

use serde_json::Value;

use super::running::Running;
use super::{Home, refused};
use crate::cli::damage::copy_dir;
use crate::cli::home::hash;

const SETTINGS: [&str; 5] = [
    "windows=5",
    "inner.steps=40",
    "deadlines.commit_ms=600000",
    "deadlines.reveal_ms=600000",
    "deadlines.judge_ms=600000",
];

/// The findings of the doctor about the key.
fn key_findings(home: &Home, code: i32) -> Vec<(String, String)> {
    let report = home.fails(code, ["doctor", "--patience", "1"]).last();
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == "key");
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    findings.map(|finding| (text(finding, "level"), text(finding, "text"))).collect()
}

fn contributes(home: &Home, window: u64) -> impl Fn(&Value) -> bool {
    let key = hash(&home.ok(["key", "show"]), "key");
    move |line| line["type"] == "contributed" && line["window"] == window && line["miner"] == key.as_str()
}

#[test]
fn a_copied_home_notices_that_its_key_is_in_use_and_signs_nothing() {
    let (validator, miner) = (Home::new("judge"), Home::new("miner"));
    validator.ok(["dataset", "import", "--bundled"]);
    validator.run_new(&["--miner", &hash(&miner.ok(["key", "show"]), "key")], &SETTINGS);
    let judging = Running::start(&validator, ["node", "--role", "validator"]);
    let mining = Running::start(&miner, ["node", "--role", "miner", "--join", &judging.ticket()]);
    mining.until(|line| line["type"] == "closed" && line["window"] == 0);
    mining.stop();
    let copy = Home::absent();
    copy_dir(&miner.path(), &copy.path());

    // Nobody has used the key since.
    assert!(key_findings(&copy, 0).iter().all(|(level, _)| level == "ok"));
    let mining = Running::start(&miner, ["node", "--role", "miner"]);
    judging.until(contributes(&miner, 2));
    let found = key_findings(&copy, 1);
    assert!(found.iter().any(|(level, text)| level == "fail" && text.contains("was not signed here")), "{found:?}");
    // The node that has used it all the time is not to blame.
    assert!(key_findings(&miner, 0).iter().all(|(level, _)| level == "ok"));

    let second = Running::start(&copy, ["node", "--role", "miner"]);
    let said = second.until(|line| line["type"] == "key-elsewhere");
    assert_eq!(said["kind"], "contribution", "{said}");
    let (code, errors) = second.ended();
    assert_eq!(code, Some(12), "{errors}");
    assert!(errors.contains("in use elsewhere") && errors.contains("stop the other node"), "{errors}");
    // It stays silent, whatever is asked of it.
    let (code, errors) = Running::begin(&copy, ["node", "--role", "miner"]).ended();
    assert_eq!(code, Some(12), "{errors}");
    let open = copy.ok(["status"]);
    assert!(open["silence"].as_str().unwrap().contains("in use elsewhere"), "{open}");
    assert!(copy.say(["status"]).out.contains("nothing: this home"));
    let error = refused(&copy, 12, ["train", "--window", &open["window"].to_string()]);
    assert!(error["hint"].as_str().unwrap().contains("templar key reclaim"), "{error}");

    // The first node was not disturbed, and its key has contradicted nothing.
    mining.until(|line| line["type"] == "finished");
    mining.stop();
    judging.until(|line| line["type"] == "finished");
    judging.stop();
    assert_eq!(validator.ok(["evidence", "show"])["evidence"].as_array().unwrap().len(), 0);
    let audit = validator.ok(["audit"]);
    assert_eq!((&audit["verdict"], &audit["replayed"]), (&Value::from("match"), &Value::from(5)));
    assert_eq!(miner.ok(["status"])["silence"], Value::Null);
}

/// A home that is made anew for a key that has signed before is no second node: it learns what the key has signed, is
/// silent for one window, and goes on.
#[test]
fn a_new_home_for_an_old_key_goes_on_after_a_window() {
    let (validator, miner) = (Home::new("judge"), Home::new("miner"));
    validator.ok(["dataset", "import", "--bundled"]);
    // States begin anew in each window, so the new home lacks no state of the old one.
    let short = ["windows=10", "inner.steps=40", "deadlines.commit_ms=1500", "state_reset_every=1"];
    validator.run_new(&["--miner", &hash(&miner.ok(["key", "show"]), "key")], &short);
    let judging = Running::start(&validator, ["node", "--role", "validator"]);
    let mining = Running::start(&miner, ["node", "--role", "miner", "--join", &judging.ticket()]);
    mining.until(|line| line["type"] == "closed" && line["window"] == 1);
    mining.stop();

    let again = Home::new("miner");
    let mining = Running::start(&again, ["node", "--role", "miner", "--join", &judging.ticket()]);
    let warned = mining.until(|line| line["type"] == "warning");
    assert!(warned["message"].as_str().unwrap().contains("signed before"), "{warned}");
    let key = hash(&again.ok(["key", "show"]), "key");
    mining.until(|line| line["type"] == "contributed" && line["window"].as_u64() > Some(2) && line["miner"] == *key);
    mining.until(|line| line["type"] == "finished");
    mining.stop();
    judging.stop();
    assert_eq!(validator.ok(["evidence", "show"])["evidence"].as_array().unwrap().len(), 0);
}
