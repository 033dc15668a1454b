//! Nodes that are killed at the worst moments go on from their disks and reach the same end.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use templar_home::journal::Journal;
use templar_manifest::Hash;

use super::Home;
use super::running::Running;
use crate::cli::home::{hash, switch};

const WINDOWS: u64 = 3;

/// Settings with so many steps that a kill hits the middle of a window, and with deadlines that never pass.
const SETTINGS: [&str; 5] = [
    "windows=3",
    "inner.steps=40",
    "deadlines.commit_ms=600000",
    "deadlines.reveal_ms=600000",
    "deadlines.judge_ms=600000",
];

/// A validator and two miners of one run. The keys are the same every time.
struct Party {
    validator: Home,
    miners: [Home; 2],
    run: String,
}

impl Party {
    fn new() -> Self {
        let (validator, miners) = (Home::new("validator"), [Home::new("miner-1"), Home::new("miner-2")]);
        let [one, two] = miners.each_ref().map(|miner| hash(&miner.ok(["key", "show"]), "key"));
        validator.ok(["dataset", "import", "--bundled"]);
        let run = validator.run_new(&["--miner", &one, "--miner", &two], &SETTINGS);
        Self { run: hash(&run, "run"), validator, miners }
    }

    /// Starts the validator, which made the run, and starts the miners with its ticket.
    fn start(&self) -> (Running, [Running; 2]) {
        let validator = Running::start(&self.validator, ["node", "--role", "validator"]);
        let ticket = validator.ticket();
        let join = |miner| Running::start(miner, ["node", "--role", "miner", "--join", &ticket]);
        let miners = self.miners.each_ref().map(join);
        (validator, miners)
    }

    /// Waits until the run has ended on every node and checks the home of each. Returns the log of the
    /// validator.
    fn end(&self, validator: Running, miners: [Running; 2]) -> Value {
        let [one, two] = miners;
        let finished = |node: Running| {
            let line = node.until(|line| line["type"] == "finished");
            (node, hash(&line, "checkpoint"))
        };
        let ended = [validator, one, two].map(finished);
        let checkpoints: BTreeSet<String> = ended.iter().map(|(_, checkpoint)| checkpoint.clone()).collect();
        assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
        for (node, _) in ended {
            node.stop();
        }

        let log = self.validator.ok(["log"]);
        assert_eq!(log["windows"].as_array().unwrap().len() as u64, WINDOWS);
        for home in [&self.validator, &self.miners[0], &self.miners[1]] {
            assert_eq!(home.ok(["log"]), log);
            let entries = Journal::read(&home.path().join("runs").join(&self.run)).unwrap();
            let once: BTreeSet<&Vec<u8>> = entries.iter().collect();
            assert_eq!(once.len(), entries.len(), "an entry is in the journal twice");
            assert_eq!(home.ok(["verify"])["verdict"], "match");
        }
        let audit = self.validator.ok(["audit"]);
        assert_eq!(audit["verdict"], "match", "{audit}");
        assert_eq!((audit["windows"].as_u64(), audit["contributions"].as_u64()), (Some(WINDOWS), Some(2 * WINDOWS)));
        assert!(checkpoints.contains(log["windows"][2]["checkpoint"].as_str().unwrap()));
        log
    }
}

/// The event that a miner reports when it commits in a window.
fn commits(home: &Home, window: u64) -> impl Fn(&Value) -> bool {
    let key = hash(&home.ok(["key", "show"]), "key");
    move |line| line["type"] == "contributed" && line["window"] == window && line["miner"] == key.as_str()
}

#[test]
fn a_run_whose_nodes_are_killed_ends_like_one_whose_nodes_are_not() {
    let party = Party::new();
    let committed = commits(&party.miners[0], 0);
    let (validator, [one, two]) = party.start();
    // The miner has committed to a delta that exists only on its disk.
    one.until(committed);
    one.kill();
    // From now on no node is told the addresses of the others, and all listen on other ports than before.
    let one = Running::start(&party.miners[0], ["node", "--role", "miner"]);
    validator.until(|line| line["type"] == "closed" && line["window"] == 0);
    validator.kill();
    one.kill();
    let validator = Running::start(&party.validator, ["node", "--role", "validator"]);
    let one = Running::start(&party.miners[0], ["node", "--role", "miner"]);
    assert_eq!(validator.started["window"], 1);
    one.until(|line| line["type"] == "step" && line["window"] == 1 && line["step"].as_u64() > Some(2));
    one.kill();
    let one = Running::start(&party.miners[0], ["node", "--role", "miner"]);
    let disturbed = party.end(validator, [one, two]);

    let party = Party::new();
    let (validator, miners) = party.start();
    assert_eq!(party.end(validator, miners), disturbed);
}

