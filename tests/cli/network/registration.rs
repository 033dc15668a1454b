//! A miner that genesis does not name registers, trains and is paid without anybody's permission.

use serde_json::Value;

use super::running::Running;
use super::{Home, refused};
use crate::cli::home::hash;

/// Settings with a hashcash that is found at once, and with standings that count from the first window on.
const SETTINGS: [&str; 5] = [
    "registration.slots=3",
    "registration.hashcash.first=4096",
    "registration.hashcash.least=256",
    "registration.anchor_windows=64",
    "gauntlet.proof.warm_up_windows=60000",
];

fn key_of(home: &Home) -> String {
    hash(&home.ok(["key", "show"]), "key")
}

/// A validator and one miner at work, with the ticket of their run.
fn at_work() -> (Home, Home, Running, Running, String) {
    let (validator, miner) = (Home::new("judge"), Home::new("first"));
    validator.ok(["dataset", "import", "--bundled"]);
    validator.run_new(&["--miner", &key_of(&miner)], &SETTINGS);
    let judging = Running::start(&validator, ["node", "--role", "validator"]);
    let ticket = judging.ticket();
    assert_eq!(miner.ok(["run", "join", &ticket])["role"], "miner");
    let mining = Running::start(&miner, ["node", "--role", "miner"]);
    (validator, miner, judging, mining, ticket)
}

fn is_paid(line: &Value, owner: &str) -> bool {
    let paid = line["minted_to_miners"].as_array();
    line["type"] == "closed" && paid.is_some_and(|paid| paid.iter().any(|mint| mint[0] == owner))
}

#[test]
fn a_newcomer_registers_beside_its_node_trains_and_is_paid_and_its_owner_moves_to_another_node() {
    let (validator, _miner, judging, mining, ticket) = at_work();
    let newcomer = Home::new("newcomer");
    assert_eq!(newcomer.ok(["run", "join", &ticket])["role"], "follower");
    // Its node follows the run and says that it has no slot.
    let waiting = Running::start(&newcomer, ["node", "--role", "miner"]);
    let said = waiting.until(|line| line["type"] == "warning");
    assert!(said["message"].as_str().unwrap().contains("`templar register` asks for one"), "{said}");
    waiting.until(|line| line["type"] == "closed");

    let file = newcomer.path().with_file_name("owner.key");
    let file = file.to_str().unwrap();
    let owner = hash(&newcomer.ok(["key", "new", file]), "key");
    refused(&newcomer, 1, ["key", "new", file]);
    assert_eq!(newcomer.ok(["status"])["registration"]["slot"], Value::Null);
    let registered = newcomer.ok(["register", "--owner", file]);
    assert_eq!((registered["owner"].as_str(), registered["handed_to_node"].as_bool()), (Some(&*owner), Some(true)));
    let admitted = waiting.until(|line| line["type"] == "admitted");
    assert_eq!((admitted["owner"].as_str(), admitted["verdict"].as_str()), (Some(&*owner), Some("joined: slot 1")));
    let event = waiting.until(|line| line["type"] == "registered");
    assert_eq!(
        (event["slot"].as_u64(), event["since"].as_u64()),
        (Some(1), Some(admitted["window"].as_u64().unwrap() + 1))
    );
    let trained = waiting.until(|line| line["type"] == "contributed" && line["miner"] == *owner);
    assert!(trained["window"].as_u64() >= event["since"].as_u64());
    judging.until(|line| is_paid(line, &owner));

    let status = newcomer.ok(["status"]);
    assert_eq!(status["registration"]["slot"], 1);
    assert_eq!(status["registration"]["owner"], *owner);
    let accounts = status["balances"]["accounts"].as_array().unwrap();
    assert!(accounts.iter().any(|account| account["account"] == *owner), "{status}");
    let admission = &newcomer.body(&format!("w{}", admitted["window"]))["admissions"][0];
    let shown = newcomer.ok(["show", admission["registration"].as_str().unwrap()]);
    assert_eq!(shown["kind"], "registration");
    assert_eq!(shown["explanation"][0]["enough"], true, "{shown}");
    assert_eq!(shown["explanation"][1]["verdict"], "joined: slot 1");
    // A second registration has nothing to do.
    assert_eq!(newcomer.ok(["register"])["already"], true);

    // The owner moves to another machine.
    let other = Home::new("other machine");
    other.ok(["run", "join", &ticket]);
    let moved = Running::start(&other, ["node", "--role", "miner"]);
    // By then it has received the record with the owner's slot.
    moved.until(|line| line["type"] == "closed" && line["window"].as_u64() > admitted["window"].as_u64());
    let rotated = other.ok(["key", "rotate", "--owner", file]);
    assert_eq!(rotated["payment"], "rotation");
    let event = moved.until(|line| line["type"] == "registered");
    assert_eq!((event["owner"].as_str(), event["slot"].as_u64()), (Some(&*owner), Some(1)));
    waiting.stop();
    let trained = moved.until(|line| line["type"] == "contributed" && line["miner"] == *owner);
    judging.until(|line| line["type"] == "closed" && line["window"] == trained["window"]);
    for node in [moved, mining, judging] {
        node.stop();
    }
    // The audit recomputes the members together with everything else.
    let audit = validator.ok(["audit"]);
    assert_eq!(audit["verdict"], "match", "{audit}");
    assert!(audit["windows"].as_u64() > trained["window"].as_u64());
}

