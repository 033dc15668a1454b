//! `dataset import` of files and folders as people have them, through the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::home::{Home, Said, hash};
use super::store::damage;

/// A home, and beside it a place for files to import.
struct Desk {
    home: Home,
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(seed: &str) -> Self {
        Self { home: Home::new(seed), folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file with so many documents of two lines each.
    fn write(&self, name: &str, documents: usize) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let line = |number| {
            format!(
                "{{\"text\": \"{name} {number}: To be, or not to be, that is the question: whether 'tis nobler\"}}\n"
            )
        };
        fs::write(path, (0..documents).map(line).collect::<String>()).unwrap();
    }

    /// The command with the options that it cannot do without, run where the files are.
    fn import(&self, arguments: &[&str]) -> Command {
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare/tokenizer.json");
        let mut command = self.home.command(["dataset", "import"]);
        command.current_dir(self.folder.path()).args(arguments).arg("--tokenizer").arg(tokenizer);
        if !arguments.iter().any(|argument| argument.starts_with("--licen")) {
            command.args(["--licence", "CC0-1.0"]);
        }
        command
    }

    fn say(&self, arguments: &[&str]) -> Said {
        Said::of(self.import(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let said = Said::of(self.import(arguments).arg("--json").output().unwrap());
        let text = if said.code == 0 { &said.out } else { &said.err };
        (said.code, text.lines().last().map(|line| serde_json::from_str(line).unwrap()).unwrap_or_default())
    }
}

/// Every twentieth block held out would be none of so few tokens.
const HOLD: [&str; 4] = ["--held-out-every", "4", "--held-out-tokens", "128"];

#[test]
fn what_is_taken_and_left_out_is_said() {
    let desk = Desk::new("listed");
    desk.write("repo/data/train.jsonl", 60);
    desk.write("repo/data/test.jsonl", 30);
    for name in ["LICENSE.txt", "README.md", "_SUCCESS", "._a.jsonl", "notes.docx"] {
        fs::write(desk.at("repo").join(name), "not data").unwrap();
    }
    let said = desk.say(&[&["repo"], &HOLD[..]].concat());
    assert_eq!((said.code, said.out.len()), (0, 65), "{said:?}");
    assert!(said.err.contains("takes 1 file"), "{said:?}");
    for name in
        ["repo/data/train.jsonl", "repo/data/test.jsonl", "repo/LICENSE.txt", "repo/README.md", "repo/notes.docx"]
    {
        assert!(said.err.contains(name), "{name}: {said:?}");
    }
    let (code, value) = desk.json(&[&["repo", "--name", "again"], &HOLD[..]].concat());
    assert_eq!((code, value["documents"].as_u64()), (0, Some(60)));
    assert_eq!(value["files"][0]["documents"], 60);
    let reasons: Vec<&str> =
        value["left_out"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["hidden", "about", "about", "tool-mark", "split", "unknown-kind"]);
    // What is named is taken.
    let (_, value) = desk.json(&[&["repo", "repo/data/test.jsonl", "--name", "all"], &HOLD[..]].concat());
    assert_eq!(value["documents"], 90);
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_dead_link_in_a_folder_stops_nobody() {
    let desk = Desk::new("pipes");
    desk.write("folder/a.jsonl", 90);
    assert!(Command::new("mkfifo").arg(desk.at("folder/q.txt")).status().unwrap().success());
    std::os::unix::fs::symlink("/nonexistent/cache", desk.at("folder/current")).unwrap();
    let (code, value) = desk.json(&[&["folder"], &HOLD[..]].concat());
    assert_eq!((code, &value["documents"]), (0, &90.into()), "{value}");
    assert_eq!(desk.json(&[&["folder/q.txt"], &HOLD[..]].concat()).0, 1);
    std::os::unix::fs::symlink("/nonexistent/x.jsonl", desk.at("folder/x.jsonl")).unwrap();
    let (code, error) = desk.json(&[&["folder"], &HOLD[..]].concat());
    assert_eq!(code, 3, "{error}");
    assert!(error["hint"].as_str().unwrap().contains("the link"), "{error}");
}

#[test]
fn a_licence_is_checked_and_may_be_spelled_either_way() {
    let desk = Desk::new("licences");
    desk.write("a.jsonl", 60);
    for licence in ["MIT OR", "", "other", "not a licence at all"] {
        let (code, error) = desk.json(&[&["a.jsonl", "--licence", licence], &HOLD[..]].concat());
        assert_eq!(code, 2, "{licence}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("LicenseRef-"), "{error}");
    }
    let (code, _) = desk.json(&[&["a.jsonl", "--license", "mit or LicenseRef-mine"], &HOLD[..]].concat());
    assert_eq!(code, 0);
    assert_eq!(desk.home.ok(["dataset", "show", "a"])["manifest"]["licence"], "MIT OR LicenseRef-mine");
}

#[test]
fn a_name_is_made_fit_or_asked_for() {
    let desk = Desk::new("names");
    desk.write("sp ace (v1) ü.jsonl", 60);
    let (code, value) = desk.json(&[&["sp ace (v1) ü.jsonl"], &HOLD[..]].concat());
    assert_eq!((code, &value["name"]), (0, &"sp-ace-v1".into()));
    desk.write("日本.jsonl", 60);
    let (code, error) = desk.json(&[&["日本.jsonl"], &HOLD[..]].concat());
    assert_eq!(code, 2, "{error}");
    assert!(error["hint"].as_str().unwrap().contains("--name"), "{error}");
}

#[test]
fn standard_input_is_a_file_like_another() {
    let desk = Desk::new("piped");
    desk.write("a.jsonl", 90);
    let (_, named) = desk.json(&[&["a.jsonl"], &HOLD[..]].concat());
    for path in ["-", "/dev/stdin"] {
        let mut command = desk.import(&[&[path, "--name", "a"], &HOLD[..]].concat());
        let input = fs::File::open(desk.at("a.jsonl")).unwrap();
        let said = Said::of(command.arg("--json").stdin(input).output().unwrap());
        assert_eq!((said.code, &said.last()["dataset"]), (0, &named["dataset"]), "{path}: {said:?}");
    }
}

/// Datasets are found by name among the small blobs of a home, and the manifest of a large one is no small blob.
#[test]
fn a_long_manifest_is_found_by_its_name() {
    let desk = Desk::new("long-manifest");
    desk.write("a.jsonl", 90);
    let (code, made) = desk.json(&[&["a.jsonl", "--shard-tokens", "1"], &HOLD[..]].concat());
    assert_eq!(code, 0, "{made}");
    let bytes =
        fs::metadata(desk.home.path().join(format!("store/data/{}.data", hash(&made, "dataset")))).unwrap().len();
    assert!(bytes > 64 << 10, "{bytes} bytes");
    assert_eq!(desk.home.ok(["dataset", "show", "a"])["dataset"], made["dataset"]);
    let listed = desk.home.ok(["dataset", "list"])["datasets"][0].clone();
    assert_eq!((&listed["name"], &listed["shards"]), (&"a".into(), &made["shards"]));
}

#[test]
fn a_list_says_what_is_damaged_or_missing() {
    let desk = Desk::new("listed-datasets");
    assert!(desk.home.say(["dataset", "list"]).err.contains("this home has no dataset"));
    desk.write("a.jsonl", 2000);
    let (_, made) = desk.json(&[&["a.jsonl"], &HOLD[..]].concat());
    let listed = |code: i32, arguments: &[&str]| {
        let list = desk.home.fails(code, [&["dataset", "list"], arguments].concat()).last();
        list["datasets"][0].clone()
    };
    let whole = listed(0, &["--verify"]);
    assert_eq!(
        (&whole["dataset"], &whole["documents"], &whole["licence"]),
        (&made["dataset"], &2000.into(), &"CC0-1.0".into())
    );
    assert_eq!((&whole["missing"], &whole["faults"], &whole["runs"]), (&json!([]), &json!([]), &json!([])));

    // A bit of a shard: only reading finds it.
    let manifest = desk.home.ok(["dataset", "show", "a"])["manifest"].clone();
    let shard = hash(&manifest["training"][0], "blob");
    damage(&desk.home, &shard);
    assert_eq!(listed(0, &[])["faults"], json!([]));
    let found = listed(5, &["--verify"])["faults"].clone();
    assert!(found[0].as_str().unwrap().contains(&shard), "{found}");
    // A bit of the manifest: then nobody knows that it was one.
    damage(&desk.home, &hash(&made, "dataset"));
    let list = desk.home.fails(5, ["dataset", "list"]).last();
    assert_eq!((&list["datasets"], &list["unread"]), (&json!([]), &json!([made["dataset"]])));
    let said = desk.home.say(["dataset", "list"]);
    assert!(
        said.err.contains("may be the manifest of a dataset") && said.err.contains("`templar store scrub`"),
        "{said:?}"
    );
}

/// The hint's own values do.
#[test]
fn a_small_text_gets_values_that_would_do() {
    let desk = Desk::new("small");
    desk.write("base.jsonl", 90);
    let (code, error) = desk.json(&["base.jsonl"]);
    assert_eq!(code, 1);
    let hint = error["hint"].as_str().unwrap();
    let options: Vec<&str> = hint.split('`').nth(1).unwrap().split(' ').collect();
    assert_eq!([options[0], options[2]], ["--held-out-every", "--held-out-tokens"]);
    assert_eq!(desk.json(&[&["base.jsonl"], &options[..]].concat()).0, 0);
}

#[test]
fn a_dry_run_shows_three_documents_and_imports_nothing() {
    let desk = Desk { home: Home::absent(), folder: tempfile::tempdir().unwrap() };
    for name in ["f/a.jsonl", "f/b.jsonl", "f/c.jsonl", "f/d.jsonl"] {
        desk.write(name, 5);
    }
    let (code, value) = desk.json(&["f", "--dry-run"]);
    assert_eq!((code, value["takes"].as_array().unwrap().len()), (0, 4), "{value}");
    let texts: Vec<&str> =
        value["samples"].as_array().unwrap().iter().map(|sample| sample["text"].as_str().unwrap()).collect();
    assert!(texts.iter().zip(["f/a", "f/c", "f/d"]).all(|(text, start)| text.starts_with(start)), "{texts:?}");
    assert!(texts.len() == 3 && texts[0].ends_with("<|endoftext|>"), "{texts:?}");
    assert!(!desk.home.path().exists(), "a dry run needs no home and makes none");
    let said = desk.say(&["f/a.jsonl", "--dry-run"]);
    assert_eq!(said.out.matches("--- f/a.jsonl, row").count(), 3, "{said:?}");
}

#[test]
fn repeats_are_told_and_left_out_on_demand() {
    let desk = Desk::new("repeats");
    desk.write("a.jsonl", 60);
    fs::copy(desk.at("a.jsonl"), desk.at("b.jsonl")).unwrap();
    let said = desk.say(&[&["a.jsonl", "b.jsonl"], &HOLD[..]].concat());
    assert!(said.err.contains("warning: 60 documents are equal to an earlier one"), "{said:?}");
    assert!(said.err.contains("--dedup"), "{said:?}");
    let (_, value) = desk.json(&[&["a.jsonl", "b.jsonl", "--dedup", "--name", "once"], &HOLD[..]].concat());
    assert_eq!((&value["documents"], &value["duplicates"]["documents"]), (&60.into(), &60.into()));
    assert_eq!(value["files"][1]["documents"], 0);
}

#[test]
fn parts_are_made_without_a_home_and_joined() {
    let desk = Desk::new("parts");
    desk.write("f/a.jsonl", 60);
    desk.write("f/b.jsonl", 90);
    fs::create_dir(desk.at("parts")).unwrap();
    let (_, whole) = desk.json(&[&["f"], &HOLD[..]].concat());
    for part in ["1/3", "2/3", "3/3"] {
        let (code, value) = desk.json(&[&["f", "--part", part, "--out", "parts"], &HOLD[..]].concat());
        assert_eq!((code, &value["was_here"]), (0, &false.into()), "{value}");
    }
    let (_, value) = desk.json(&[&["f", "--part", "2/3", "--out", "parts"], &HOLD[..]].concat());
    assert_eq!((&value["was_here"], &value["path"]), (&true.into(), &"parts/f-2-of-3.part".into()));
    // The same name with other options is no reason to overwrite.
    assert_eq!(desk.json(&["f", "--part", "2/3", "--out", "parts"]).0, 1);
    let parts = desk.at("parts");
    let merged = desk.home.ok(["dataset", "merge", parts.to_str().unwrap()]);
    assert_eq!(merged["dataset"], whole["dataset"]);
    assert_eq!(merged["files"][0]["path"], "a.jsonl");

    let part = |number: u32| parts.join(format!("f-{number}-of-3.part"));
    let join = |paths: &[PathBuf]| {
        let mut arguments = vec!["dataset".into(), "merge".into()];
        arguments.extend_from_slice(paths);
        desk.home.say(arguments)
    };
    let said = join(&[part(1), part(3)]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("--part 2/3"), "{said:?}");
    let mut bytes = fs::read(part(2)).unwrap();
    bytes[200] ^= 1;
    fs::write(part(2), bytes).unwrap();
    assert!([1, 4].contains(&join(&[part(1), part(2), part(3)]).code));
    for part in ["0/3", "4/3", "x", "3"] {
        assert_eq!(desk.say(&["f", "--part", part]).code, 2);
    }
}

#[test]
fn conversations_are_joined_by_the_template_that_is_named_and_the_output_says_which() {
    let desk = Desk::new("conversations");
    let turns =
        r#"{"messages": [{"role": "user", "content": "To be?"}, {"role": "assistant", "content": "Or not to be."}]}"#;
    fs::write(desk.at("chat.jsonl"), format!("{turns}\n").repeat(300)).unwrap();
    fs::write(desk.at("chat.jinja"), "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}").unwrap();
    let arguments = [&["chat.jsonl", "--column", "messages"], &HOLD[..]].concat();
    let with = |more: &[&str]| desk.say(&[&arguments[..], more].concat());
    let plain = with(&["--name", "plain"]);
    assert!(plain.err.contains("300 of them conversations, joined as role: content"), "{plain:?}");
    let joined = with(&["--name", "joined", "--chat-template", "chat.jinja"]);
    assert!(joined.err.contains("300 of them conversations, joined by the chat template"), "{joined:?}");
    assert_ne!(plain.out, joined.out);
    let shown = desk.json(&[&arguments[..], &["--chat-template", "chat.jinja", "--dry-run"]].concat()).1;
    assert_eq!(shown["samples"][0]["text"], "[user] To be?[assistant] Or not to be.<|endoftext|>");
    fs::write(desk.at("chat.jinja"), "{% for %}").unwrap();
    let broken = with(&["--name", "broken", "--chat-template", "chat.jinja"]);
    assert!(broken.code == 1 && broken.err.contains("--chat-template none"), "{broken:?}");
}
