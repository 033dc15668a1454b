//! The end of the demo's story: the result, the cheats, the pay with its reasons, and commands to try next.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use templar_home::shell::word;
use templar_manifest::PublicKey;
use templar_testkit::demo::{DemoResult, Pay};

use super::advice::{self, Advice};
use super::words::{Names, name_of, refusal};
use crate::printer::{Printer, Tone, alpha, bytes, count, span};

/// The end of a demo.
pub(super) struct Ending<'a> {
    pub(super) printer: Printer,
    pub(super) names: Names,
    pub(super) result: &'a DemoResult,
    /// The documented checkpoint, where the demo ran with its default arguments.
    pub(super) documented: Option<&'a str>,
    pub(super) took: Duration,
    /// Whether the homes were removed.
    pub(super) clean: bool,
    /// How this program was called.
    pub(super) program: &'a OsStr,
}

impl Ending<'_> {
    pub(super) fn tell(&self, advice: &[Advice]) {
        if self.printer.is_json() {
            return;
        }
        let result = self.result;
        self.line("");
        self.line(format_args!(
            "Result: in {} the loss on held-out text went from {:.4} to {:.4} nats a token.",
            count(result.windows, "window"),
            result.loss_first,
            result.loss_last
        ));
        self.tell_checkpoint();
        let verdict = self.printer.tone(tone(result.audit == "match"), &result.audit);
        self.line(format_args!("Audit of all windows: {verdict} (network: {}).", result.audit_network));
        for line in cheats(result, &self.names) {
            self.line(line);
        }
        self.tell_pay(&result.pay);
        self.line("");
        let room = bytes(result.disk_bytes);
        if self.clean {
            self.line(format_args!("The demo took {}. Its homes took {room} and are removed.", span(self.took)));
        } else {
            self.line(format_args!("The demo took {}. The homes take {room}. To remove them:", span(self.took)));
            self.command(format_args!("rm -r {}", word(&result.home)));
            self.line("To look at the run in a browser, and to audit it there:");
            self.command(advice::at(self.program, &result.home.join("audit"), "explore"));
        }
        self.line("");
        self.line("Try next:");
        for Advice { what, command } in advice {
            self.line(format_args!("  {what}"));
            self.command(command);
        }
    }

    fn line(&self, text: impl std::fmt::Display) {
        self.printer.data(&(), self.printer.prose(&text.to_string(), "  "));
    }

    /// A command is not wrapped, so that it can be copied.
    fn command(&self, command: impl std::fmt::Display) {
        self.printer.data(&(), format_args!("    {command}"));
    }

    fn tell_checkpoint(&self) {
        let checkpoint = self.result.checkpoint.to_string();
        self.line(format_args!("Final model: checkpoint {checkpoint}"));
        let Some(documented) = self.documented else { return };
        if documented == checkpoint {
            let word = self.printer.tone(Tone::Good, "the documented hash");
            self.line(format_args!("  This is {word}. Every machine gets this one."));
        } else {
            let word = self.printer.tone(Tone::Bad, "not the documented hash");
            self.line(format_args!("  This is {word}, {documented}. Please report it."));
        }
    }

    fn tell_pay(&self, pay: &Pay) {
        self.line("");
        self.line(format_args!("Pay in ALPHA, the currency of the run, for {}:", count(self.result.windows, "window")));
        for (who, micros) in rows(pay, &self.names) {
            self.printer.data(&(), format_args!("  {who:<14}{:>14}", alpha(micros)));
        }
        self.line(
            "Miners are paid for training steps that were repeated with the same result, and a little more or less for \
             what the steps were worth. Validators are paid for repeating and measuring, and the treasury gets its \
             share. Nothing is minted for steps that nobody proved, nor what rounding leaves.",
        );
    }
}

fn tone(good: bool) -> Tone {
    if good { Tone::Good } else { Tone::Bad }
}

/// The pay of each participant. The rows before the last add up to the last.
fn rows(pay: &Pay, names: &Names) -> Vec<(String, u64)> {
    let mut rows: Vec<(String, u64)> = Vec::new();
    for (key, name) in by_name(names) {
        let paid = if name.starts_with("validator") { &pay.validators } else { &pay.miners };
        rows.push((name.to_owned(), paid.get(key).copied().unwrap_or_default()));
    }
    rows.push(("treasury".to_owned(), pay.treasury_micros));
    rows.push(("not minted".to_owned(), pay.not_minted_micros()));
    rows.push(("together".to_owned(), pay.emission_micros));
    rows
}

/// The nodes, sorted by role and number.
fn by_name(names: &Names) -> Vec<(&PublicKey, &str)> {
    let mut sorted: Vec<(&PublicKey, &str)> = names.iter().map(|(key, name)| (key, name.as_str())).collect();
    sorted.sort_by_key(|(_, name)| (name.starts_with("validator"), name.len(), name.to_owned()));
    sorted
}

/// The cheats that were caught, one line for each miner and reason.
fn cheats(result: &DemoResult, names: &Names) -> Vec<String> {
    let mut found = BTreeMap::<(String, &str), u64>::new();
    for rejected in &result.rejected {
        *found.entry((name_of(names, &rejected.miner), &rejected.reason)).or_default() += 1;
    }
    if found.is_empty() {
        return vec!["No update was rejected.".to_owned()];
    }
    let line = |((miner, reason), windows): ((String, &str), u64)| {
        format!("Caught: {miner}, rejected in {}: {}.", count(windows, "window"), refusal(reason))
    };
    found.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_pay_add_up() {
        let key = |number| PublicKey::from_bytes([number; 32]);
        let names: Names = [(1, "miner-10"), (2, "validator-1"), (3, "miner-2"), (4, "miner-1")]
            .map(|(number, name)| (key(number), name.to_owned()))
            .into();
        let pay = Pay {
            emission_micros: 100,
            miners: [(key(3), 7), (key(1), 2)].into(),
            validators: [(key(2), 20)].into(),
            treasury_micros: 5,
        };
        let rows = rows(&pay, &names);
        let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["miner-1", "miner-2", "miner-10", "validator-1", "treasury", "not minted", "together"]);
        let (sum, parts) = rows.split_last().unwrap();
        assert_eq!(parts.iter().map(|(_, micros)| micros).sum::<u64>(), sum.1);
        assert_eq!(sum.1, 100);
    }
}
