//! Care for the blobs of a home: `store scrub`, `store stats`, `store gc`, and a node that heals and prunes by
//! itself.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use templar_home::access::Access;
use templar_manifest::Hash;

use super::home::{Home, hash};
use super::network::refused;
use super::network::running::Running;

/// The bytes of a blob of a home.
fn blob(home: &Home, id: &str) -> Vec<u8> {
    let access = Access::write(&home.path()).unwrap();
    access.blobs().read(&id.parse().unwrap(), u64::MAX).unwrap().into()
}

/// Flips a bit of a blob, in its file or in every place of the database where it stands.
pub(super) fn damage(home: &Home, id: &str) {
    let bytes = blob(home, id);
    let store = home.path().join("store");
    let file = store.join("data").join(format!("{id}.data"));
    let path = if file.exists() { file } else { store.join("blobs.db") };
    flip(&path, &bytes[bytes.len() / 2..][..bytes.len().min(64) / 2]);
}

fn flip(path: &Path, what: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> = (0..=bytes.len() - what.len()).filter(|&at| bytes[at..].starts_with(what)).collect();
    assert!(!places.is_empty(), "it is not in {}", path.display());
    places.into_iter().for_each(|at| bytes[at] ^= 0x10);
    fs::write(path, bytes).unwrap();
}

/// The first blob that the record of window 0 names in this role.
fn named(home: &Home, field: &str) -> String {
    let contribution = hash(&home.body("w0")["outcomes"][0], "contribution");
    let contents = home.ok(["show", &contribution])["contents"].clone();
    contents[field].as_str().unwrap_or_else(|| panic!("{field} in {contents}")).to_owned()
}

/// A home with one closed window, and a second home that has fetched it.
fn pair() -> (Home, Home, Running) {
    let origin = Home::with_run("scrub", &[]);
    origin.window("0");
    let sharer = Running::start(&origin, ["share"]);
    let home = Home::new("scrubbed");
    home.ok(["run", "join", &sharer.ticket()]);
    home.ok(["fetch", "w0"]);
    (origin, home, sharer)
}

fn shard(home: &Home) -> String {
    let dataset = home.ok(["dataset", "show", "shakespeare"]);
    dataset["manifest"]["training"][0]["blob"].as_str().unwrap().to_owned()
}

#[test]
fn a_scrub_finds_what_is_damaged_and_heals_it_from_a_peer() {
    let (origin, home, sharer) = pair();
    let whole = home.ok(["store", "scrub"]);
    assert_eq!((whole["verdict"].as_str(), whole["damaged"].as_array().map(Vec::len)), (Some("match"), Some(0)));
    // A shard lies in a file, a trace in the database.
    let mut damaged = [shard(&home), named(&home, "trace")];
    damaged.iter().for_each(|id| damage(&home, id));
    damaged.sort();
    let ids = |said: &Value| -> Vec<String> {
        said["damaged"].as_array().unwrap().iter().map(|damaged| hash(damaged, "blob")).collect()
    };

    let report = home.fails(5, ["store", "scrub", "--offline"]).last();
    assert_eq!((ids(&report), report["healed"].as_u64()), (damaged.to_vec(), Some(0)), "{report}");
    assert!(report["damaged"].to_string().contains("shard") && report["damaged"].to_string().contains("trace"));
    assert_eq!(home.fails(5, ["store", "scrub", "--offline"]).last(), report, "a report changes nothing");
    home.fails(5, ["audit"]);

    // No peer can help. The damage stays on record, and no good blob is lost.
    sharer.stop();
    let alone = home.fails(5, ["store", "scrub"]).last();
    assert_eq!((ids(&alone), alone["left"].as_u64()), (damaged.to_vec(), Some(2)), "{alone}");
    let again = home.fails(5, ["store", "scrub", "--offline"]).last();
    assert_eq!((ids(&again), again["blobs"].as_u64()), (damaged.to_vec(), Some(whole["blobs"].as_u64().unwrap() - 2)));
    assert_eq!(home.fails(5, ["verify"]).last()["faults"].as_array().unwrap().len(), 2);
    assert_eq!(home.ok(["store", "stats"])["torn"].as_array().unwrap().len(), 2);

    let sharer = Running::start(&origin, ["share"]);
    let healed = home.ok(["store", "scrub", "--from", &sharer.ticket()]);
    assert_eq!((ids(&healed), healed["healed"].as_u64()), (damaged.to_vec(), Some(2)), "{healed}");
    let after = home.ok(["store", "scrub", "--offline"]);
    assert_eq!(after, whole, "as if nothing had been");
    assert_eq!(home.ok(["verify"])["verdict"], "match");
    assert_eq!(home.ok(["audit"])["verdict"], "match");

    // One blob by its hash heals too.
    damage(&home, &damaged[0]);
    home.fails(5, ["store", "scrub", "--offline"]);
    home.ok(["fetch", &damaged[0], "--from", &sharer.ticket()]);
    assert_eq!(home.ok(["store", "scrub", "--offline"]), whole);
    sharer.stop();
}

