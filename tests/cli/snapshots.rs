//! Snapshots of what the command line prints: the help of every command, and the answers about a small run.
//!
//! The run is the same on every machine, so the hashes in the answers are frozen too. After a change that is
//! meant, run these tests with `INSTA_UPDATE=always` and read the difference of the files in
//! `tests/cli/snapshots`.

use super::home::{Home, hash};

/// Compares a text with the file of this name.
fn compare(name: &str, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn the_reference_is_the_one_that_is_kept() {
    compare("reference", &templar_cli::reference());
}

#[test]
fn the_answers_about_a_small_run_are_the_ones_that_are_kept() {
    let home = Home::with_run("snapshots", &[]);
    let trained = home.ok(["train", "--window", "0"]);
    home.ok(["close", "--commits", "--window", "0"]);
    let score = hash(&home.ok(["score", "--window", "0"]), "score");
    home.ok(["close", "--window", "0"]);
    let (delta, trace) = (hash(&trained, "delta"), hash(&trained, "trace"));
    let questions: [(&str, &[&str]); 19] = [
        ("status", &["status"]),
        ("log", &["log"]),
        ("run-list", &["run", "list"]),
        ("run-show", &["run", "show"]),
        ("dataset-show", &["dataset", "show", "shakespeare"]),
        ("dataset-list", &["dataset", "list"]),
        ("show-record", &["show", "w0"]),
        ("show-checkpoint", &["show", "@"]),
        ("show-score", &["show", &score]),
        ("show-delta", &["show", &delta]),
        ("show-trace", &["show", &trace]),
        ("evidence", &["evidence", "show"]),
        ("store-stats", &["store", "stats"]),
        ("store-gc", &["store", "gc", "--dry-run"]),
        ("verify", &["verify"]),
        ("audit", &["audit"]),
        ("audit-window", &["audit", "--window", "0"]),
        ("unclosed-window", &["show", "w7"]),
        // The last, since it makes another run the current one.
        ("run-new", &["run", "new", "another", "--dataset", "shakespeare", "--size", "tiny"]),
    ];
    for (name, arguments) in questions {
        let text = home.say(arguments);
        let json = home.say([arguments, &["--json"]].concat());
        let (out, err) = (text.out.trim_end(), text.err.trim_end());
        let said =
            format!("exit code {}\n\n{out}\n\non stderr:\n{err}\n\nas JSON:\n{}", text.code, json.out.trim_end());
        compare(name, &steady(&said));
    }
}

/// The text without what time and this machine decide: how long ago something was, and what a hash costs.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    let changing =
        [("\"journal_age_ms\":", ","), ("the last entry in this home: ", " ago"), ("Joining costs about ", " of CPU")];
    for (before, after) in changing {
        let Some(start) = text.find(before).map(|place| place + before.len()) else { continue };
        let length = text[start..].find(after).unwrap();
        text.replace_range(start..start + length, "[varies]");
    }
    text
}
