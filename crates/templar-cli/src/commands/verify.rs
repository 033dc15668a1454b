//! `templar verify`: every blob's hash, every entry's signature, every link.

use serde_json::json;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_store::ReadError;

use crate::error::{Code, CommandError, CommandResult};
use crate::index::{Fault, Index};
use crate::invocation::Invocation;
use crate::printer::{Tone, bytes, count};
use crate::refold::refold;
use crate::view::Nature;

/// Check everything that is in the home: hashes, signatures, links
///
/// Blobs that are named and not here are counted and are no fault: not every home keeps everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What was gone through.
#[derive(Default)]
struct Counts {
    blobs: u64,
    bytes: u64,
    entries: usize,
    missing: u64,
}

pub(crate) fn run(invocation: &Invocation, _: &Args) -> CommandResult {
    let access = invocation.read()?;
    let mut counts = Counts::default();
    let mut faults = Vec::new();
    journals(&access, &mut counts, &mut faults)?;
    // A journal that is damaged has been told; without it there is no index of what it names.
    let index = match Index::build(&access, None) {
        Ok(index) => index,
        Err(error) if error.code() == Code::Verification => Index::default(),
        Err(error) => return Err(error),
    };
    faults.extend(index.faults.iter().map(describe));
    blobs(&access, &index, &mut counts, &mut faults)?;
    let (code, verdict, tone) =
        if faults.is_empty() { (Code::Ok, "match", Tone::Good) } else { (Code::Verification, "mismatch", Tone::Bad) };
    let mut text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    text.push_str(&format!(
        "{}: {} of {}, {} entries; named and not here: {}",
        invocation.printer.tone(tone, verdict),
        count(counts.blobs, "blob"),
        bytes(counts.bytes),
        counts.entries,
        count(counts.missing, "blob")
    ));
    let value = json!({
        "verdict": verdict, "blobs": counts.blobs, "bytes": counts.bytes, "entries": counts.entries,
        "missing": counts.missing, "faults": faults,
    });
    invocation.printer.data(&value, text);
    Ok(code)
}

fn describe(fault: &Fault) -> String {
    format!("{}: {}", fault.id, fault.what)
}

/// Takes the entries of every run through the rules again: signatures, links, certificates.
fn journals(access: &Access, counts: &mut Counts, faults: &mut Vec<String>) -> Result<(), CommandError> {
    for run in access.home.runs()? {
        let told = |error: CommandError| format!("run {}: {}", run.short(), error.lines().join(": "));
        let checked = || -> Result<usize, CommandError> {
            let records = Journal::read(&access.home.run_dir(&run))?;
            let context = RunContext::open(&access.home, access.blobs(), run)?;
            match refold(&context, &records)? {
                (_, None) => Ok(records.len()),
                (_, Some(wrong)) => Err(CommandError::says(Code::Verification, wrong)),
            }
        };
        match checked() {
            Ok(entries) => counts.entries += entries,
            Err(error) if matches!(error.code(), Code::Verification | Code::NotFound) => faults.push(told(error)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hashes every blob: all of the store, or beside a running node all that anything names.
fn blobs(access: &Access, index: &Index, counts: &mut Counts, faults: &mut Vec<String>) -> Result<(), CommandError> {
    for (id, object) in index.objects() {
        // Contributions, cuts, scores and records live in the journal.
        if object.payload.is_none() && !index.zero_states.contains(id) && !access.blobs().contains(id) {
            counts.missing += 1;
        }
    }
    let name = |id| format!("{} {id}", index.nature(id).map_or("blob", Nature::name));
    if let Some(store) = access.store() {
        let report = access.runtime().block_on(store.scrub(|_| ()))?;
        (counts.blobs, counts.bytes) = (report.checked, report.checked_bytes);
        faults.extend(report.corrupt.iter().map(|id| format!("{} is corrupt on the disk", name(id))));
        faults.extend(report.torn.iter().map(|id| format!("{} was found corrupt and is not whole again", name(id))));
        return Ok(());
    }
    for id in index.objects().keys() {
        match access.blobs().read(id, u64::MAX) {
            Ok(read) => {
                counts.blobs += 1;
                counts.bytes += read.len() as u64;
            }
            Err(ReadError::NotFound { .. }) => {}
            Err(error) => faults.push(CommandError::from(error).lines().join(": ")),
        }
    }
    Ok(())
}
