//! A short demo: real processes, real endpoints and real training of a tiny model, with a frozen end.
//!
//! The long form with its documented hash is `templar demo` itself; `.ci/long` runs it in several ways.

use std::process::{Command, Stdio};

use serde_json::Value;

/// The checkpoint in which every short demo ends, on every instruction set. It changes with the arithmetic, the
/// model, the data or the rules.
const SHORT_CHECKPOINT: &str = "aeb465aaf8ba4a483eaf5d5925d5ca39b4ce443be62d9e64139ff4047bc9141b";

fn short_demo(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_templar"))
        .arg("--home")
        .arg(dir.path().join("demo"))
        .args(["--json", "demo", "--size", "tiny", "--windows", "2", "--miners", "3"])
        .args(["--set", "inner.steps=3", "--set", "model.sequence_length=32", "--set", "gauntlet.held_out_pages=2"])
        .args(arguments)
        .env_remove("TEMPLAR_HOME")
        .env_remove("TEMPLAR_ISA")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
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
    check(&short_demo(&[], &[("TEMPLAR_ISA", "soft")]));
}

#[test]
fn random_delays_and_start_orders_change_nothing() {
    check(&short_demo(&["--delays", "100:7"], &[("RAYON_NUM_THREADS", "1")]));
}

#[test]
fn a_deadline_that_is_hit_ends_the_demo_and_gives_no_hash() {
    let (code, lines) = short_demo(&["--set", "deadlines.commit_ms=1"], &[]);
    assert_eq!(code, 5);
    assert!(lines.iter().all(|line| line["type"] != "result"));
}
