//! A short demo: real processes, real endpoints and real training of a tiny model, with a frozen end, and what it
//! tells a person.
//!
//! The long form with its documented hash is `templar demo` itself; `.ci/long` runs it in several ways.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::verifier;

/// The checkpoint in which every short demo ends, on every instruction set. It changes with the arithmetic, the
/// model, the data or the rules.
const SHORT_CHECKPOINT: &str = "a73af38005a012667b96d141f2cf2c6c2be65419d2013fe199e8ff01d4043a09";

/// A demo of a tiny model with three miners, not yet started.
fn tiny_demo(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
    command
        .arg("--home")
        .arg(home)
        .args(["demo", "--size", "tiny", "--miners", "3"])
        .args(["--set", "inner.steps=3", "--set", "model.sequence_length=32", "--set", "gauntlet.held_out_pages=2"])
        .stdin(Stdio::null());
    for name in ["TEMPLAR_HOME", "TEMPLAR_ISA", "COLUMNS"] {
        command.env_remove(name);
    }
    command
}

fn short_demo(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    demo_in(dir.path(), arguments, environment)
}

/// A short demo whose homes lie in `demo` of this folder.
fn demo_in(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let home = dir.join("demo");
    let output = tiny_demo(&home)
        .args(["--json", "--windows", "2"])
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert_eq!(home.exists(), !arguments.contains(&"--clean"), "the homes stay unless they are to be removed");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), lines)
}

fn check(said: &(i32, Vec<Value>)) {
    let (code, lines) = said;
    let result = lines.last().unwrap();
    assert_eq!(*code, 0, "{result}");
    assert_eq!(result["type"], "result");
    assert_eq!(result["audit"], "match", "{result}");
    assert_eq!(result["windows"], 2);
    assert!(result["loss_last"].as_f64().unwrap() < result["loss_first"].as_f64().unwrap(), "{result}");
    assert!(result["minted"].as_f64().unwrap() > 0.0);
    let pay = &result["pay"];
    let sum = |field: &str| pay[field].as_object().unwrap().values().map(|paid| paid.as_u64().unwrap()).sum::<u64>();
    let minted = sum("miners") + sum("validators") + pay["treasury_micros"].as_u64().unwrap();
    assert!((minted as f64 / 1e6 - result["minted"].as_f64().unwrap()).abs() < 1e-6, "{result}");
    assert!(minted <= pay["emission_micros"].as_u64().unwrap());
    assert!(result["disk_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(result["home"].is_string());
    let rejected = result["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 2, "the cheat, in each window");
    for rejected in rejected {
        assert_eq!(rejected["reason"], "replay differs from step 1, first in model.embed_tokens.weight");
    }
    assert_eq!(result["checkpoint"], SHORT_CHECKPOINT);
}

#[test]
fn a_short_demo_ends_in_its_hash_without_fused_multiply_add() {
    let dir = tempfile::tempdir().unwrap();
    let said = demo_in(dir.path(), &[], &[("TEMPLAR_ISA", "soft")]);
    check(&said);
    verifier::agrees_on_a_demo(&dir.path().join("demo"), said.1.last().unwrap());
}

#[test]
fn random_delays_and_start_orders_change_nothing() {
    check(&short_demo(&["--delays", "100:7"], &[("RAYON_NUM_THREADS", "1")]));
}

/// Miners and validators on a device of OpenCL and on the CPU check each other's work, and so does the audit.
#[test]
fn nodes_on_different_devices_end_in_the_same_hash() {
    let listed = Command::new(env!("CARGO_BIN_EXE_templar")).args(["--json", "device", "list"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    if listed["devices"].as_array().unwrap().is_empty() {
        return eprintln!("skipped: no device of OpenCL is here, or the program was built without the feature opencl");
    }
    let cache = tempfile::tempdir().unwrap();
    let cache = [("XDG_CACHE_HOME", cache.path().to_str().unwrap())];
    // The kernels are compiled once for all nodes: that takes pocl minutes, and a device is proven with it.
    let tested = Command::new(env!("CARGO_BIN_EXE_templar"))
        .args(["device", "test", "opencl:0", "--time-limit", "1200"])
        .envs(cache)
        .output()
        .unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
    check(&short_demo(&["--device", "opencl:0", "--device", "cpu"], &cache));
    check(&short_demo(&["--device", "opencl:0,cpu"], &cache));
}

#[test]
fn a_deadline_that_is_hit_ends_the_demo_and_gives_no_hash() {
    let (code, lines) = short_demo(&["--set", "deadlines.commit_ms=1", "--clean"], &[]);
    assert_eq!(code, 5);
    assert!(lines.iter().all(|line| line["type"] != "result"));
}

#[test]
fn the_story_fits_its_columns_and_its_last_commands_work_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("it's a demo");
    let said = tiny_demo(&home).args(["--windows", "1"]).env("COLUMNS", "40").output().unwrap();
    let (out, err) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(0), "{out}\n{err}");
    assert_eq!(err, "", "without a terminal there is no bar");

    let (story, advice) = out.split_once("Try next:\n").unwrap();
    for line in story.lines().filter(|line| !line.starts_with("    rm -r ") && !line.ends_with(" explore")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(line.chars().count() <= 40 || words.len() <= 2, "{line:?} is wide and has more than a long word");
    }
    let story = story.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in
        ["It takes about", "miner-3 cheats", "One window:", "Caught: miner-3, rejected in 1 window", "The homes take"]
    {
        assert!(story.contains(sentence), "{sentence:?} is not in {story}");
    }

    assert!(story.contains("To remove them: rm -r "), "{story}");
    let commands: Vec<&str> = advice.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert_eq!(commands.len(), 3, "{advice}");
    for command in commands {
        let said = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert_eq!(said.status.code(), Some(0), "{command}\n{out}\n{err}");
        assert!(!out.is_empty(), "{command}");
    }
}