#[test]
fn a_registration_waits_in_its_home_for_a_node() {
    let (_validator, _miner, judging, mining, ticket) = at_work();
    let newcomer = Home::new("newcomer");
    newcomer.ok(["run", "join", &ticket]);
    let registered = newcomer.ok(["register", "--hashcash"]);
    assert_eq!(registered["handed_to_node"], false);
    let own = key_of(&newcomer);
    assert_eq!((registered["owner"].as_str(), registered["node"].as_str()), (Some(&*own), Some(&*own)));
    assert!(newcomer.ok(["status"])["registration"]["application"].is_string());
    let node = Running::start(&newcomer, ["node", "--role", "miner"]);
    assert_eq!(node.until(|line| line["type"] == "registered")["owner"], *own);
    node.until(|line| line["type"] == "contributed" && line["miner"] == *own);
    assert_eq!(newcomer.ok(["status"])["registration"]["application"], Value::Null);
    for node in [node, mining, judging] {
        node.stop();
    }
}

#[test]
fn who_cannot_pay_is_told_so() {
    let home = Home::with_run("alone", &["registration.slots=2"]);
    let newcomer = Home::new("poor");
    let sharer = Running::start(&home, ["share"]);
    newcomer.ok(["run", "join", &sharer.ticket()]);
    let said = refused(&newcomer, 1, ["register", "--burn"]);
    let expected = "has 0 micro-ALPHA free and 1000000 are to be burnt";
    assert!(said["error"].as_str().unwrap().ends_with(expected), "{said}");
    let said = refused(&newcomer, 1, ["register", "--burn", "0.5"]);
    assert_eq!(said["error"], "500000 micro-ALPHA are burnt and a slot costs 1000000");
    assert_eq!(home.ok(["register"])["already"], true);
    let file = newcomer.path().join("key");
    let said = refused(&newcomer, 1, ["key", "rotate", "--owner", file.to_str().unwrap()]);
    assert!(said["error"].as_str().unwrap().contains("has no slot"), "{said}");
    newcomer.fails(2, ["register", "--burn", "much"]);
    newcomer.fails(2, ["register", "--burn", "1", "--hashcash"]);
    // The failed registration leaves nothing behind.
    assert_eq!(newcomer.ok(["status"])["registration"]["application"], Value::Null);
    sharer.stop();
}
