//! Nobody is given a delta before the cut that names it is certified. Afterwards everybody is.

use super::running::Running;
use super::{Home, refused};
use crate::cli::home::hash;

#[test]
fn a_delta_is_served_after_its_cut_and_not_before() {
    let (validator, miner, stranger) = (Home::new("judge"), Home::new("alice"), Home::new("carol"));
    validator.ok(["dataset", "import", "--bundled"]);
    validator.run_new(&["--miner", &hash(&miner.ok(["key", "show"]), "key")], &[]);
    let sharer = Running::start(&validator, ["share"]);
    for home in [&miner, &stranger] {
        home.ok(["run", "join", &sharer.ticket()]);
    }
    sharer.stop();

    let trained = miner.ok(["train", "--window", "0"]);
    let hidden = ["delta", "trace", "state_out"].map(|field| hash(&trained, field));
    for blob in &hidden {
        let said = refused(&miner, 1, ["share", blob]);
        assert!(said["error"].as_str().unwrap().contains("not cut yet"), "{said}");
    }

    let sharer = Running::start(&miner, ["share"]);
    let ticket = sharer.ticket();
    let visit = validator.ok(["fetch", "w0", "--from", &ticket]);
    assert_eq!((visit["entries"].as_u64(), visit["complete"].as_bool()), (Some(1), Some(true)), "{visit}");
    refused(&validator, 3, ["fetch", &hidden[0], "--patience", "1"]);
    refused(&stranger, 3, ["fetch", &hidden[1], "--from", &ticket, "--patience", "1"]);

    validator.ok(["close", "--commits", "--window", "0"]);
    // While the validator asks for blobs, the miner learns the cut from it.
    let visit = validator.ok(["fetch", &hidden[0]]);
    assert_eq!(visit["complete"], true, "{visit}");
    let visit = stranger.ok(["fetch", "w0", "--from", &ticket]);
    assert_eq!(visit["complete"], true, "{visit}");
    assert_eq!(stranger.ok(["show", &hidden[0]])["here"], true);
    validator.ok(["fetch", "w0"]);
    assert_eq!(validator.ok(["score", "--window", "0"])["entries"][0]["replay"], "match");
    assert_eq!(validator.ok(["close", "--window", "0"])["closed"], true);
    sharer.stop();
    // Now its own home may serve it as well.
    Running::start(&miner, ["share", &hidden[0]]).stop();
}
