//! The lines that the demo prints for a person.
//!
//! All nodes see the same signed entries, so the lines about those come from the first validator alone. Each
//! node's own work, such as a replay or a failure, is reported by that node.

use std::collections::BTreeMap;

use templar_manifest::PublicKey;
use templar_node::event::NodeEvent;
use templar_testkit::demo::{DemoEvent, DemoResult};

use crate::printer::{Printer, Tone, amount, bytes};

/// Prints the demo, event by event.
pub(super) struct Story {
    printer: Printer,
    names: BTreeMap<PublicKey, String>,
    narrator: String,
    cuts: BTreeMap<u64, usize>,
    audited: u64,
}

impl Story {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, names: BTreeMap::new(), narrator: String::new(), cuts: BTreeMap::new(), audited: 0 }
    }

    /// Prints a line for a person. A program has read the event itself.
    fn line(&self, text: impl std::fmt::Display) {
        if !self.printer.is_json() {
            self.printer.data(&(), text);
        }
    }

    fn name(&self, key: &PublicKey) -> String {
        self.names.get(key).cloned().unwrap_or_else(|| key.short())
    }

    pub(super) fn tell(&mut self, event: &DemoEvent) {
        match event {
            DemoEvent::Ready { home, run, participants, parameters, vocab_size, training_tokens, held_out_loss } => {
                self.names =
                    participants.iter().map(|participant| (participant.key, participant.name.clone())).collect();
                self.narrator = participants.first().map(|first| first.name.clone()).unwrap_or_default();
                let validators = participants.iter().filter(|participant| participant.name.starts_with('v')).count();
                let miners = participants.len() - validators;
                self.line(format_args!(
                    "{validators} validators and {miners} miners train one model. Each is a separate process on this machine, with its own"
                ));
                self.line(format_args!("home, key and network endpoint. The homes are in {}", home.display()));
                self.line(format_args!("run {run}"));
                self.line(format_args!(
                    "the model has {} parameters; the training text has {} tokens of Shakespeare",
                    amount(*parameters as f64),
                    amount(*training_tokens as f64)
                ));
                let guessing = f64::from(*vocab_size).log2() * std::f64::consts::LN_2;
                self.line(format_args!(
                    "before training, its loss on held-out text is {held_out_loss:.4} nats a token; random guessing gives {guessing:.4}"
                ));
                for cheat in participants.iter().filter(|participant| participant.cheats) {
                    self.line(format_args!(
                        "{} cheats: it sends well-formed updates (deltas) without training",
                        cheat.name
                    ));
                }
                self.line("");
            }
            DemoEvent::Node { node, event } => self.tell_node(node, event),
            DemoEvent::Auditing { home } => {
                self.line("");
                self.line(
                    "Audit: a separate process without network access recomputes every window from a copy of the blobs, in",
                );
                self.line(format_args!("{}", home.display()));
            }
            DemoEvent::Audit { report } => self.tell_audit(report),
            DemoEvent::Text { when, text } => {
                self.line("");
                let what = if *when == "before" { "The untrained model writes:" } else { "The trained model writes:" };
                self.line(what);
                for line in text.lines().filter(|line| !line.trim().is_empty()).take(6) {
                    self.line(format_args!("    {}", line.trim_end()));
                }
            }
        }
    }

    fn tell_node(&mut self, node: &str, event: &NodeEvent) {
        let narrates = node == self.narrator;
        match event {
            NodeEvent::Contributed { window, miner, delta, delta_bytes, ratio_fp32, ratio_bf16, loss, .. }
                if narrates =>
            {
                self.line(format_args!(
                    "window {window} | {} trained and committed to delta {}: {}, {ratio_fp32:.0}x smaller than the fp32 model, training loss {loss:.3}",
                    self.name(miner),
                    delta.short(),
                    bytes(*delta_bytes)
                ));
            }
            NodeEvent::Signed { window, kind, .. } if narrates && kind == "cut" => {
                let signed = self.cuts.entry(*window).or_insert(0);
                *signed += 1;
                if *signed == 2 {
                    self.line(format_args!(
                        "window {window} | both validators agree on which contributions count; now the deltas may be fetched"
                    ));
                }
            }
            NodeEvent::Judged { window, validator, miner, replay, improvement } if replay != "not-drawn" => {
                let (who, whom) = (self.name(validator), self.name(miner));
                if replay == "match" {
                    let word = self.printer.tone(Tone::Good, "match");
                    let step = |by: &f64| {
                        let (change, verdict) = if *by > 0.0 { ("lowers", "good") } else { ("raises", "bad") };
                        format!("; on {who}'s test pages it {change} the loss by {:.4} ({verdict})", by.abs())
                    };
                    let step = improvement.as_ref().map_or_else(String::new, step);
                    self.line(format_args!(
                        "window {window} | {who} recomputes {whom}'s training: {word}, the same hashes{step}"
                    ));
                } else {
                    let word = self.printer.tone(Tone::Bad, "rejected");
                    self.line(format_args!(
                        "window {window} | {who} recomputes {whom}'s training: {word}, {}",
                        refusal(replay)
                    ));
                }
            }
            NodeEvent::Closed {
                window,
                record,
                checkpoint,
                held_out_loss,
                aggregated,
                refused,
                minted_to_miners,
                minted,
                signatures,
            } if narrates => {
                let paid: Vec<String> = minted_to_miners
                    .iter()
                    .map(|(miner, amount)| format!("{} {amount:.2}", self.name(miner)))
                    .collect();
                self.line(format_args!(
                    "window {window} | closed with {signatures} signatures, record {}: {} deltas averaged into the model, {} rejected",
                    record.short(),
                    aggregated.len(),
                    refused.len()
                ));
                self.line(format_args!(
                    "window {window} | held-out loss {held_out_loss:.4} | minted {minted:.2} ALPHA ({}) | checkpoint {}",
                    if paid.is_empty() { "no miner paid".to_owned() } else { paid.join(", ") },
                    checkpoint.short()
                ));
            }
            NodeEvent::Warning { message } => self.line(format_args!("{node}: {message}")),
            NodeEvent::Deadline { window, phase } => {
                self.line(format_args!("{node}: the {phase} deadline of window {window} has passed"));
            }
            _ => {}
        }
    }

    fn tell_audit(&mut self, report: &serde_json::Value) {
        let field = |name: &str| report.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        match field("type") {
            "window" => {
                self.audited += 1;
                let window = report.get("window").and_then(serde_json::Value::as_u64).unwrap_or_default();
                let tone = if field("verdict") == "match" { Tone::Good } else { Tone::Bad };
                let word = self.printer.tone(tone, field("verdict"));
                self.line(format_args!(
                    "window {window} | contributions, scores, checkpoint and balances recomputed: {word}"
                ));
            }
            "contribution" if field("verdict") != "match" => {
                let miner = field("miner").parse().map_or_else(|_| field("miner").to_owned(), |key| self.name(&key));
                self.line(format_args!("{miner}: {} {}", field("verdict"), field("what")));
            }
            _ => {}
        }
    }

    pub(super) fn end(&self, result: &DemoResult, documented: Option<&str>, program: &str) {
        let home = result.home.display();
        self.line("");
        self.line(format_args!(
            "held-out loss    {:.4} -> {:.4} nats a token in {} windows",
            result.loss_first, result.loss_last, result.windows
        ));
        self.line(format_args!("checkpoint       {}", result.checkpoint));
        if let Some(documented) = documented {
            if documented == result.checkpoint.to_string() {
                let word = self.printer.tone(Tone::Good, "the documented hash");
                self.line(format_args!("                 {word}: every machine gets this one"));
            } else {
                let word = self.printer.tone(Tone::Bad, "not the documented hash");
                self.line(format_args!("                 {word}, {documented}: please report this"));
            }
        }
        self.line(format_args!("audit            {} (network: {})", result.audit, result.audit_network));
        self.line(format_args!("rejected         {} contributions", result.rejected.len()));
        for rejected in &result.rejected {
            let name = self.name(&rejected.miner);
            self.line(format_args!(
                "                 window {}: {name}: {}",
                rejected.window,
                refusal(&rejected.reason)
            ));
        }
        self.line(format_args!("minted           {:.2} ALPHA", result.minted));
        self.line("");
        self.line("Try next:");
        for command in ["log", "status", "show @", "audit --window 2", "generate --prompt \"ROMEO. \""] {
            self.line(format_args!("    {program} --home {home}/audit {command}"));
        }
    }
}

/// The reason of a rejection for a newcomer. Where the replay differs, it names the step and the tensor.
fn refusal(reason: &str) -> String {
    match reason.strip_prefix("replay differs from ") {
        Some(place) => format!("recomputing its training gives different weights from {place}"),
        None => reason.to_owned(),
    }
}
