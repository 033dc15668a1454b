//! A validator's hash chain serves one run: a second run with a chain that a home has seen is refused there.

use super::running::Running;
use super::{Home, refused};
use crate::cli::home::hash;

#[test]
fn a_run_with_a_chain_that_was_seen_is_neither_joined_nor_made() {
    let (validator, follower) = (Home::absent(), Home::new("follower"));
    validator.ok(["init"]);
    validator.ok(["dataset", "import", "--bundled"]);
    let first = validator.run_new(&[], &[]);
    let (key, own) = (hash(&validator.ok(["key", "show"]), "key"), &first["genesis"]["validators"][0]);
    assert_eq!(own["key"], key.as_str());
    let anchor = own["chain_anchor"].as_str().unwrap();
    // Each chain begins with fresh random bytes, also for the same name.
    let anchors = [0, 1].map(|_| hash(&validator.ok(["key", "show", "--anchor", "test"]), "anchor"));
    assert!(anchors[0] != anchors[1] && anchors[0] != anchor);
    assert_eq!(std::fs::read_dir(validator.path().join("chains")).unwrap().count(), 3);

    let again = format!("{key}:1:{anchor}");
    let second = ["run", "new", "second", "--dataset", "shakespeare", "--size", "tiny", "--validator", &again];
    let said = refused(&validator, 1, second);
    assert!(said["error"].as_str().unwrap().contains("has the hash chain that it had in run"), "{said}");

    // Another home makes the second run, and does not know better.
    let sharer = Running::start(&validator, ["share"]);
    follower.ok(["run", "join", &sharer.ticket()]);
    sharer.stop();
    let other = Home::new("other");
    other.ok(["dataset", "import", "--bundled"]);
    other.ok(second);
    let sharer = Running::start(&other, ["share"]);
    let said = refused(&follower, 1, ["run", "join", &sharer.ticket()]);
    assert!(said["error"].as_str().unwrap().contains("has the hash chain that it had in run"), "{said}");
    sharer.stop();
}
