//! Interrupted or killed training continues where it was and ends in the same contribution.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::home::{Home, Said, hash};

/// Settings for training that is long enough to be killed in the middle.
const LONG: [&str; 1] = ["inner.steps=400"];

/// Starts training and reads its lines until it has taken `step` inner steps.
fn train_until(home: &Home, step: u64) -> Child {
    let mut command = home.command(["train", "--window", "0", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let reached = reached.map(|line| line["step"].as_u64()).find(|at| at.is_none_or(|at| at >= step));
    assert!(matches!(reached, Some(Some(_))), "training ended before step {step}");
    // The pipe must stay open, because the process still writes its log to it.
    std::mem::forget(lines);
    child
}

/// The steps that a training took, and its contribution.
fn finish(home: &Home) -> (u64, String) {
    let said = home.fails(0, ["train", "--window", "0"]);
    (said.lines()[0]["step"].as_u64().unwrap(), hash(&said.last(), "contribution"))
}

#[test]
fn killed_and_interrupted_training_ends_in_the_same_contribution() {
    let (killed, twin) = (Home::with_run("resume", &LONG), Home::with_run("resume", &LONG));
    let mut child = train_until(&killed, 8);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());

    let child = train_until(&killed, 50);
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{said:?}");
    assert!(said.err.contains("goes on from step"), "{said:?}");

    let (from, contribution) = finish(&killed);
    assert!(from > 50, "it began again at step {from}");
    let (from, expected) = finish(&twin);
    assert_eq!(from, 1);
    assert_eq!(contribution, expected);
}

#[test]
fn threads_instruction_sets_and_recomputation_give_the_same_contribution() {
    let contribution = |environment: &[(&str, &str)]| {
        let home = Home::with_run("threads", &[]);
        let mut command = home.command(["train", "--window", "0", "--json"]);
        let said = Said::of(command.envs(environment.iter().copied()).output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        hash(&said.last(), "contribution")
    };
    let expected = contribution(&[]);
    assert_eq!(contribution(&[("RAYON_NUM_THREADS", "1")]), expected);
    assert_eq!(contribution(&[("TEMPLAR_ISA", "soft"), ("RAYON_NUM_THREADS", "3")]), expected);
    assert_eq!(contribution(&[("TEMPLAR_RECOMPUTE", "1")]), expected);
    let home = Home::absent();
    let said = Said::of(home.command(["init"]).env("TEMPLAR_ISA", "sse9").output().unwrap());
    assert_eq!(said.code, 2, "{said:?}");
}
