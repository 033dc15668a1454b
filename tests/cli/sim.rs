//! The simulator as people run it: its result, its exit code where an invariant does not hold, and the way to see it again.

use serde_json::Value;

use super::home::{Said, program};

fn sim(arguments: &[&str]) -> Said {
    Said::of(program().arg("sim").args(arguments).output().unwrap())
}

fn last(said: &Said) -> Value {
    serde_json::from_str(said.out.lines().last().unwrap_or_else(|| panic!("{said:?}"))).unwrap()
}

#[test]
fn a_seed_ends_in_the_same_state_and_another_in_another() {
    let arguments = |seed| ["--json", "--miners", "4", "--validators", "4", "--windows", "3", "--seed", seed];
    let state = |seed| {
        let said = sim(&arguments(seed));
        assert_eq!(said.code, 0, "{said:?}");
        let result = last(&said);
        assert_eq!((&result["type"], &result["windows"]), (&"result".into(), &3.into()));
        assert!(result["checked"].as_u64().unwrap() > 100);
        result["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("5"), state("5"));
    assert_ne!(state("5"), state("6"));
}

#[test]
fn what_does_not_hold_is_said_with_the_command_that_shows_it() {
    let arguments = ["--json", "--miners", "2", "--validators", "4", "--windows", "9", "--adversary", "silent:1"];
    let said = sim(&arguments);
    assert_eq!(said.code, 4, "{said:?}");
    let error: Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
    assert!(error["error"].as_str().unwrap().contains("a window closes in time"), "{error}");
    let hint = error["hint"].as_str().unwrap().to_owned();
    let again: Vec<&str> = hint.strip_prefix("templar sim ").unwrap().split(' ').chain(["--json"]).collect();
    assert_eq!(sim(&again).err, said.err);
}

#[test]
fn arguments_that_make_no_run_are_refused() {
    assert_eq!(sim(&["--adversary", "nobody:1"]).code, 2);
    assert_eq!(sim(&["--adversary", "favour:3", "--validators", "4"]).code, 2);
    assert_eq!(sim(&["--miners", "0"]).code, 2);
    assert_eq!(sim(&["--faults", "some"]).code, 2);
}
