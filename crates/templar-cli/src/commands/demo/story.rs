//! The story that the demo tells while it runs.
//!
//! All nodes see the same signed entries, so the lines about those come from the first validator alone. Each
//! node's own work, such as a replay or a failure, is reported by that node. Beside a bar, only the first window is
//! told step by step and each later one in one line. Without a bar, every event is a line.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use templar_manifest::PublicKey;
use templar_node::event::NodeEvent;
use templar_testkit::demo::{DemoEvent, DemoParticipant, Forecast};

use super::progress::Progress;
use super::words::{Names, name_of, refusal};
use crate::printer::{Printer, Tone, amount, bytes, count, span};

/// Tells the demo, event by event.
pub(super) struct Story {
    printer: Printer,
    clean: bool,
    names: Names,
    narrator: String,
    cuts: BTreeMap<u64, usize>,
    audited: u64,
    forecast: Option<Forecast>,
    progress: Progress,
}

impl Story {
    /// A story for this printer. `clean`: the homes are removed at the end.
    pub(super) fn new(printer: Printer, clean: bool) -> Self {
        let progress = Progress::new(printer);
        Self {
            printer,
            clean,
            names: BTreeMap::new(),
            narrator: String::new(),
            cuts: BTreeMap::new(),
            audited: 0,
            forecast: None,
            progress,
        }
    }

    /// Ends the story. Gives the names of the nodes.
    pub(super) fn end(self) -> Names {
        self.progress.end();
        self.names
    }

    /// Prints a paragraph for a person. A program has read the event itself.
    fn line(&self, text: impl std::fmt::Display) {
        if self.printer.talks() {
            let text = self.printer.prose(&text.to_string(), "  ");
            self.progress.aside(|| self.printer.data(&(), text));
        }
    }

    fn name(&self, key: &PublicKey) -> String {
        name_of(&self.names, key)
    }

    /// Whether the events of this window are told one by one.
    fn tells(&self, window: u64) -> bool {
        window == 0 || !self.progress.is_drawn()
    }

    pub(super) fn tell(&mut self, event: &DemoEvent) {
        match event {
            DemoEvent::Planned { home, validators, miners } => self.tell_plan(home, *validators, *miners),
            DemoEvent::Forecast { forecast } => {
                self.forecast = Some(*forecast);
                self.line(format_args!(
                    "It takes about {} here: {} of training and checking, then an audit of all of it.",
                    span(Duration::from_secs_f64(forecast.total_s())),
                    count(forecast.windows, "window")
                ));
                self.line("");
            }
            DemoEvent::Ready { participants, .. } => {
                self.names =
                    participants.iter().map(|participant| (participant.key, participant.name.clone())).collect();
                self.narrator = participants.first().map(|first| first.name.clone()).unwrap_or_default();
                self.tell_setting(event, participants);
            }
            DemoEvent::Node { node, event } => {
                self.tell_node(node, event);
                self.progress.node(node, event);
            }
            DemoEvent::Auditing { home } => {
                self.line("");
                self.line(format_args!(
                    "Audit: another process gives up the network, and computes every window again from a copy of the \
                     files in {}. It trusts nobody's word.",
                    home.display()
                ));
                self.progress.audit(0);
            }
            DemoEvent::Audit { report } => self.tell_audit(report),
            DemoEvent::Text { when, text } => {
                self.line("");
                self.line(format_args!(
                    "The {} model writes:",
                    if *when == "before" { "untrained" } else { "trained" }
                ));
                for line in text.lines().filter(|line| !line.trim().is_empty()).take(6) {
                    self.line(format_args!("    {}", line.trim_end()));
                }
            }
        }
    }

    fn tell_plan(&self, home: &Path, validators: u32, miners: u32) {
        self.line(format_args!(
            "Strangers train one model, and nobody has to be trusted: this demo shows how, with {} and {} on this \
             machine. Each is a process with a home, a key and a network endpoint of its own.",
            count(validators, "validator"),
            count(miners, "miner")
        ));
        let after = if self.clean { "removed at the end" } else { "kept; --clean removes them at the end" };
        self.line(format_args!("The homes are in {} ({after}).", home.display()));
    }

    fn tell_setting(&mut self, ready: &DemoEvent, participants: &[DemoParticipant]) {
        let DemoEvent::Ready { run, parameters, vocab_size, training_tokens, held_out_loss, steps, .. } = ready else {
            return;
        };
        let guessing = f64::from(*vocab_size).log2() * std::f64::consts::LN_2;
        self.line(format_args!(
            "The model has {} parameters and learns from {} tokens of Shakespeare. Before training, its loss on text \
             that nobody trains on is {held_out_loss:.2} nats a token; guessing gives {guessing:.2}.",
            amount(*parameters as f64),
            amount(*training_tokens as f64)
        ));
        for cheat in participants.iter().filter(|participant| participant.cheats) {
            self.line(format_args!("{} cheats: it sends updates that look right, and never trains.", cheat.name));
        }
        self.line(format_args!("run {run}"));
        self.line("");
        self.line(format_args!(
            "One window: every miner starts from the same model and takes {} on pages of its own. It commits to the \
             hash of its update before anybody may read it. Validators repeat the training and compare every hash, \
             test the update, and agree on a record. The accepted updates give the next model.",
            count(*steps, "step")
        ));
        self.line("");
        let miners = participants.iter().filter(|participant| participant.name.starts_with('m')).count();
        let honest = participants.iter().filter(|one| one.name.starts_with('m') && !one.cheats).count();
        if let Some(forecast) = self.forecast {
            self.progress.begin(forecast, *steps, honest, miners * (participants.len() - miners));
        }
    }

