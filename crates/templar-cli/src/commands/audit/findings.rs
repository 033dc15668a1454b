//! What an audit prints as it finds it, and the answer that it comes to: the worst of all verdicts.

use serde_json::json;
use templar_audit::WindowAudit;
use templar_manifest::{AuditEntry, AuditVerdict, CheckpointId, Hash, RunId, WindowIndex};
use templar_protocol::ClosedWindow;

use super::{verdict_json, word};
use crate::error::Code;
use crate::offline::Network;
use crate::printer::{Printer, Tone, count};

/// Where a signed audit is kept.
pub(super) struct Kept {
    /// The manifest.
    pub(super) manifest: Hash,
    /// The manifest with its signature, as an entry.
    pub(super) envelope: Hash,
}

/// The findings so far.
pub(super) struct Findings {
    printer: Printer,
    network: Network,
    windows: u64,
    contributions: u64,
    mismatch: Option<String>,
    unavailable: Option<String>,
}

impl Findings {
    pub(super) fn new(printer: Printer, network: Network) -> Self {
        Self { printer, network, windows: 0, contributions: 0, mismatch: None, unavailable: None }
    }

    pub(super) fn talk(&self, text: impl std::fmt::Display) {
        self.printer.talk(text);
    }

    /// Counts a verdict and gives it in words.
    fn take(&mut self, verdict: &AuditVerdict, place: &str) -> String {
        let tone = match verdict {
            AuditVerdict::Match => Tone::Good,
            AuditVerdict::Mismatch { what } => {
                self.mismatch.get_or_insert_with(|| format!("{place}: {what}"));
                Tone::Bad
            }
            AuditVerdict::Unavailable { what } => {
                self.unavailable.get_or_insert_with(|| format!("{place}: {what}"));
                Tone::Unsure
            }
        };
        let word = self.printer.tone(tone, word(verdict));
        match verdict {
            AuditVerdict::Match => word,
            AuditVerdict::Mismatch { what } | AuditVerdict::Unavailable { what } => format!("{word}: {what}"),
        }
    }

    pub(super) fn start(&mut self, run: RunId, checkpoint: CheckpointId, verdict: &AuditVerdict) {
        let words = self.take(verdict, "genesis");
        let mut value = verdict_json(verdict);
        value["type"] = json!("genesis");
        value["run"] = json!(run);
        value["checkpoint"] = json!(checkpoint);
        let text = format!("run {} first checkpoint {} {words}", run.short(), checkpoint.short());
        self.printer.data(&value, text);
    }

    pub(super) fn journal(&mut self, entries: usize, verdict: &AuditVerdict) {
        let words = self.take(verdict, "journal");
        let mut value = verdict_json(verdict);
        value["type"] = json!("journal");
        value["entries"] = json!(entries);
        self.printer.data(&value, format_args!("journal, {entries} entries, {words}"));
    }

    pub(super) fn contribution(&mut self, window: WindowIndex, entry: &AuditEntry) {
        self.contributions += 1;
        let words = self.take(&entry.verdict, &format!("window {window}, miner {}", entry.miner.short()));
        let mut value = verdict_json(&entry.verdict);
        value["type"] = json!("contribution");
        value["window"] = json!(window);
        value["miner"] = json!(entry.miner);
        value["contribution"] = json!(entry.contribution);
        let text = format!("w{window} contribution of {} {words}", entry.miner.short());
        self.printer.data(&value, text);
    }

    pub(super) fn window(&mut self, found: &WindowAudit, kept: Option<Kept>) {
        self.windows += 1;
        let audit = &found.audit;
        let window = audit.window;
        let parts = [
            ("record", &audit.record_verdict),
            ("checkpoint", &audit.checkpoint_verdict),
            ("ledger", &audit.ledger_verdict),
        ];
        let mut text = String::new();
        for (part, verdict) in parts {
            let words = self.take(verdict, &format!("window {window}, {part}"));
            text.push_str(&format!("w{window} {part} {words}\n"));
        }
        let value = json!({
            "type": "window", "window": window, "manifest": audit.record, "verdict": word(found.verdict()),
            "record": verdict_json(&audit.record_verdict), "checkpoint": verdict_json(&audit.checkpoint_verdict),
            "ledger": verdict_json(&audit.ledger_verdict),
            "audit": kept.as_ref().map(|kept| kept.manifest), "signed": kept.as_ref().map(|kept| kept.envelope),
        });
        if let Some(kept) = &kept {
            text.push_str(&format!("w{window} audit {}, signed {}\n", kept.manifest.short(), kept.envelope.short()));
        }
        self.printer.data(&value, text);
    }

    /// Windows that could not be recomputed because of an earlier one.
    pub(super) fn not_reached(&mut self, windows: &[ClosedWindow], why: &str) {
        for closed in windows {
            let window = closed.window.window;
            let verdict = AuditVerdict::Unavailable { what: why.to_owned() };
            let words = self.take(&verdict, &format!("window {window}"));
            let mut value = verdict_json(&verdict);
            value["type"] = json!("window");
            value["window"] = json!(window);
            self.printer.data(&value, format_args!("w{window} {words}"));
        }
    }

    pub(super) fn blobs(&mut self, checked: u64, verdict: &AuditVerdict) {
        let words = self.take(verdict, "blobs");
        let mut value = verdict_json(verdict);
        value["type"] = json!("blobs");
        value["checked"] = json!(checked);
        self.printer.data(&value, format_args!("{checked} blobs hashed, {words}"));
    }

    /// The answer.
    pub(super) fn end(self) -> Code {
        let (code, tone, verdict, what) = match (&self.mismatch, &self.unavailable) {
            (Some(what), _) => (Code::Verification, Tone::Bad, "mismatch", Some(what)),
            (None, Some(what)) => (Code::Partial, Tone::Unsure, "unavailable", Some(what)),
            (None, None) => (Code::Ok, Tone::Good, "match", None),
        };
        let value = json!({
            "type": "result", "verdict": verdict, "what": what, "windows": self.windows,
            "contributions": self.contributions, "network": self.network.name(),
        });
        let network = self.network.name().map_or_else(String::new, |name| format!("; network {name}"));
        let what = what.map_or_else(String::new, |what| format!(": {what}"));
        let text = format!(
            "{}{what}: {}, {}{network}",
            self.printer.tone(tone, verdict),
            count(self.windows, "window"),
            count(self.contributions, "contribution")
        );
        self.printer.data(&value, text);
        code
    }
}
