//! A home in a temporary directory, and the program run in it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The variables of the environment that configure the network.
const NETWORK: [&str; 5] = ["TEMPLAR_BIND", "TEMPLAR_LAN", "TEMPLAR_RELAY", "TEMPLAR_ADVERTISE", "TEMPLAR_METRICS"];

/// The program under test, without the variables of the tester's environment that would matter.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
    for name in ["TEMPLAR_HOME", "TEMPLAR_ISA", "TEMPLAR_RECOMPUTE", "NO_COLOR"].into_iter().chain(NETWORK) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The value of a variable that changes these tests. Only this function reads the tester's environment.
#[allow(clippy::disallowed_methods, reason = "the switches of these tests")]
pub(crate) fn switch(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The output of the program and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The JSON documents on stdout, one per line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// The last JSON document on stdout.
    pub(crate) fn last(&self) -> Value {
        self.lines().pop().unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// A templar home in a temporary directory.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// An empty directory without a key.
    pub(crate) fn absent() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A home that has its key.
    pub(crate) fn new(seed: &str) -> Self {
        let home = Self::absent();
        home.ok(["init", "--key-from-seed", seed]);
        home
    }

    /// A home with a key, the bundled dataset, and a tiny run in which it is the miner and the validator.
    pub(crate) fn with_run(seed: &str, settings: &[&str]) -> Self {
        let home = Self::new(seed);
        home.ok(["dataset", "import", "--bundled"]);
        home.run_new(&[], settings);
        home
    }

    /// Makes a tiny run and returns the output of `run new`.
    pub(crate) fn run_new(&self, arguments: &[&str], settings: &[&str]) -> Value {
        let tiny = [
            "inner.steps=4",
            "inner.batch_sequences=2",
            "inner.micro_batch_sequences=1",
            "model.sequence_length=32",
            "gauntlet.held_out_pages=2",
        ];
        let mut all = vec!["run", "new", "test", "--dataset", "shakespeare", "--size", "tiny"];
        all.extend(arguments);
        all.extend(tiny.iter().chain(settings).flat_map(|setting| ["--set", setting]));
        self.ok(all)
    }

    /// Trains, cuts, scores and closes one window.
    pub(crate) fn window(&self, window: &str) {
        self.ok(["train", "--window", window]);
        self.ok(["close", "--commits", "--window", window]);
        self.ok(["score", "--window", window]);
        self.ok(["close", "--window", window]);
    }

    /// The directory of the home on disk.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The program with arguments, not yet started.
    pub(crate) fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = program();
        command.arg("--home").arg(self.path()).args(arguments);
        command
    }

    /// Runs the program with arguments until it ends.
    pub(crate) fn say<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Runs the program with `--json`. It must succeed. Returns the last document.
    pub(crate) fn ok<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Value {
        let said = Said::of(self.command(arguments).arg("--json").output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        said.last()
    }

    /// The body that the header of a record names: its contributions, scores, admissions and payments.
    pub(crate) fn body(&self, record: &str) -> Value {
        let header = self.ok(["show", record]);
        self.ok(["show", &hash(&header["contents"], "body_root")])["contents"].take()
    }

    /// Runs the program with `--json`. It must end with this exit code. Returns its output.
    pub(crate) fn fails<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, code: i32, arguments: I) -> Said {
        let said = Said::of(self.command(arguments).arg("--json").output().unwrap());
        assert_eq!(said.code, code, "{said:?}");
        said
    }
}

/// Reads a hash from a field of a document.
pub(crate) fn hash(value: &Value, field: &str) -> String {
    let text = value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"));
    assert_eq!(text.len(), 64, "{text}");
    text.to_owned()
}

/// An answer without the member `now` of a status, which tells the moment and not the run.
pub(crate) fn timeless(said: &Said) -> String {
    let mut documents = said.lines();
    documents.iter_mut().filter_map(Value::as_object_mut).for_each(|document| drop(document.remove("now")));
    documents.iter().map(Value::to_string).collect()
}
