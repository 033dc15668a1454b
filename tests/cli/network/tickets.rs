//! One blob is sent from home to home, and everything that can be wrong with a ticket, a hash or an address.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use templar_home::access::Access;
use templar_manifest::Hash;

use super::running::Running;
use super::{Home, refused};
use crate::cli::home::hash;

/// An address of no machine (RFC 5737).
const NOT_OURS: &str = "203.0.113.1:0";

/// The hash of a blob that nobody has.
const NOBODYS: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// A home with a run, and a shard of its dataset.
fn home_with_shard(seed: &str) -> (Home, String) {
    let home = Home::with_run(seed, &[]);
    let dataset = home.ok(["dataset", "show", "shakespeare"]);
    let shard = hash(&dataset["manifest"]["training"][0], "blob");
    (home, shard)
}

#[test]
fn a_blob_travels_and_is_what_its_name_says() {
    let (home, shard) = home_with_shard("giver");
    let sharer = Running::start(&home, ["share", &shard[..8]]);
    let taker = Home::new("taker");
    let file = taker.path().with_file_name("shard");
    // A blob's ticket needs no run.
    let fetched = taker.ok(["fetch", &sharer.blob_ticket(), "--out", file.to_str().unwrap()]);
    assert_eq!(fetched["blob"], shard.as_str());
    let bytes = fs::read(&file).unwrap();
    assert_eq!(Hash::of(&bytes).to_string(), shard);
    assert_eq!(fetched["bytes"].as_u64(), Some(bytes.len() as u64));
    let again = taker.ok(["fetch", &sharer.blob_ticket()]);
    assert_eq!((again["received"].as_u64(), &again["blob"]), (Some(0), &fetched["blob"]), "nothing is fetched twice");

    taker.ok(["run", "join", &sharer.ticket()]);
    // A file that a person has is never overwritten, unless that is asked for.
    fs::write(&file, "mine").unwrap();
    for what in [&shard[..6], &sharer.blob_ticket()] {
        let error = refused(&taker, 1, ["fetch", what, "--out", file.to_str().unwrap()]);
        assert!(error["error"].as_str().unwrap().contains("exists already"), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("--force"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let visit = taker.ok(["fetch", &shard[..6], "--out", file.to_str().unwrap(), "--force"]);
    assert_eq!(visit["complete"], true);
    assert_eq!(fs::read(&file).unwrap(), bytes);

    for nothing in [NOBODYS, "w7"] {
        let error = refused(&taker, 3, ["fetch", nothing, "--patience", "1"]);
        assert!(error["error"].as_str().unwrap().contains(nothing.trim_start_matches('w')), "{error}");
    }
    let gone = sharer.blob_ticket();
    sharer.stop();
    refused(&taker, 3, ["share", NOBODYS]);
    let home = Home::new("late");
    refused(&home, 3, ["fetch", &gone]);
}

#[test]
fn a_home_without_a_run_shares_the_blobs_of_a_dataset() {
    let home = Home::new("giver without a run");
    home.ok(["dataset", "import", "--bundled"]);
    let dataset = home.ok(["dataset", "show", "shakespeare"]);
    let shards = ["training", "validation"].map(|part| hash(&dataset["manifest"][part][0], "blob"));
    let taker = Home::new("taker without a run");
    let sharer = Running::start(&home, ["share", &shards[0][..8]]);
    let fetched = taker.ok(["fetch", &sharer.blob_ticket()]);
    assert_eq!(fetched["blob"], shards[0].as_str());
    sharer.stop();
    let sharer = Running::start(&home, ["share", &shards[0], &shards[1]]);
    let fetched = taker.ok(["fetch", &sharer.blob_ticket()]);
    assert_eq!(fetched["files"].as_array().map(Vec::len), Some(2), "{fetched}");
    sharer.stop();
    refused(&home, 3, ["share", NOBODYS]);
    refused(&home, 3, ["share"]);
}

#[test]
fn several_blobs_travel_as_files_named_by_their_hashes() {
    let (home, shard) = home_with_shard("giver of files");
    let dataset = home.ok(["dataset", "show", "shakespeare"]);
    let other = hash(&dataset["manifest"]["validation"][0], "blob");
    let sharer = Running::start(&home, ["share", &shard, &other[..8], &shard[..8]]);
    let taker = Home::new("taker of files");
    let folder = taker.path().with_file_name("files");
    let out = folder.to_str().unwrap();
    let fetched = taker.ok(["fetch", &sharer.blob_ticket(), "--out", out]);
    let files = fetched["files"].as_array().unwrap();
    assert_eq!(files.len(), 2, "each once: {fetched}");
    for (file, id) in files.iter().zip([&shard, &other]) {
        assert_eq!((file["name"].as_str(), file["blob"].as_str()), (Some(id.as_str()), Some(id.as_str())));
        assert_eq!(Hash::of(&fs::read(folder.join(id)).unwrap()).to_string(), **id);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    // The files that a person has in a folder are never overwritten.
    fs::write(folder.join(&other), "mine").unwrap();
    let error = refused(&taker, 2, ["fetch", &sharer.blob_ticket(), "--out", out]);
    assert!(error["error"].as_str().unwrap().contains("not empty"), "{error}");
    assert_eq!(fs::read(folder.join(&other)).unwrap(), b"mine");
    sharer.stop();
    // A single blob becomes a collection if the user asks for that, and otherwise stays a blob.
    let sharer = Running::start(&home, ["share", &other, "--collection"]);
    let fetched = taker.ok(["fetch", &sharer.blob_ticket()]);
    assert_eq!(
        (fetched["files"].as_array().map(Vec::len), fetched["received"].as_u64().unwrap() < 300),
        (Some(1), true)
    );
    sharer.stop();
    home.fails(2, ["share", "--collection"]);
}

#[test]
fn a_blob_that_is_here_needs_no_peer_and_no_run() {
    let home = Home::new("has it");
    home.ok(["dataset", "import", "--bundled"]);
    let dataset = home.ok(["dataset", "show", "shakespeare"]);
    let (id, shard) = (hash(&dataset, "dataset"), hash(&dataset["manifest"]["training"][0], "blob"));
    for (name, what) in [("dataset", &id), ("shard", &shard)] {
        let out = home.path().with_file_name(name);
        let fetched = home.ok(["fetch", &what[..20], "--out", out.to_str().unwrap()]);
        assert_eq!((&fetched["blob"], &fetched["received"]), (&Value::from(what.as_str()), &Value::from(0)));
        assert_eq!(Hash::of(&fs::read(&out).unwrap()).to_string(), **what);
    }
    // What is not here needs a peer. A window, and everything else that is not one blob, cannot be written to a file.
    let error = refused(&home, 3, ["fetch", NOBODYS]);
    assert!(error["hint"].as_str().unwrap().contains("--from"), "{error}");
    refused(&home, 2, ["fetch", "w0", "--out", "nowhere"]);
    // It may come from a peer without a run, and goes out while a node runs.
    let giver = home_with_shard("gives it").0;
    let sharer = Running::start(&giver, ["share"]);
    let taker = Home::new("has no run");
    let peer =
        format!("{}@{}", hash(&giver.ok(["key", "show"]), "key"), sharer.started["addresses"][0].as_str().unwrap());
    assert_eq!(taker.ok(["fetch", &shard, "--from", &peer])["complete"], true);
    assert_eq!(taker.ok(["fetch", &shard])["received"], 0);
    let out = giver.path().with_file_name("beside");
    giver.ok(["fetch", &shard, "--out", out.to_str().unwrap()]);
    assert_eq!(Hash::of(&fs::read(&out).unwrap()).to_string(), shard);
    sharer.stop();
}

#[test]
fn a_transfer_that_was_interrupted_goes_on() {
    let home = Home::with_run("gives a long one", &[]);
    // An odd number of groups: the last one is high up in the hash tree.
    let long: Vec<u8> = (0..700_001_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let shard = {
        let access = Access::write(&home.path()).unwrap();
        let id = access.put(long).unwrap();
        access.sync(&[id]).unwrap();
        id.to_string()
    };
    let sharer = Running::start(&home, ["share", &shard, "--limit", "upload=600kB"]);
    let taker = Home::new("takes a long one");
    for signal in ["KILL", "INT"] {
        let part = taker.path().join("store/data").join(format!("{shard}.data"));
        let mut child = taker.command(["fetch", &sharer.blob_ticket()]).spawn().unwrap();
        // More must come than the proof of the length, which comes first.
        let blocks = |path: &Path| fs::metadata(path).map_or(0, |file| file.blocks());
        let before = blocks(&part);
        while blocks(&part) < before + 300 {
            assert!(child.try_wait().unwrap().is_none(), "it came whole");
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), (signal == "INT").then_some(130));
    }
    let fetched = taker.ok(["fetch", &sharer.blob_ticket()]);
    let (size, received) = (fetched["bytes"].as_u64().unwrap(), fetched["received"].as_u64().unwrap());
    assert!(size > 600_000 && received < size - 200_000, "{received} of {size} bytes came again");
    sharer.stop();
}

#[test]
fn what_peers_may_use_is_said_in_three_places() {
    let (home, shard) = home_with_shard("bounded");
    // The flag is stronger than the variable, and the variable than the file.
    fs::write(home.path().join("config.toml"), "[network.limits]\nupload = \"1GB\"\nconnections = 1\n").unwrap();
    let sharer = Running::start(&home, ["share", &shard, "--limit", "upload=1GB", "--limit", "upload=1MB"]);
    let taker = Home::new("patient");
    #[allow(clippy::disallowed_methods, reason = "a bound of bytes a second is one of time")]
    let begun = Instant::now();
    let fetched = taker.ok(["fetch", &sharer.blob_ticket()]);
    let (size, seconds) = (fetched["received"].as_u64().unwrap(), begun.elapsed().as_secs_f64());
    assert!(size > 500_000 && seconds > size as f64 / 1e6 - 0.1, "{size} bytes in {seconds} s");
    sharer.stop();

    let said = |error: &Value, what: &str| assert!(error["error"].to_string().contains(what), "{what}: {error}");
    for text in ["upload", "upload=0", "uploads=1", "memory=1MiB"] {
        let output = home.command(["share", "--limit", text]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let output = home.command(["share"]).env("TEMPLAR_LIMITS", text).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
    }
    fs::write(home.path().join("config.toml"), "[network.limits]\nupload = 0\n").unwrap();
    said(&refused(&home, 1, ["share"]), "config.toml");
}

#[test]
fn a_text_that_is_no_ticket_is_said_to_be_none() {
    let (home, shard) = home_with_shard("tickets");
    let sharer = Running::start(&home, ["share", &shard]);
    let (run, blob) = (sharer.ticket(), sharer.blob_ticket());
    let other = Home::with_run("other", &[]);
    // `1` is no digit of base32.
    let damaged = |ticket: &str| {
        let (begin, end) = ticket.split_at(ticket.len() - 20);
        [format!("{begin}1{}", &end[1..]), begin.to_owned(), ticket[..20].to_owned(), format!("{ticket}aa")]
    };
    for text in damaged(&run).into_iter().chain(damaged(&blob)) {
        refused(&other, 2, ["fetch", &text]);
        refused(&other, 2, ["run", "join", &text]);
        refused(&other, 2, ["node", "--role", "seeder", "--join", &text]);
    }
    for text in ["", "hello", "templar", "blob"] {
        refused(&other, 2, ["fetch", text]);
        refused(&other, 2, ["run", "join", text]);
        refused(&other, 2, ["fetch", "w0", "--from", text]);
    }
    refused(&other, 2, ["run", "join", &blob]);
    refused(&other, 2, ["fetch", "w0", "--from", &blob]);

    // The tickets are good, but the address to listen at is not of this machine.
    refused(&other, 1, ["fetch", &blob, "--bind", NOT_OURS]);
    refused(&other, 1, ["run", "join", &run, "--bind", NOT_OURS]);
    refused(&other, 1, ["fetch", "w0", "--from", &run, "--bind", NOT_OURS]);
    refused(&other, 1, ["share", "--bind", NOT_OURS]);
    refused(&other, 1, ["node", "--role", "seeder", "--bind", NOT_OURS]);
    sharer.stop();
    assert_eq!(other.ok(["run", "list"])["runs"].as_array().unwrap().len(), 1, "nothing was joined");
    refused(&other, 3, ["fetch", "w0"]);
    refused(&other, 3, ["fetch", NOBODYS]);
}
