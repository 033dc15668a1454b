//! The demo's processes: nodes that report events as JSON lines, and the audit.
//!
//! A child ends when its standard input closes, so none outlives the demo, even if the demo is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use templar_device::DeviceChoices;
use templar_manifest::Hash;
use templar_node::event::NodeEvent;
use templar_node::stop::stopped;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::error::{ChildError, DemoError};
use super::event::{DemoEvent, DemoParticipant};

/// The time that processes get to end. One may be in the middle of a replay.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The environment variables that set how nodes use the network.
const NETWORK_VARIABLES: [&str; 5] =
    ["TEMPLAR_BIND", "TEMPLAR_LAN", "TEMPLAR_RELAY", "TEMPLAR_ADVERTISE", "TEMPLAR_METRICS"];

/// The things with which every node is started.
pub(super) struct Spawn<'a> {
    pub(super) program: &'a Path,
    pub(super) home: &'a Path,
    pub(super) threads: Option<usize>,
    pub(super) delays: Option<(Duration, u64)>,
    pub(super) devices: &'a [DeviceChoices],
}

/// Has a process compute on the device that is its turn.
fn compute_on(command: &mut Command, devices: &[DeviceChoices], turn: u64) {
    if !devices.is_empty() {
        let choice = &devices[(turn % devices.len() as u64) as usize];
        command.env("TEMPLAR_DEVICE", choice.to_string());
    }
}

/// An event of a node, or the error with which its process ended.
type NodeLine = (String, Result<NodeEvent, ChildError>);

/// The nodes of a demo.
pub(super) struct Children {
    said: mpsc::Receiver<NodeLine>,
    sender: mpsc::Sender<NodeLine>,
    stdins: BTreeMap<String, tokio::process::ChildStdin>,
    readers: JoinSet<()>,
    stop: watch::Receiver<bool>,
}

impl Children {
    /// Starts the first participant, which has the run, and then the others with its ticket.
    pub(super) async fn start(
        spawn: &Spawn<'_>,
        participants: &[DemoParticipant],
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
        participants: &[DemoParticipant],
        say: &mut (dyn FnMut(DemoEvent) + Send),
    ) -> Result<(), DemoError> {
        let Some((first, others)) = participants.split_first() else { return Ok(()) };
        self.spawn(spawn, first, None, 0)?;
        let ticket = loop {
            let (node, event) = self.next().await?;
            say(DemoEvent::Node { node, event: event.clone() });
            if let NodeEvent::Started { ticket, .. } = event {
                break ticket;
            }
        };
        let mut order: Vec<(usize, &DemoParticipant)> = others.iter().enumerate().collect();
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
        participant: &DemoParticipant,
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
        compute_on(&mut command, spawn.devices, index);
        // The user's network settings are for one node, not for several on one machine.
        for name in NETWORK_VARIABLES {
            command.env_remove(name);
        }
        if let Some(threads) = spawn.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
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
    pub(super) async fn next(&mut self) -> Result<(String, NodeEvent), DemoError> {
        tokio::select! {
            said = self.said.recv() => match said {
                Some((name, Ok(event))) => Ok((name, event)),
                Some((_, Err(error))) => Err(error.into()),
                None => Err(DemoError::Interrupted),
            },
            () = stopped(&mut self.stop) => Err(DemoError::Interrupted),
        }
    }

    /// Closes all standard inputs, waits for the processes to end, and kills those that do not end in time.
    pub(super) async fn stop(&mut self) {
        self.stdins.clear();
        self.said.close();
        while self.said.recv().await.is_some() {}
        let all_ended = async { while self.readers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, all_ended).await.is_err() {
            // Each reader owns its process, so the process is killed with it.
            self.readers.shutdown().await;
        }
    }
}

/// Reads a child until it ends.
async fn read(name: String, mut child: Child, said: mpsc::Sender<NodeLine>) {
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
            // The child must be read even if nobody listens any more, or it would block on a full pipe.
            let _ = said.send((name.clone(), event)).await;
        }
    }
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
    let last = complaint(&errors.await.unwrap_or_default());
    let _ = said.send((name.clone(), Err(ChildError::Ended { name, status, said: last }))).await;
}

/// A child's JSON report of an error as a sentence. Any other line stays as it is.
fn complaint(line: &str) -> String {
    let Ok(report) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
    let causes = report["causes"].as_array().into_iter().flatten();
    let texts = std::iter::once(&report["error"]).chain(causes).filter_map(serde_json::Value::as_str);
    texts.collect::<Vec<_>>().join(": ")
}

async fn next_event(lines: &mut Lines<BufReader<ChildStdout>>, name: &str) -> Option<Result<NodeEvent, ChildError>> {
    let line = lines.next_line().await.ok()??;
    Some(serde_json::from_str(&line).map_err(|error| ChildError::Unusable(format!("{name} says {line:?}: {error}"))))
}

/// Audits a copy in a process that first gives up its network. Gives the verdict.
pub(super) async fn audit(
    program: &Path,
    home: &Path,
    (devices, turn): (&[DeviceChoices], u64),
    mut stop: watch::Receiver<bool>,
    hear: &mut (dyn FnMut(serde_json::Value) + Send),
) -> Result<String, DemoError> {
    let name = "audit".to_owned();
    let mut command = Command::new(program);
    command.arg("--home").arg(home).args(["--json", "audit", "--all", "--offline"]);
    compute_on(&mut command, devices, turn);
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