/// Draws numbers below `end` from a seed.
fn draw(seed: u64, count: u64, what: &str, end: u64) -> u64 {
    let hash = Hash::of(format!("{seed} {count} {what}").as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % end
}

/// Kills a miner or the validator of a run at `kills` moments and starts it again. Each moment is drawn from
/// the seed, between the start and `longest` later. When a run is over, the next begins. Every run must end
/// like an undisturbed one.
fn survive(kills: u64, seed: u64, longest: Duration) {
    let party = Party::new();
    let (validator, miners) = party.start();
    let undisturbed = party.end(validator, miners);
    let mut done = 0;
    while done < kills {
        let party = Party::new();
        let (mut validator, [mut one, two]) = party.start();
        // From here on each node knows the others and finds them after they move.
        validator.until(|line| line["type"] == "contributed");
        let mut over = false;
        while done < kills && !over {
            let at = Duration::from_millis(draw(seed, done, "moment", longest.as_millis() as u64));
            let judges = draw(seed, done, "victim", 2) == 0;
            done += 1;
            let (victim, home, role) = if judges {
                (&mut validator, &party.validator, "validator")
            } else {
                (&mut one, &party.miners[0], "miner")
            };
            eprintln!("seed {seed}, kill {done} of {kills}: the {role} after {} ms", at.as_millis());
            // This is the moment of the kill. It does not wait for an event.
            std::thread::sleep(at);
            over = victim.has_said(|line| line["type"] == "finished");
            let next = || Running::begin(home, ["node", "--role", role]);
            victim.replace(next);
        }
        let disturbed = party.end(validator, [one, two]);
        assert_eq!(disturbed, undisturbed, "seed {seed}, after {done} kills");
    }
}

#[test]
fn kills_at_random_moments_change_nothing() {
    survive(6, 1, Duration::from_millis(900));
}

/// Run by hand: `.ci/long kills`, with the variables KILLS and SEED.
#[test]
#[ignore = "long: .ci/long kills"]
fn a_hundred_kills_at_random_moments_change_nothing() {
    let number = |name, default| switch(name).map_or(default, |text| text.parse().unwrap());
    survive(number("KILLS", 100), number("SEED", 1), Duration::from_millis(2500));
}

#[test]
fn a_node_that_stood_still_notices_and_nothing_is_lost() {
    let party = Party::new();
    let (validator, miners) = party.start();
    validator.signal("STOP");
    miners[1].until(commits(&party.miners[1], 0));
    // To the process, a closed laptop and a clock that jumps are the same.
    std::thread::sleep(Duration::from_secs(7));
    validator.signal("CONT");
    validator.until(|line| line["message"].as_str().is_some_and(|message| message.contains("was suspended")));
    party.end(validator, miners);
}

#[test]
fn a_torn_journal_loses_its_last_entry_only() {
    let home = Home::with_run("torn", &[]);
    home.window("0");
    let run = hash(&home.ok(["run", "show"]), "run");
    let dir = home.path().join("runs").join(run);
    let before = Journal::read(&dir).unwrap().len();
    home.ok(["train", "--window", "1"]);
    let path = dir.join("journal");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    // A reader sees the rest of the journal, and so does a node. The node has lost a commitment that no other
    // node ever received.
    assert_eq!(home.ok(["status"])["window"], 1);
    let sharer = Running::start(&home, ["share"]);
    assert_eq!(sharer.started["window"], 1);
    sharer.stop();
    assert_eq!(Journal::read(&dir).unwrap().len(), before);
    assert_eq!(home.ok(["train", "--window", "1"])["already"], false);
    assert_eq!(fs::read(&path).unwrap(), whole, "the same contribution again");
}
