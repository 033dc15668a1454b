//! A home with changed bytes. `verify` and the audit end with exit code 5, since bytes that are damaged or missing here
//! are no mismatch of others.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::home::{Home, hash};

/// The files of the store that hold blobs above 16 KiB, each with the hash that names it.
fn blob_files(home: &Home) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![home.path().join("store")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "data") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_bit_of_any_blob_file_is_found() {
    let home = Home::with_run("bits", &[]);
    home.window("0");
    let files = blob_files(&home);
    assert!(files.len() >= 5, "{files:?}");
    for (index, file) in files.iter().enumerate() {
        flip(file, 7919 * (index + 1));
        let name = file.file_stem().unwrap().to_str().unwrap();
        let audit = home.fails(5, ["audit", "--all"]);
        assert_eq!(audit.last()["verdict"], "unavailable", "{audit:?}");
        assert!(audit.out.contains(name), "{name} is not named: {audit:?}");
        let verify = home.fails(5, ["verify"]);
        assert!(verify.last()["faults"][0].as_str().unwrap().contains(name), "{verify:?}");
        flip(file, 7919 * (index + 1));
    }
    assert_eq!(home.ok(["audit"])["verdict"], "match");
    assert_eq!(home.ok(["verify"])["verdict"], "match");
}

#[test]
fn a_changed_journal_is_found() {
    let home = Home::with_run("journal", &[]);
    home.window("0");
    let run = hash(&home.ok(["run", "show"]), "run");
    let path = home.path().join("runs").join(run).join("journal");
    let whole = fs::read(&path).unwrap();
    flip(&path, 100);
    home.fails(5, ["audit"]);
    home.fails(5, ["verify"]);
    home.fails(4, ["status"]);
    // Without its first record the numbers of the others show the gap, so this is damage here and nobody's fault.
    let length = 46 + u32::from_le_bytes(whole[57..61].try_into().unwrap()) as usize;
    fs::write(&path, [&whole[..16], &whole[16 + length..]].concat()).unwrap();
    home.fails(5, ["audit"]);
    home.fails(5, ["verify"]);
}

#[test]
fn a_start_that_genesis_does_not_give_is_found() {
    let home = Home::with_run("start", &[]);
    let shown = home.ok(["run", "show"]);
    let path = home.path().join("runs").join(hash(&shown, "run")).join("start.json");
    let mut start: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    start["checkpoint"] = Value::String("0".repeat(64));
    fs::write(&path, start.to_string()).unwrap();
    let audit = home.fails(4, ["audit"]);
    assert!(audit.last()["what"].as_str().unwrap().contains("first checkpoint"), "{audit:?}");
}

#[test]
fn what_is_missing_is_unavailable() {
    let home = Home::with_run("missing", &[]);
    home.window("0");
    home.window("1");
    // The record names a delta. Without its bytes the audit cannot recompute the window, and claims nothing.
    let other = Home::new("missing");
    let runs = home.path().join("runs");
    other.ok(["dataset", "import", "--bundled"]);
    other.run_new(&[], &[]);
    let run = hash(&home.ok(["run", "show"]), "run");
    fs::copy(runs.join(&run).join("journal"), other.path().join("runs").join(&run).join("journal")).unwrap();
    let audit = other.fails(5, ["audit"]);
    assert_eq!(audit.last()["verdict"], "unavailable");
    assert!(audit.last()["what"].as_str().unwrap().contains("missing") || audit.out.contains("delta"), "{audit:?}");
    let train = other.fails(5, ["train", "--window", "1"]);
    assert!(train.err.contains("templar fetch w1"), "{train:?}");
    assert!(other.ok(["verify"])["missing"].as_u64().unwrap() > 0);
}
