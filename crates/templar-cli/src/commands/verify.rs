//! `templar verify`: every blob's hash, every entry's signature, every link.

use serde_json::json;
use templar_query::audit::findings::AuditAnswer;
use templar_query::verify::HomeCheck;

use crate::error::{CommandResult, repair_hint};
use crate::invocation::Invocation;
use crate::printer::{bytes, count};
use crate::verdict;

/// Check everything in the home: hashes, signatures, links
///
/// Ends with `match`; with `unavailable: damaged here` (exit code 5) where this home has lost something; or with
/// `mismatch` (exit code 4) where something is whole and breaks the rules. Blobs that are linked to but not in this
/// home are counted. They are no fault: few homes keep everything.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {}

pub(crate) fn run(invocation: &Invocation, _: &VerifyArgs) -> CommandResult {
    let printer = invocation.printer;
    let check = HomeCheck::run(&invocation.read().map_err(verdict::unopened)?)?;
    let answer = check.answer();
    let mut text: String = check.faults.iter().map(|fault| format!("{fault}\n")).collect();
    text.push_str(&format!(
        "{}: {} of {}, {} entries; linked to but not here: {}",
        verdict::own_word(printer, answer.verdict),
        count(check.blobs, "blob"),
        bytes(check.bytes),
        check.entries,
        count(check.missing, "blob")
    ));
    let hint = match (answer.verdict, check.damaged.first()) {
        (AuditAnswer::Match, _) => None,
        (_, Some(blob)) => Some(repair_hint(blob)),
        (_, None) => Some("`templar store scrub` repairs the files of this home".to_owned()),
    };
    let mut value = serde_json::to_value(&check).unwrap_or_default();
    (value["verdict"], value["what"], value["hint"]) = (json!(answer.verdict), json!(answer.what), json!(hint));
    printer.data(&value, text);
    if let Some(hint) = hint {
        printer.talk(format_args!("hint: {hint}"));
    }
    Ok(verdict::code(answer.verdict))
}
