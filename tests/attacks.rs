//! One hostile input for each rule, with the error that the documentation promises.
//!
//! `attacks/README.md` has one table for each part, with the input and the answer of the program. Each test
//! makes the inputs and compares the errors with its table, word for word. In the tables `…` stands for any
//! text (a hash, a key, an offset). The inputs are the examples of `manifests/`, changed in one place.

mod aggregate;
mod blob;
mod delta;
pub(crate) mod entry;
pub(crate) mod payload;
pub(crate) mod rules;
pub(crate) mod signature;
mod ticket;

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::Value;

/// One attack: the name of its input, the answer of the program, and what a second implementation is to judge.
pub(crate) struct Attack {
    pub(crate) input: &'static str,
    error: String,
    /// The input as `verifier/corpus.py` reads it; `None` where only a node can refuse it.
    pub(crate) sent: Option<Value>,
}

/// An answer of the program, with the bytes that it is about.
pub(crate) struct Told<T, E> {
    pub(crate) answer: Result<T, E>,
    pub(crate) sent: Value,
}

/// Something that an attack is answered with.
pub(crate) trait Answer {
    /// The error, or `None` where the input was accepted; and the bytes.
    fn parts(self) -> (Option<String>, Option<Value>);
}

impl<T, E: Error> Answer for Result<T, E> {
    fn parts(self) -> (Option<String>, Option<Value>) {
        (self.err().map(|error| templar_audit::chain(&error)), None)
    }
}

impl<T, E: Error> Answer for Told<T, E> {
    fn parts(self) -> (Option<String>, Option<Value>) {
        (self.answer.parts().0, Some(self.sent))
    }
}

/// An attack that must fail with an error.
pub(crate) fn refused(input: &'static str, answer: impl Answer) -> Attack {
    let (Some(error), sent) = answer.parts() else { panic!("{input}: accepted") };
    Attack { input, error, sent }
}

/// An attack that is answered with something other than an error.
pub(crate) fn answered(input: &'static str, answer: impl ToString) -> Attack {
    Attack { input, error: answer.to_string(), sent: None }
}

/// Whether `text` is `pattern` with something in place of each `…`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        if index + 1 == parts.len() && rest.ends_with(part) {
            return true;
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// The rows of a table of the documentation: input and answer.
pub(crate) fn documented(section: &str) -> BTreeMap<&'static str, &'static str> {
    let heading = format!("## {section}");
    let lines = include_str!("attacks/README.md").lines().skip_while(move |line| *line != heading).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.strip_suffix("` |")?.split_once(" | `"))
        .map(|(input, error)| (input.trim_end(), error))
        .collect()
}

/// Compares attacks with the table about them in the documentation.
fn check(section: &str, attacks: Vec<Attack>) {
    let documented = documented(section);
    let mut faults = Vec::new();
    for attack in &attacks {
        if !documented.get(attack.input).is_some_and(|error| matches(error, &attack.error)) {
            faults.push(format!("| {} | `{}` |", attack.input, attack.error));
        }
    }
    let made = |input: &str| attacks.iter().any(|attack| attack.input == input);
    faults.extend(documented.keys().filter(|input| !made(input)).map(|input| format!("no test sends: {input}")));
    assert!(faults.is_empty(), "attacks/README.md, {section}, does not say:\n{}", faults.join("\n"));
    assert_eq!(documented.len(), attacks.len(), "two attacks of one name");
}

#[test]
fn payloads_are_refused() {
    check("Payloads", payload::attacks());
}

#[test]
fn payloads_that_break_a_rule_are_refused() {
    check("Rules of a kind", payload::broken_rules());
}

#[test]
fn signatures_are_refused() {
    check("Signatures", signature::attacks());
}

#[test]
fn entries_are_refused() {
    check("Entries", entry::attacks());
}

#[test]
fn statements_about_a_window_are_refused() {
    check("Statements about a window", rules::attacks());
}

#[test]
fn records_are_refused() {
    check("Records", rules::records());
}

#[test]
fn deltas_are_refused() {
    check("Deltas", delta::attacks());
}

#[test]
fn aggregates_are_refused() {
    check("Aggregates", aggregate::attacks());
}

#[test]
fn blobs_are_refused() {
    check("Other blobs", blob::attacks());
}

#[test]
fn tickets_are_refused() {
    check("Tickets", ticket::attacks());
}

#[test]
fn patterns_match_what_they_say() {
    assert!(matches("a … c", "a b c") && matches("a…", "abc") && matches("a", "a") && matches("…b…", "abc"));
    assert!(!matches("a … c", "a b d") && !matches("a", "ab") && !matches("b…", "abc") && !matches("a…b", "abc"));
}
