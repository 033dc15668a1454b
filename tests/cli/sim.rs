//! The simulator as people run it: its result, and the arguments that it refuses.

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
fn arguments_that_make_no_run_are_refused() {
    assert_eq!(sim(&["--adversary", "nobody:1"]).code, 2);
    assert_eq!(sim(&["--adversary", "favour:3", "--validators", "4"]).code, 2);
    assert_eq!(sim(&["--miners", "0"]).code, 2);
    assert_eq!(sim(&["--faults", "some"]).code, 2);
}
