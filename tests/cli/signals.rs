//! Signals in the middle of long commands, and kills: what is left in the home, and what `store gc` makes of it.
//!
//! An import reads a pipe that the test fills, so it is under way for as long as the test likes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::home::{Home, Said, hash};

/// Shards of 8 KiB tokens, so that a few hundred kilobytes of text make many.
const SMALL: [&str; 2] = ["--shard-tokens", "8192"];

/// An import of what the test writes.
struct Importing {
    child: Child,
    input: ChildStdin,
    written: usize,
}

impl Importing {
    /// Starts an import of standard input, and waits until it reads.
    fn start(home: &Home, options: &[&str]) -> Self {
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare/tokenizer.json");
        let mut command = home.command(["dataset", "import", "-", "--format", "jsonl", "--licence", "CC0-1.0"]);
        command.args(["--name", "piped"]).args(SMALL).args(options).arg("--tokenizer").arg(tokenizer);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { child, input, written: 0 }
    }

    /// Writes one more document; `false` if nobody reads any more.
    fn write(&mut self) -> bool {
        self.written += 1;
        writeln!(self.input, "{}", document(self.written)).is_ok()
    }

    /// Writes documents until the import has put shards into the home.
    fn until_it_has_shards(&mut self, home: &Home) {
        let list = home.path().join("work/unfinished");
        let lines = || fs::read_to_string(&list).map_or(0, |text| text.split_whitespace().count());
        while lines() < 4 {
            (0..64).for_each(|_| assert!(self.write(), "it ended by itself"));
        }
    }

    /// Sends a signal, and writes on until nobody reads.
    fn signalled(mut self, signal: &str) -> Said {
        send(&self.child, signal);
        while self.write() {}
        drop(self.input);
        Said::of(self.child.wait_with_output().unwrap())
    }
}

/// A document of some 2 KB that is unlike all others.
fn document(number: usize) -> String {
    let line = |line: usize| format!("{} {line}: to be, or not to be, that is the question. ", number * 7919 + line);
    format!("{{\"text\": \"{}\"}}", (0..40).map(line).collect::<String>())
}

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_import_that_is_asked_to_stop_leaves_nothing() {
    let home = Home::new("stopped-import");
    home.ok(["dataset", "import", "--bundled"]);
    let before = home.ok(["store", "stats"]);
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut importing = Importing::start(&home, &[]);
        importing.until_it_has_shards(&home);
        let said = importing.signalled(signal);
        assert_eq!((said.code, said.out.as_str()), (130, ""), "{signal}: {said:?}");
        assert!(said.err.contains("error: interrupted; nothing was imported"), "{signal}: {said:?}");
        assert_eq!(home.ok(["store", "stats"]), before, "{signal}");
        assert_eq!(files(&home.path().join("work")), [""; 0], "{signal}");
    }
}

#[test]
fn a_part_that_is_asked_to_stop_leaves_no_file() {
    let (home, folder) = (Home::absent(), tempfile::tempdir().unwrap());
    let out = folder.path().to_str().unwrap().to_owned();
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut importing = Importing::start(&home, &["--part", "1/1", "--out", &out]);
        (0..2000).for_each(|_| assert!(importing.write()));
        let said = importing.signalled(signal);
        assert_eq!((said.code, said.out.as_str()), (130, ""), "{signal}: {said:?}");
        assert_eq!(files(folder.path()), [""; 0], "{signal}");
    }
}

#[test]
fn what_a_killed_import_leaves_is_collected_or_used() {
    let home = Home::new("killed-import");
    home.ok(["dataset", "import", "--bundled"]);
    let (before, data) = (home.ok(["store", "stats"]), files(&home.path().join("store/data")));
    let killed = || {
        let mut importing = Importing::start(&home, &[]);
        importing.until_it_has_shards(&home);
        importing.child.kill().unwrap();
        importing.child.wait().unwrap();
        importing.written
    };
    killed();
    // A kill may come before the store has written down what it took.
    let would = home.ok(["store", "gc", "--dry-run"]);
    let gone = home.ok(["store", "gc"]);
    assert_eq!((&gone["blobs"], &gone["bytes"]), (&would["blobs"], &would["bytes"]));
    assert_eq!(home.ok(["store", "stats"]), before);
    assert_eq!(files(&home.path().join("store/data")), data, "also no file that the database does not know");

    // The same import, begun again, gives what it would have given, and a collection leaves all of it.
    let documents = killed();
    let twin = Home::new("killed-import");
    let finished = |home: &Home| {
        let mut importing = Importing::start(home, &["--json"]);
        while importing.written < documents {
            assert!(importing.write());
        }
        drop(importing.input);
        let said = Said::of(importing.child.wait_with_output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        hash(&said.last(), "dataset")
    };
    let dataset = finished(&home);
    assert_eq!(dataset, finished(&twin));
    home.ok(["store", "gc"]);
    assert_eq!(home.ok(["dataset", "verify", &dataset])["verdict"], "match");
    assert_eq!(files(&home.path().join("work")), [""; 0]);
}

/// A command that has nothing to keep ends at once, with the same code for all signals.
#[test]
fn any_command_ends_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("tokenizer.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for signal in ["-INT", "-TERM", "-HUP"] {
        let home = Home::absent();
        let mut command = home.command(["dataset", "import", "x.jsonl", "--licence", "CC0-1.0", "--tokenizer"]);
        let child = command.arg(&pipe).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Opens when the program has opened it, too. It waits for a tokenizer then.
        let _writer = fs::File::options().write(true).open(&pipe).unwrap();
        send(&child, signal);
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (130, "error: interrupted\n"), "{signal}");
    }
}

/// Under `nohup` the end of a terminal is not for the command.
#[test]
fn a_command_under_nohup_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("tokenizer.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_templar")).args(["dataset", "import", "x.jsonl", "--licence", "CC0-1.0"]);
    command.arg("--tokenizer").arg(&pipe).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
    send(&child, "-HUP");
    writer.write_all(b"no tokenizer").unwrap();
    drop(writer);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("error: tokenizer does not parse")));
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
