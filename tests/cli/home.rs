//! A home in a temporary directory, and the program run in it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What says how the network is used.
const NETWORK: [&str; 5] = ["TEMPLAR_BIND", "TEMPLAR_LAN", "TEMPLAR_RELAY", "TEMPLAR_ADVERTISE", "TEMPLAR_METRICS"];

/// The program under test, with none of the tester's environment that would matter.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
    for name in ["TEMPLAR_HOME", "TEMPLAR_ISA", "TEMPLAR_RECOMPUTE", "NO_COLOR"].into_iter().chain(NETWORK) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What the tester's environment says of a switch of these tests: the one place of them that reads it.
#[allow(clippy::disallowed_methods, reason = "the switches of these tests")]
pub(crate) fn switch(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What the program said, and how it ended.
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

    /// The JSON documents on stdout, one a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Value {
        self.lines().pop().unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// A temporary home.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// Nothing yet.
    pub(crate) fn absent() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a key.
    pub(crate) fn new(seed: &str) -> Self {
        let home = Self::absent();
        home.ok(["init", "--key-from-seed", seed]);
        home
    }

    /// With a key, the bundled dataset and a tiny run in which this home is the miner and the validator.
    pub(crate) fn with_run(seed: &str, settings: &[&str]) -> Self {
        let home = Self::new(seed);
        home.ok(["dataset", "import", "--bundled"]);
        home.run_new(&[], settings);
        home
    }

    /// Makes a tiny run, and gives what `run new` said.
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

    /// Trains, cuts, scores and closes a window.
    pub(crate) fn window(&self, window: &str) {
        self.ok(["train", "--window", window]);
        self.ok(["close", "--commits", "--window", window]);
        self.ok(["score", "--window", window]);
        self.ok(["close", "--window", window]);
    }

    /// The home's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The program with arguments, not yet started.
    pub(crate) fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = program();
        command.arg("--home").arg(self.path()).args(arguments);
        command
    }

    /// Runs it.
    pub(crate) fn say<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Runs it with `--json`; it must end well. Gives the last document.
    pub(crate) fn ok<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Value {
        let said = Said::of(self.command(arguments).arg("--json").output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        said.last()
    }

    /// Runs it with `--json`; it must end with this code. Gives what it said.
    pub(crate) fn fails<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, code: i32, arguments: I) -> Said {
        let said = Said::of(self.command(arguments).arg("--json").output().unwrap());
        assert_eq!(said.code, code, "{said:?}");
        said
    }
}

/// A hash out of a document.
pub(crate) fn hash(value: &Value, field: &str) -> String {
    let text = value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"));
    assert_eq!(text.len(), 64, "{text}");
    text.to_owned()
}
