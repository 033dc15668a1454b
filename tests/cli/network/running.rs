//! A process that serves until its standard input closes, and the lines that it prints.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::cli::home::Home;

/// After this time without a line, a process counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `share` or `node`. It is killed when this value is dropped.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
    /// The first line of its output.
    pub(crate) started: Value,
}

impl Running {
    /// Starts the process in a home and waits until it serves.
    pub(crate) fn start<const N: usize>(home: &Home, arguments: [&str; N]) -> Self {
        let mut running = Self::begin(home, arguments);
        running.started = running.until(|line| line["type"] == "started");
        running
    }

    /// Starts the process in a home without waiting.
    pub(crate) fn begin<const N: usize>(home: &Home, arguments: [&str; N]) -> Self {
        let errors = home.path().with_file_name("errors");
        let mut command = home.command(arguments);
        command.args(["--json", "--until-stdin-closes"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors).unwrap());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // This thread ends with the process. It reads all output, whether a test asks for it or not.
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Self { child, stdin, lines, errors, started: Value::Null }
    }

    /// Whether the output so far holds such a line.
    pub(crate) fn has_said(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.lines.try_iter().any(|line| wanted(&serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))))
    }

    /// The next line for which `wanted` is true. The test fails if none comes before the deadline.
    pub(crate) fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("nothing after {last}; it said {:?}", fs::read_to_string(&self.errors));
            };
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            assert_ne!(value["type"], "deadline", "{line}");
            if wanted(&value) {
                return value;
            }
            last = line;
        }
    }

    /// The ticket with which others join the run.
    pub(crate) fn ticket(&self) -> String {
        self.started["ticket"].as_str().unwrap().to_owned()
    }

    /// The ticket with which others fetch one blob.
    pub(crate) fn blob_ticket(&self) -> String {
        self.started["blob_ticket"].as_str().unwrap().to_owned()
    }

    /// Kills it without a warning, as a power cut does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), None, "it was killed");
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it without a warning, and starts another in its place when it is gone.
    pub(crate) fn replace(&mut self, next: impl FnOnce() -> Self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = next();
    }

    /// Waits until it ends by itself. Returns its exit code and what it said on stderr.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, fs::read_to_string(&self.errors).unwrap())
    }

    /// Asks it to end. It must exit with code 0.
    pub(crate) fn stop(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{:?}", fs::read_to_string(&self.errors));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
