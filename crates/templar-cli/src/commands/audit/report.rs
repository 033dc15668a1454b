//! The lines that an audit prints.

use serde_json::json;
use templar_query::audit::findings::{AuditFinding, AuditSummary, VerdictView};
use templar_query::audit::head::AuditedHead;

use crate::error::{Code, repair_hint};
use crate::offline::NetworkAccess;
use crate::printer::{Printer, count};
use crate::verdict;

/// The printer of an audit, and the state of the network for its last line.
pub(super) struct AuditPrinter {
    pub(super) printer: Printer,
    pub(super) network: NetworkAccess,
}

impl AuditPrinter {
    /// A verdict with its reason, the first word coloured.
    fn words(&self, verdict: &VerdictView) -> String {
        let word = verdict::word(self.printer, verdict.verdict);
        verdict.what.as_ref().map_or_else(|| word.clone(), |what| format!("{word}: {what}"))
    }

    pub(super) fn finding(&self, finding: &AuditFinding) {
        let text = match finding {
            AuditFinding::Genesis { run, checkpoint, verdict } => {
                let checkpoint = checkpoint.map_or_else(String::new, |id| format!(" {}", id.short()));
                format!("run {} first checkpoint{checkpoint} {}", run.short(), self.words(verdict))
            }
            AuditFinding::Head { head, verdict } => {
                let head = head.as_ref().map_or_else(|| "no record".to_owned(), signed);
                format!("last: {head}, {}", self.words(verdict))
            }
            AuditFinding::Peers { answered, ahead, verdict } => {
                let said = match ahead {
                    None => "no later record is known".to_owned(),
                    Some(ahead) => format!("window {} is closed, with record {}", ahead.window, ahead.record.short()),
                };
                format!("{} asked: {said}, {}", count(*answered as u64, "peer"), self.words(verdict))
            }
            AuditFinding::Journal { entries, verdict } => {
                format!("journal, {entries} entries, {}", self.words(verdict))
            }
            AuditFinding::Contribution { window, miner, verdict, .. } => {
                format!("w{window} contribution of {} {}", miner.short(), self.words(verdict))
            }
            AuditFinding::Window(found) => {
                let window = found.window;
                let part = |(part, verdict)| format!("w{window} {part} {}\n", self.words(verdict));
                let mut text: String = found.parts().into_iter().map(part).collect();
                if let (Some(audit), Some(signed)) = (found.audit, found.signed) {
                    text.push_str(&format!("w{window} audit {}, signed {}\n", audit.short(), signed.short()));
                }
                text
            }
            AuditFinding::NotReached { window, verdict } => format!("w{window} {}", self.words(verdict)),
            AuditFinding::Blobs { checked, verdict } => format!("{checked} blobs hashed, {}", self.words(verdict)),
        };
        self.printer.document(finding, text);
    }

    /// Prints the answer, and gives its exit code.
    pub(super) fn end(&self, summary: &AuditSummary) -> Code {
        let answer = summary.answer();
        let hint = hint(summary);
        let value = json!({
            "type": "result", "verdict": answer.verdict, "what": answer.what, "run": summary.run,
            "name": summary.name, "windows": summary.windows, "first_window": summary.first_window,
            "last_window": summary.record.as_ref().map(|head| head.window), "record": summary.record,
            "contributions": summary.contributions, "replayed": summary.replayed,
            "ahead": summary.ahead,
            "damaged": summary.damaged.keys().collect::<Vec<_>>(), "hint": hint, "network": self.network.name(),
        });
        let network = self.network.name().map_or_else(String::new, |name| format!("; network {name}"));
        let name = summary.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let mut text = format!("run {}{name}", summary.run.short());
        if let (Some(first), Some(head)) = (summary.first_window, &summary.record) {
            let windows = if first == head.window {
                format!("window {first}")
            } else {
                format!("windows {first} to {}", head.window)
            };
            text.push_str(&format!(", {windows}; {}", signed(head)));
        }
        text.push_str(&format!(
            "\n{}: {}, {} of {} replayed{network}",
            self.words(&answer),
            count(summary.windows, "window"),
            summary.replayed,
            count(summary.contributions, "contribution")
        ));
        self.printer.data(&value, text);
        if let Some(hint) = hint {
            self.printer.talk(format_args!("hint: {hint}"));
        }
        verdict::code(answer.verdict)
    }
}

/// A record with the signatures that make it final.
fn signed(head: &AuditedHead) -> String {
    let AuditedHead { window, record, signers, validators, stake, total_stake } = head;
    let (record, percent) = (record.short(), *stake as f64 * 100.0 / *total_stake as f64);
    format!(
        "record {record} of window {window}, signed by {} of {} with {percent:.0} % of the stake",
        signers.len(),
        count(*validators as u64, "validator")
    )
}

/// A command that repairs what is damaged here, or brings what is missing.
fn hint(summary: &AuditSummary) -> Option<String> {
    if let Some(blob) = summary.damaged.keys().next() {
        return Some(repair_hint(blob));
    }
    let run = summary.run;
    if !summary.has_own_fault && summary.ahead.is_some() {
        return Some(format!("`templar fetch {run}` brings the windows that peers have"));
    }
    if !summary.has_own_fault && summary.windows == 0 {
        return Some(format!(
            "`templar status` says where the run stands; `templar fetch {run}` brings what peers have"
        ));
    }
    if summary.has_own_fault {
        return Some(format!(
            "`templar store scrub` repairs the files of this home; `templar fetch {run}` brings what peers have"
        ));
    }
    let is_missing = summary.mismatch.is_none() && summary.unavailable.is_some();
    is_missing.then(|| format!("`templar fetch {run}` asks peers for what is missing"))
}