#[test]
fn beside_a_node_a_scrub_reports_and_nothing_is_removed() {
    let (origin, home, sharer) = pair();
    sharer.stop();
    let alone =
        [home.ok(["store", "stats"]), home.ok(["store", "gc", "--dry-run"]), home.ok(["store", "scrub", "--offline"])];
    damage(&home, &shard(&home));
    let node = Running::start(&home, ["share"]);
    let beside = [home.ok(["store", "stats"]), home.ok(["store", "gc", "--dry-run"])];
    assert_eq!(beside[..], alone[..2]);
    let report = home.fails(5, ["store", "scrub", "--offline"]).last();
    assert_eq!(report["blobs"], alone[2]["blobs"]);
    assert_eq!(hash(&report["damaged"][0], "blob"), shard(&origin));
    let hint = |said: Value| said["hint"].as_str().unwrap().to_owned();
    assert!(hint(refused(&home, 11, ["store", "scrub"])).contains("--offline"));
    assert!(hint(refused(&home, 11, ["store", "gc"])).contains("--dry-run"));
    node.stop();
}

#[test]
fn what_gc_removes_nobody_misses() {
    let home = Home::with_run("gc", &["state_retention_windows=1"]);
    ["0", "1", "2"].iter().for_each(|window| home.window(window));
    let stats = home.ok(["store", "stats"]);
    let would = home.ok(["store", "gc", "--dry-run"]);
    assert_eq!(home.ok(["store", "stats"]), stats, "a dry run changes nothing");
    let sorts: Vec<&str> =
        would["sorts"].as_array().unwrap().iter().map(|sort| sort["sort"].as_str().unwrap()).collect();
    assert_eq!(sorts, ["checkpoint", "state"]);
    assert_eq!((&would["blobs"], &would["bytes"]), (&stats["may_go_blobs"], &stats["may_go_bytes"]));

    let gone = home.ok(["store", "gc"]);
    for field in ["sorts", "blobs", "bytes", "kept_blobs", "kept_bytes"] {
        assert_eq!(gone[field], would[field], "{field}");
    }
    assert!(gone["bytes"].as_u64().unwrap() > 300_000, "{gone}");
    let after = home.ok(["store", "stats"]);
    assert_eq!((&after["blobs"], &after["bytes"]), (&gone["kept_blobs"], &gone["kept_bytes"]));
    assert_eq!(home.ok(["store", "gc"])["blobs"], 0, "once is enough");

    // Old checkpoints are recomputed from the windows before them, and the run goes on.
    assert_eq!(home.ok(["audit"])["verdict"], "match");
    for window in ["0", "1", "2"] {
        assert_eq!(home.ok(["audit", "--window", window])["verdict"], "match", "{window}");
    }
    assert_eq!(home.ok(["verify"])["verdict"], "match");
    home.window("3");
    assert_eq!(home.ok(["audit", "--window", "3"])["verdict"], "match");
    // A blob that a person imported stays, although no run names it.
    let access = Access::write(&home.path()).unwrap();
    let own = access.put(vec![7; 50_000]).unwrap();
    drop(access);
    home.ok(["store", "gc"]);
    assert_eq!(blob(&home, &own.to_string()), [7; 50_000]);
    assert_eq!(own, Hash::of(&[7; 50_000]));
}