    fn tell_node(&mut self, node: &str, event: &NodeEvent) {
        let narrates = node == self.narrator;
        match event {
            NodeEvent::Contributed { window, miner, delta, delta_bytes, ratio_fp32, loss, .. }
                if narrates && self.tells(*window) =>
            {
                self.line(format_args!(
                    "window {window} | {} has an update and commits to its hash {}: {}, {ratio_fp32:.0}x smaller than \
                     the model, training loss {loss:.3}",
                    self.name(miner),
                    delta.short(),
                    bytes(*delta_bytes)
                ));
            }
            NodeEvent::Signed { window, kind, .. } if narrates && kind == "cut" => {
                let signed = self.cuts.entry(*window).or_insert(0);
                *signed += 1;
                if *signed == 2 && self.tells(*window) {
                    self.line(format_args!(
                        "window {window} | the validators agree on which updates came in time; only now may others read \
                         them, so nobody can copy"
                    ));
                }
            }
            NodeEvent::Judged { window, validator, miner, replay, improvement }
                if replay != "not-drawn" && self.tells(*window) =>
            {
                self.tell_judged(*window, [validator, miner], replay, *improvement);
            }
            NodeEvent::Closed { .. } if narrates => self.tell_closed(event),
            NodeEvent::Warning { message, .. } => self.line(format_args!("{node}: {message}")),
            NodeEvent::Deadline { window, phase } => {
                self.line(format_args!("{node}: the {phase} deadline of window {window} has passed"));
            }
            _ => {}
        }
    }

    fn tell_judged(&self, window: u64, [validator, miner]: [&PublicKey; 2], replay: &str, improvement: Option<f64>) {
        let (who, whom) = (self.name(validator), self.name(miner));
        if replay != "match" {
            let word = self.printer.tone(Tone::Bad, "rejected");
            self.line(format_args!("window {window} | {who} repeats {whom}'s training: {word}, {}", refusal(replay)));
            return;
        }
        let word = self.printer.tone(Tone::Good, "the same hashes");
        let tested = improvement.map_or_else(String::new, |by| {
            let (change, verdict) = if by > 0.0 { ("lowers", "good") } else { ("raises", "bad") };
            format!("; on the window's test pages the update {change} the loss by {:.4} ({verdict})", by.abs())
        });
        self.line(format_args!("window {window} | {who} repeats {whom}'s training: {word}{tested}"));
    }

    fn tell_closed(&self, closed: &NodeEvent) {
        let NodeEvent::Closed {
            window,
            record,
            checkpoint,
            held_out_loss,
            aggregated,
            refused,
            minted_to_miners,
            minted,
            signatures,
        } = closed
        else {
            return;
        };
        let paid: Vec<String> =
            minted_to_miners.iter().map(|(miner, amount)| format!("{} {amount:.2}", self.name(miner))).collect();
        let paid = if paid.is_empty() { "no miner paid".to_owned() } else { paid.join(", ") };
        let rejected: Vec<String> = refused.iter().map(|one| self.name(&one.miner)).collect();
        let rejected = if rejected.is_empty() { "nobody".to_owned() } else { rejected.join(", ") };
        if self.tells(*window) {
            self.line(format_args!(
                "window {window} | closed with {}, record {}: {} averaged into the model, {} rejected",
                count(*signatures as u64, "signature"),
                record.short(),
                count(aggregated.len() as u64, "update"),
                refused.len()
            ));
            self.line(format_args!(
                "window {window} | held-out loss {held_out_loss:.4} | minted {minted:.2} ALPHA ({paid}) | checkpoint {}",
                checkpoint.short()
            ));
        } else {
            self.line(format_args!(
                "window {window} | {} averaged, rejected: {rejected} | held-out loss {held_out_loss:.4} | minted \
                 {minted:.2} ALPHA ({paid})",
                count(aggregated.len() as u64, "update")
            ));
        }
    }

    fn tell_audit(&mut self, report: &serde_json::Value) {
        let field = |name: &str| report.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        match field("type") {
            "window" => {
                self.audited += 1;
                self.progress.audit(self.audited);
                let window = report.get("window").and_then(serde_json::Value::as_u64).unwrap_or_default();
                let tone = if field("verdict") == "match" { Tone::Good } else { Tone::Bad };
                let word = self.printer.tone(tone, field("verdict"));
                self.line(format_args!("window {window} | updates, scores, model and balances computed again: {word}"));
            }
            "contribution" if field("verdict") != "match" => {
                let miner = field("miner").parse().map_or_else(|_| field("miner").to_owned(), |key| self.name(&key));
                self.line(format_args!("{miner}: {} {}", field("verdict"), field("what")));
            }
            _ => {}
        }
    }
}
