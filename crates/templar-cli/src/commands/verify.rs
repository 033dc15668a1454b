//! `templar verify`: every blob's hash, every entry's signature, every link.

use serde_json::json;
use templar_query::verify::HomeCheck;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Tone, bytes, count};

/// Check everything in the home: hashes, signatures, links
///
/// Blobs that are linked to but not in this home are counted. They are no fault: few homes keep everything.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {}

pub(crate) fn run(invocation: &Invocation, _: &VerifyArgs) -> CommandResult {
    let check = HomeCheck::run(&invocation.read()?)?;
    let (code, verdict, tone) =
        if check.is_sound() { (Code::Ok, "match", Tone::Good) } else { (Code::Verification, "mismatch", Tone::Bad) };
    let mut text: String = check.faults.iter().map(|fault| format!("{fault}\n")).collect();
    text.push_str(&format!(
        "{}: {} of {}, {} entries; linked to but not here: {}",
        invocation.printer.tone(tone, verdict),
        count(check.blobs, "blob"),
        bytes(check.bytes),
        check.entries,
        count(check.missing, "blob")
    ));
    let mut value = serde_json::to_value(&check).unwrap_or_default();
    value["verdict"] = json!(verdict);
    invocation.printer.data(&value, text);
    Ok(code)
}
