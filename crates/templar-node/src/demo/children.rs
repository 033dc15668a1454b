//! The demo's processes: nodes that say what happens in JSON lines, and the audit.
//!
//! A child ends when its standard input closes, so none outlives the demo, however that ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use templar_manifest::Hash;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{DemoError, DemoEvent, Participant};
use crate::driver::stopped;
use crate::event::Event;

/// Why a process is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It cannot be started.
    #[error("{name} cannot be started")]
    Start {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended before the run did.
    #[error("{name} ended with {status} before the run was over: {said}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: String,
        /// The last thing it said on standard error.
        said: String,
    },
    /// It says something that is not its report.
    #[error("{0}")]
    Unusable(String),
}

/// How long processes may take to end: one may be in the middle of a replay.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The variables by which a user says how nodes use the network.
const NETWORK_VARIABLES: [&str; 5] =
    ["TEMPLAR_BIND", "TEMPLAR_LAN", "TEMPLAR_RELAY", "TEMPLAR_ADVERTISE", "TEMPLAR_METRICS"];

/// What every node is started with.
pub(super) struct Spawn<'a> {
    pub(super) program: &'a Path,
    pub(super) home: &'a Path,
    pub(super) delays: Option<(Duration, u64)>,
}

/// A line of a node, or its end.
type Said = (String, Result<Event, ChildError>);

/// The nodes of a demo.
pub(super) struct Children {
    said: mpsc::Receiver<Said>,
    sender: mpsc::Sender<Said>,
    stdins: BTreeMap<String, tokio::process::ChildStdin>,
    readers: JoinSet<()>,
    stop: watch::Receiver<bool>,
}

impl Children {
    /// Starts the first participant, which has the run, and then the others with its ticket.
    pub(super) async fn start(
        spawn: &Spawn<'_>,
        participants: &[Participant],
        say: &mut (dyn FnMut(DemoEvent) + Send),
        stop: watch::Receiver<bool>,
    ) -> Result<Self, DemoError> {
        let (sender, said) = mpsc::channel(256);
        let mut children = Self { said, sender, stdins: BTreeMap::new(), readers: JoinSet::new(), stop };
        let started = children.start_all(spawn, participants, say).await;
        if let Err(error) = started {
            children.stop().await;
            return Err(error);
        }
        Ok(children)
    }

    async fn start_all(
        &mut self,
        spawn: &Spawn<'_>,
        participants: &[Participant],
        say: &mut (dyn FnMut(DemoEvent) + Send),
    ) -> Result<(), DemoError> {
        let Some((first, others)) = participants.split_first() else { return Ok(()) };
        self.spawn(spawn, first, None, 0)?;
        let ticket = loop {
            let (node, event) = self.next().await?;
            say(DemoEvent::Node { node, event: event.clone() });
            if let Event::Started { ticket, .. } = event {
                break ticket;
            }
        };
        let mut order: Vec<(usize, &Participant)> = others.iter().enumerate().collect();
        if let Some((_, seed)) = spawn.delays {
            order.sort_by_key(|(index, _)| Hash::of(format!("{seed} {index}").as_bytes()));
        }
        for (index, participant) in order {
            self.spawn(spawn, participant, Some(&ticket), index as u64 + 1)?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        spawn: &Spawn<'_>,
        participant: &Participant,
        ticket: Option<&str>,
        index: u64,
    ) -> Result<(), DemoError> {
        let name = participant.name.clone();
        let role = if name.starts_with("validator") { "validator" } else { "miner" };
        let mut command = Command::new(spawn.program);
        command.arg("--home").arg(spawn.home.join(&name)).args([
            "--json",
            "node",
            "--role",
            role,
            "--until-stdin-closes",
        ]);
        if let Some(ticket) = ticket {
            command.args(["--join", ticket]);
        }
        if participant.cheats {
            command.args(["--conduct", "noise"]);
        }
        if let Some((longest, seed)) = spawn.delays {
            command.arg("--delays").arg(format!("{}:{}", longest.as_millis(), seed.wrapping_add(index)));
        }
        // What this user's own node does is not meant for six of them on one machine.
        for name in NETWORK_VARIABLES {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| ChildError::Start { name: name.clone(), source })?;
        if let Some(stdin) = child.stdin.take() {
            self.stdins.insert(name.clone(), stdin);
        }
        self.readers.spawn(read(name, child, self.sender.clone()));
        Ok(())
    }

    /// The next event of any node.
    pub(super) async fn next(&mut self) -> Result<(String, Event), DemoError> {
        tokio::select! {
            said = self.said.recv() => match said {
                Some((name, Ok(event))) => Ok((name, event)),
                Some((_, Err(error))) => Err(error.into()),
                None => Err(DemoError::Interrupted),
            },
            () = stopped(&mut self.stop) => Err(DemoError::Interrupted),
        }
    }

    /// Closes every standard input, waits for the processes to end, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        self.stdins.clear();
        self.said.close();
        while self.said.recv().await.is_some() {}
        let all_ended = async { while self.readers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, all_ended).await.is_err() {
            // Each reader owns its process, which is killed with it.
            self.readers.shutdown().await;
        }
    }
}

/// Reads a child until it ends.
async fn read(name: String, mut child: Child, said: mpsc::Sender<Said>) {
    let stderr = child.stderr.take();
    let errors = tokio::spawn(async move {
        let mut last = String::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                last = line;
            }
        }
        last
    });
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(event) = next_event(&mut lines, &name).await {
            // When nobody listens any more the child still has to be read, or it would wait for a reader.
            let _ = said.send((name.clone(), event)).await;
        }
    }
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
    let last = complaint(&errors.await.unwrap_or_default());
    let _ = said.send((name.clone(), Err(ChildError::Ended { name, status, said: last }))).await;
}

/// A child's report of an error, in words; anything else as it is.
fn complaint(line: &str) -> String {
    let Ok(report) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
    let causes = report["causes"].as_array().into_iter().flatten();
    let texts = std::iter::once(&report["error"]).chain(causes).filter_map(serde_json::Value::as_str);
    texts.collect::<Vec<_>>().join(": ")
}

async fn next_event(lines: &mut Lines<BufReader<ChildStdout>>, name: &str) -> Option<Result<Event, ChildError>> {
    let line = lines.next_line().await.ok()??;
    Some(serde_json::from_str(&line).map_err(|error| ChildError::Unusable(format!("{name} says {line:?}: {error}"))))
}

/// Audits a copy in a process that gives up its network first. Gives the verdict.
pub(super) async fn audit(
    program: &Path,
    home: &Path,
    mut stop: watch::Receiver<bool>,
    hear: &mut (dyn FnMut(serde_json::Value) + Send),
) -> Result<String, DemoError> {
    let name = "audit".to_owned();
    let mut command = Command::new(program);
    command.arg("--home").arg(home).args(["--json", "audit", "--all", "--offline"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| ChildError::Start { name: name.clone(), source })?;
    let mut verdict = None;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                () = stopped(&mut stop) => return Err(DemoError::Interrupted),
            };
            let Ok(Some(line)) = line else { break };
            let report: serde_json::Value = serde_json::from_str(&line)
                .map_err(|error| ChildError::Unusable(format!("{name} says {line:?}: {error}")))?;
            if report.get("type").and_then(serde_json::Value::as_str) == Some("result") {
                verdict = report.get("verdict").and_then(serde_json::Value::as_str).map(str::to_owned);
            }
            hear(report);
        }
    }
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    verdict.ok_or_else(|| ChildError::Ended { name, status, said: "no verdict".to_owned() }.into())
}
