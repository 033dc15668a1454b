//! Commands in the home of a running node. Commands that read work and give the same result; commands that
//! write are refused.

use super::running::Running;
use super::{Home, refused};
use crate::cli::home::timeless;

/// Commands that only read, and their arguments.
const READERS: [&[&str]; 7] = [
    &["status"],
    &["log"],
    &["show", "@"],
    &["show", "w0"],
    &["audit"],
    &["generate", "--greedy", "--prompt", "To be", "--tokens", "5"],
    &["dataset", "verify", "shakespeare"],
];

/// What the readers say, but for the moment at which `status` was asked and what only a running node knows then.
fn read_all(home: &Home) -> Vec<String> {
    READERS.iter().map(|arguments| timeless(&home.fails(0, *arguments))).collect()
}

fn writers_are_refused(home: &Home) {
    let writers = [
        &["train", "--window", "1"][..],
        &["share"],
        &["node", "--role", "seeder"],
        &["dataset", "import", "--bundled"],
    ];
    for arguments in writers {
        let error = super::error(&home.fails(11, arguments));
        assert_eq!(error["code"], 11, "{error}");
    }
}

#[test]
fn commands_beside_a_node_read_and_do_not_write() {
    let home = Home::with_run("beside", &[]);
    home.window("0");
    let alone = read_all(&home);

    let sharer = Running::start(&home, ["share"]);
    assert_eq!(sharer.started["window"], 1);
    assert_eq!(read_all(&home), alone);
    writers_are_refused(&home);
    assert_eq!(home.ok(["verify"])["verdict"], "match");
    sharer.stop();
    assert!(!home.path().join("node.sock").exists());

    let seeder = Running::start(&home, ["node", "--role", "seeder"]);
    assert_eq!(read_all(&home), alone);
    writers_are_refused(&home);
    // A killed node leaves its socket file behind, and nobody answers there.
    seeder.kill();
    assert_eq!(read_all(&home), alone);
    home.window("1");
    assert_eq!(home.ok(["audit"])["windows"], 2);
}

#[test]
fn a_node_needs_a_run_and_a_part_in_it() {
    let home = Home::new("part");
    refused(&home, 3, ["node", "--role", "seeder"]);
    refused(&home, 3, ["share"]);
    home.ok(["dataset", "import", "--bundled"]);
    let miner = Home::new("another");
    let key = super::super::home::hash(&miner.ok(["key", "show"]), "key");
    home.run_new(&["--miner", &key], &[]);
    // A node without a slot follows the run and may get a slot.
    let follower = Running::start(&home, ["node", "--role", "miner"]);
    let said = follower.until(|line| line["type"] == "warning");
    assert!(said["message"].as_str().unwrap().contains("no slot"), "{said}");
    follower.stop();

    let sharer = Running::start(&home, ["share"]);
    let joined = miner.ok(["run", "join", &sharer.ticket()]);
    assert_eq!(joined["role"], "miner");
    assert_eq!(miner.ok(["run", "join", &sharer.ticket()]), joined, "a second time changes nothing");
    let ticket = sharer.ticket();
    sharer.stop();
    assert_eq!(miner.ok(["run", "join", &ticket]), joined, "nothing is fetched twice");
    assert_eq!(miner.ok(["run", "list"])["runs"].as_array().unwrap().len(), 1);
    let said = refused(&miner, 1, ["node", "--role", "validator"]);
    assert!(said["error"].as_str().unwrap().contains("not a validator"), "{said}");

    // A peer with a new address is found through a new ticket.
    let sharer = Running::start(&home, ["share"]);
    assert_ne!(sharer.ticket(), ticket);
    assert_eq!(miner.ok(["run", "join", &sharer.ticket()]), joined);
    let visit = miner.ok(["fetch", "w0"]);
    assert_eq!((visit["peers"].as_u64(), visit["complete"].as_bool()), (Some(1), Some(true)), "{visit}");
    sharer.stop();
}