#[test]
fn what_was_trained_and_never_cut_may_go() {
    let home = Home::with_run("left out", &[]);
    home.window("0");
    let (delta, trace) = (blob(&home, &named(&home, "delta")), blob(&home, &named(&home, "trace")));
    let nothing = home.ok(["store", "gc", "--dry-run"])["blobs"].clone();
    // After magic, version, quantiser and run, a delta has the miner and then the window. A trace has the
    // window and then the miner.
    let with = |bytes: &[u8], at: usize, byte: u8| [&bytes[..at], &[byte], &bytes[at + 1..]].concat();
    let access = Access::write(&home.path()).unwrap();
    let put = |bytes: Vec<u8>| access.put(bytes).unwrap().to_string();
    let other = |byte: u8| byte ^ 1;
    let gone = [put(with(&delta, 42, other(delta[42]))), put(with(&trace, 48, other(trace[48])))];
    let stay = [
        // A delta of the open window, one of another run, and bytes that only look like a delta.
        put(with(&delta, 74, 1)),
        put(with(&trace, 40, 1)),
        put(with(&delta, 10, other(delta[10]))),
        put(with(&trace, 8, other(trace[8]))),
        put(delta[..100].to_vec()),
        put(with(&trace, 0, 0)),
    ];
    drop(access);
    assert_eq!(home.ok(["store", "gc", "--dry-run"])["blobs"].as_u64(), nothing.as_u64().map(|blobs| blobs + 2));
    home.ok(["store", "gc"]);
    let access = Access::write(&home.path()).unwrap();
    let here = |id: &String| access.blobs().contains(&id.parse().unwrap());
    assert!(!gone.iter().any(here) && stay.iter().all(here));
    drop(access);
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}

#[test]
fn gc_removes_nothing_while_it_cannot_tell_what_is_needed() {
    let home = Home::with_run("unsure", &["state_retention_windows=0"]);
    ["0", "1"].iter().for_each(|window| home.window(window));
    let run = hash(&home.ok(["run", "show"]), "run");
    damage(&home, &run);
    let said = refused(&home, 4, ["store", "gc"]);
    assert!(said["error"].as_str().unwrap().contains("cannot be read"), "{said}");
    let report = home.fails(5, ["store", "scrub", "--offline"]).last();
    assert_eq!(hash(&report["damaged"][0], "blob"), run);
}

/// The only contribution to a window.
fn contribution_to(home: &Home, window: &str) -> Value {
    home.ok(["show", &hash(&home.body(window)["outcomes"][0], "contribution")])["contents"].take()
}

/// The blobs of the state that a window's contribution left behind.
fn state_left(home: &Home, window: &str) -> BTreeSet<Hash> {
    let state = home.ok(["show", &hash(&contribution_to(home, window), "state_out")]);
    let tensors = state["contents"]["tensors"].as_array().unwrap();
    let blobs = tensors.iter().map(|tensor| hash(tensor, "blob")).chain([hash(&state, "id")]);
    blobs.map(|blob| blob.parse().unwrap()).collect()
}

fn lose(home: &Home, blobs: BTreeSet<Hash>) {
    let access = Access::write(&home.path()).unwrap();
    access.runtime().block_on(access.store().unwrap().remove(&blobs)).unwrap();
}

/// Without the trace of its contribution, a state cannot be derived again.
#[test]
fn who_has_lost_its_state_for_good_begins_anew_when_told_to() {
    let home = Home::with_run("anew", &[]);
    home.window("0");
    let zero = hash(&contribution_to(&home, "w0"), "state_in");
    let trace = hash(&contribution_to(&home, "w0"), "trace").parse().unwrap();
    lose(&home, state_left(&home, "w0").into_iter().chain([trace]).collect());
    let error = refused(&home, 5, ["train", "--window", "1"]);
    assert!(error["hint"].as_str().unwrap().contains("`--anew`"), "{error}");
    let trained = home.ok(["train", "--window", "1", "--anew"]);
    for step in [&["close", "--commits"][..], &["score"], &["close"]] {
        home.ok(step.iter().chain(&["--window", "1"]));
    }
    let contribution = contribution_to(&home, "w1");
    assert_eq!((&contribution["parent"], hash(&contribution, "state_in")), (&Value::Null, zero));
    assert_eq!(trained["state_out"], contribution["state_out"]);
    // Training goes on from that state.
    home.ok(["train", "--window", "2"]);
}

