//! The lines that an audit prints.

use serde_json::json;
use templar_query::audit::findings::{AuditAnswer, AuditFinding, AuditSummary, VerdictView};

use crate::error::Code;
use crate::offline::NetworkAccess;
use crate::printer::{Printer, Tone, count};

/// The printer of an audit, and the state of the network for its last line.
pub(super) struct AuditPrinter {
    pub(super) printer: Printer,
    pub(super) network: NetworkAccess,
}

impl AuditPrinter {
    /// A verdict with its reason, the first word coloured.
    fn words(&self, verdict: &VerdictView) -> String {
        let word = self.printer.tone(tone(verdict.verdict), verdict.verdict.name());
        verdict.what.as_ref().map_or_else(|| word.clone(), |what| format!("{word}: {what}"))
    }

    pub(super) fn finding(&self, finding: &AuditFinding) {
        let text = match finding {
            AuditFinding::Genesis { run, checkpoint, verdict } => {
                format!("run {} first checkpoint {} {}", run.short(), checkpoint.short(), self.words(verdict))
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
        let code = match answer.verdict {
            AuditAnswer::Match => Code::Ok,
            AuditAnswer::Mismatch => Code::Verification,
            AuditAnswer::Unavailable => Code::Partial,
        };
        let value = json!({
            "type": "result", "verdict": answer.verdict, "what": answer.what, "windows": summary.windows,
            "contributions": summary.contributions, "network": self.network.name(),
        });
        let network = self.network.name().map_or_else(String::new, |name| format!("; network {name}"));
        let text = format!(
            "{}: {}, {}{network}",
            self.words(&answer),
            count(summary.windows, "window"),
            count(summary.contributions, "contribution")
        );
        self.printer.data(&value, text);
        code
    }
}

fn tone(answer: AuditAnswer) -> Tone {
    match answer {
        AuditAnswer::Match => Tone::Good,
        AuditAnswer::Mismatch => Tone::Bad,
        AuditAnswer::Unavailable => Tone::Unsure,
    }
}
