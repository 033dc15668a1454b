//! `templar doctor`: checks everything that a node depends on.

use std::time::Duration;

use serde_json::{Value, json};
use templar_device::DeviceChoices;
use templar_node::doctor::{DoctorFinding, Examination, Level, examine};

use crate::commands::init::random_key;
use crate::compute::{choices, options};
use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, peers};
use crate::printer::{Tone, count};

/// Check everything that a node depends on: home, key, run, blobs, disk, device, port, relay, peers, clock
///
/// Changes nothing, and may run beside a node. Ends with exit code 1 if something does not work; warnings do
/// not count.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Ask this peer too: a ticket, or KEY@ADDR:PORT
    #[arg(long, value_name = "TICKET|PEER")]
    peer: Vec<String>,
    /// The number of seconds to wait for a relay
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    patience: u64,
    /// Look at this device: auto, cpu, or a name that `templar device list` shows [default: TEMPLAR_DEVICE, or
    /// else auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoices>,
    #[command(flatten)]
    listen: Listen,
}

pub(crate) fn run(invocation: &Invocation, args: &DoctorArgs) -> CommandResult {
    let peers = peers(&args.peer)?;
    let examination = Examination {
        root: invocation.root()?.clone(),
        network: args.listen.said(invocation),
        peers,
        patience: Duration::from_secs(args.patience),
        device: (choices(args.device.clone(), invocation)?, options(invocation)),
        key: random_key()?.to_bytes(),
    };
    let mut findings = Vec::new();
    examine(&examination, |finding| {
        if !invocation.printer.is_json() {
            invocation.printer.data(&Value::Null, line(invocation, &finding));
        }
        findings.push(finding);
    });
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fail);
    invocation.printer.json(&json!({"level": worst, "findings": findings}));
    invocation.printer.talk(summary(&findings));
    // A missing home has an exit code of its own.
    match findings.first() {
        Some(first) if first.check == "home" && first.level == Level::Fail => Ok(Code::NoHome),
        _ if worst == Level::Fail => Ok(Code::Failed),
        _ => Ok(Code::Ok),
    }
}

fn line(invocation: &Invocation, finding: &DoctorFinding) -> String {
    let (tone, word) = match finding.level {
        Level::Ok => (Tone::Good, "ok  "),
        Level::Warn => (Tone::Unsure, "warn"),
        Level::Fail => (Tone::Bad, "fail"),
    };
    let mut text = format!("{} {:<10} {}", invocation.printer.tone(tone, word), finding.check, finding.text);
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("\n                hint: {hint}"));
    }
    text
}

fn summary(findings: &[DoctorFinding]) -> String {
    let number = |level| findings.iter().filter(|finding| finding.level == level).count() as u64;
    let (warn, fail) = (number(Level::Warn), number(Level::Fail));
    match (warn, fail) {
        (0, 0) => "everything works".to_owned(),
        (warn, 0) => format!("it works, with {}", count(warn, "warning")),
        (warn, fail) => format!("{} and {}", count(fail, "failure"), count(warn, "warning")),
    }
}