#[test]
fn a_state_that_the_disk_lost_is_found_again() {
    let (home, twin) = (Home::with_run("lost", &[]), Home::with_run("lost", &[]));
    for window in ["0", "1"] {
        home.window(window);
        twin.window(window);
    }
    // All states go, also those with which a replay could begin. Only the zero state stays, with which
    // everybody joins.
    lose(&home, ["w0", "w1"].iter().flat_map(|window| state_left(&twin, window)).collect());
    let said = home.fails(0, ["train", "--window", "2"]);
    assert!(said.err.contains("replaying 2 contributions"), "{said:?}");
    assert_eq!(hash(&said.last(), "contribution"), hash(&twin.ok(["train", "--window", "2"]), "contribution"));
}

/// Settings with deadlines that never pass.
const PATIENT: [&str; 5] = [
    "windows=4",
    "state_retention_windows=1",
    "deadlines.commit_ms=600000",
    "deadlines.reveal_ms=600000",
    "deadlines.judge_ms=600000",
];

/// The first bytes of a trace.
fn late_trace(run: &str, window: u64) -> Vec<u8> {
    let run: Hash = run.parse().unwrap();
    [&b"tplrtrc0"[..], run.as_bytes(), &window.to_le_bytes(), &[5; 32], &[0; 8]].concat()
}

#[test]
fn nodes_heal_what_they_read_and_prune_what_nobody_needs() {
    let (validator, miner) = (Home::new("validator"), Home::new("miner"));
    validator.ok(["dataset", "import", "--bundled"]);
    validator.run_new(&["--miner", &hash(&miner.ok(["key", "show"]), "key")], &PATIENT);
    let first = Running::start(&validator, ["share"]);
    miner.ok(["run", "join", &first.ticket()]);
    first.stop();
    damage(&miner, &shard(&miner));
    // Traces of a miner that came too late: one of the first window, and one of a window that never closes.
    let run = hash(&validator.ok(["run", "show"]), "run");
    let access = Access::write(&validator.path()).unwrap();
    let late = [0, 99].map(|window| access.put(late_trace(&run, window)).unwrap());
    drop(access);

    let judge = Running::start(&validator, ["node", "--role", "validator", "--prune"]);
    let trainer = Running::start(&miner, ["node", "--role", "miner", "--prune", "--join", &judge.ticket()]);
    let warning = trainer.until(|line| {
        line["message"].as_str().is_some_and(|message| message.contains("corrupt on the disk; it is whole again"))
    });
    assert!(warning["message"].as_str().unwrap().contains(&shard(&validator)), "{warning}");
    for node in [&trainer, &judge] {
        // The first removals happen while the last window is open.
        let (pruned, finished) = (Cell::new(0), Cell::new(false));
        node.until(|line| {
            pruned.set(pruned.get() + line["bytes"].as_u64().filter(|_| line["type"] == "pruned").unwrap_or(0));
            finished.set(finished.get() || line["type"] == "finished");
            finished.get() && pruned.get() > 0
        });
    }
    trainer.stop();
    judge.stop();
    for home in [&validator, &miner] {
        assert_eq!(home.ok(["store", "scrub", "--offline"])["verdict"], "match");
    }
    let access = Access::write(&validator.path()).unwrap();
    assert_eq!(late.map(|id| access.blobs().contains(&id)), [false, true]);
    drop(access);
    let audit = validator.ok(["audit"]);
    assert_eq!((audit["verdict"].as_str(), audit["windows"].as_u64()), (Some("match"), Some(4)));
}
