//! One hostile input for each rule, with the error that the documentation promises.
//!
//! `attacks/README.md` has one table for each part, with the input and the answer of the program. Each test
//! makes the inputs and compares the errors with its table, word for word. In the tables `…` stands for any
//! text (a hash, a key, an offset). The inputs are the examples of `manifests/`, changed in one place.

mod aggregate;
mod blob;
mod delta;
mod entry;
mod payload;
mod rules;
mod signature;
mod ticket;

use std::collections::BTreeMap;
use std::error::Error;

/// One attack: the name of its input, and the answer of the program.
pub(crate) struct Attack {
    input: &'static str,
    error: String,
}

/// An attack that must fail with an error.
pub(crate) fn refused<T, E: Error>(input: &'static str, result: Result<T, E>) -> Attack {
    let Err(error) = result else { panic!("{input}: accepted") };
    Attack { input, error: templar_audit::chain(&error) }
}

/// An attack that is answered with something other than an error.
pub(crate) fn answered(input: &'static str, answer: impl ToString) -> Attack {
    Attack { input, error: answer.to_string() }
}

/// Whether `text` is `pattern` with something in place of each `…`.
fn matches(pattern: &str, text: &str) -> bool {
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

/// Compares attacks with the table about them in the documentation.
fn check(section: &str, attacks: Vec<Attack>) {
    let heading = format!("## {section}");
    let lines = include_str!("attacks/README.md").lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| "));
    let documented: BTreeMap<&str, &str> = rows
        .filter_map(|row| row.strip_suffix("` |")?.split_once(" | `"))
        .map(|(input, error)| (input.trim_end(), error))
        .collect();
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
