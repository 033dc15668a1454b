//! The program explains a wrong command line or home, with the documented exit code and the nearest name that
//! exists.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use super::home::{Home, Said, program};

/// The error that a failed command reports as JSON.
fn error(said: &Said) -> Value {
    let line = said.err.lines().find(|line| line.contains("\"type\":\"error\"")).unwrap_or_else(|| panic!("{said:?}"));
    serde_json::from_str(line).unwrap()
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let said = Said::of(program().args(["statsu"]).output().unwrap());
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("'status'"), "{said:?}");
    let said = Said::of(program().args(["audit", "--ofline"]).output().unwrap());
    assert_eq!(said.code, 2);
    assert!(said.err.contains("'--offline'"), "{said:?}");
    let said = Said::of(program().args(["audit", "--ofline", "--json"]).output().unwrap());
    assert_eq!((said.code, error(&said)["code"].clone()), (2, 2.into()));

    let home = Home::new("names");
    home.ok(["dataset", "import", "--bundled"]);
    let new =
        |arguments: &[&str]| home.fails(2, [&["run", "new", "x", "--dataset", "shakespeare"], arguments].concat());
    assert!(error(&new(&["--set", "inner.step=3"]))["error"].as_str().unwrap().contains("\"inner.steps\""));
    assert!(error(&new(&["--size", "tinny"]))["error"].as_str().unwrap().contains("\"tiny\""));
    assert!(error(&new(&["--set", "inner.steps"]))["error"].as_str().unwrap().contains("key=value"));
    new(&["--set", "inner.steps=many"]);
    assert!(error(&new(&["--set", "foo=1"]))["hint"].as_str().unwrap().contains("`templar run new --long`"));
    new(&["--validator", "abc:1"]);
    home.fails(1, ["run", "new", "x", "--dataset", "shakespeare", "--set", "model.vocab_size=100"]);
    home.fails(1, ["run", "new", "x", "--dataset", "shakespeare", "--set", "inner.steps=100000"]);
    assert_eq!(home.ok(["run", "list"])["runs"], Value::Array(Vec::new()), "nothing half-made is left");
}

#[test]
fn a_demo_of_no_window_makes_no_folder() {
    let home = Home::absent();
    home.fails(2, ["demo", "--windows", "0"]);
    assert!(!home.path().exists());
}

#[test]
fn a_text_that_begins_as_a_ticket_is_told_as_one() {
    let home = Home::new("tickets");
    for text in ["templarabcdef", "blobabcdef", " TEMPLARABCDEF\n"] {
        let said = error(&home.fails(2, ["fetch", text]));
        assert!(said["error"].as_str().unwrap().contains("ticket"), "{text:?}: {said}");
    }
    assert!(error(&home.fails(2, ["fetch", "blob"]))["error"].as_str().unwrap().contains("neither a hash"));
}

#[test]
fn windows_and_objects_that_are_not_there() {
    let home = Home::with_run("nothing", &[]);
    home.fails(2, ["train", "--window", "-1"]);
    home.fails(2, ["train", "--window", "zero"]);
    home.fails(2, ["train", "--window", "0", "--steps", "5"]);
    home.fails(3, ["train", "--window", "7"]);
    home.fails(3, ["audit", "--window", "0"]);
    home.fails(3, ["show", "w0"]);
    home.fails(3, ["show", "abcdef"]);
    home.fails(3, ["show", &"0".repeat(64)]);
    home.fails(2, ["show", "abc"]);
    home.fails(3, ["run", "use", "other"]);
    home.fails(3, ["dataset", "show", "other"]);
    home.fails(3, ["dataset", "sample", "shakespeare", "--page", "99999999"]);
    home.fails(2, ["generate", "--temperature", "0"]);
    let early = home.fails(1, ["close", "--commits", "--window", "0"]);
    assert!(error(&early)["hint"].as_str().unwrap().contains("templar train --window 0"));
    assert_eq!(home.fails(5, ["close", "--window", "0"]).out, "");
    assert_eq!(home.fails(5, ["score", "--window", "0"]).last()["awaited"][0]["what"], "contribution");
    let vacuous = home.fails(5, ["audit"]).last();
    assert_eq!((&vacuous["windows"], &vacuous["verdict"]), (&0.into(), &"unavailable".into()));
}

#[test]
fn homes_that_cannot_be_used() {
    let home = Home::absent();
    let missing = home.fails(10, ["status"]);
    assert!(error(&missing)["hint"].as_str().unwrap().contains("init"), "{missing:?}");
    let said = home.say(["status"]);
    let words: Vec<&str> = said.err.lines().filter_map(|line| line.split_once(": ")).map(|(word, _)| word).collect();
    assert_eq!(words, ["error", "hint"], "{said:?}");

    home.ok(["init"]);
    let key = fs::read(home.path().join("key")).unwrap();
    home.fails(1, ["init"]);
    assert_eq!(fs::read(home.path().join("key")).unwrap(), key, "init never overwrites");
    home.fails(3, ["status"]);

    let lock = File::options().write(true).create(true).truncate(false).open(home.path().join("lock")).unwrap();
    lock.lock().unwrap();
    home.fails(11, ["dataset", "import", "--bundled"]);
    home.fails(11, ["status"]);
    home.ok(["key", "show"]);
    drop(lock);

    fs::write(home.path().join("key"), "no key\n").unwrap();
    home.fails(12, ["key", "show"]);
    fs::write(home.path().join("format"), "templar-home 7\n").unwrap();
    home.fails(1, ["key", "show"]);
}

#[test]
fn imports_that_fail_leave_no_dataset() {
    let home = Home::new("import");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare");
    let (text, tokenizer) = (root.join("shakespeare.parquet"), root.join("tokenizer.json"));
    let bad = home.path().with_file_name("bad.txt");
    fs::write(&bad, b"\xff\xfe not text").unwrap();
    let import = |path: &Path, tokenizer: &Path| {
        let mut command = home.command(["dataset", "import", "--licence", "CC0-1.0", "--json", "--tokenizer"]);
        Said::of(command.arg(tokenizer).arg(path).output().unwrap())
    };
    assert_eq!(import(Path::new("/nowhere.txt"), &tokenizer).code, 3);
    assert_eq!(import(&text, Path::new("/nowhere.json")).code, 3);
    assert_eq!(import(&text, &text).code, 1);
    assert_eq!(import(&bad, &tokenizer).code, 1);
    fs::write(&bad, b"").unwrap();
    assert_eq!(import(&bad, &tokenizer).code, 1);
    home.fails(2, ["dataset", "import"]);
    home.fails(3, ["dataset", "show", "bad"]);
    let said = import(&text, &tokenizer);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.last()["name"], "shakespeare", "the name of the file");
}
