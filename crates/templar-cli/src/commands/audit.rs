//! `templar audit`: recomputes every verdict of every record, from the blobs and the journal of this home alone.

mod peers;
mod report;

use templar_home::access::Access;
use templar_home::context::RunError;
use templar_manifest::{Audit, PublicKey, SecretKey, Signed, WindowIndex, payload};
use templar_protocol::Entry;
use templar_query::audit::AuditPlan;
use templar_query::audit::findings::{AuditEvent, AuditFinding, WindowFinding};
use templar_query::audit::head::AskPeers;
use templar_query::find::run_id;
use templar_query::reference::{Reference, parse_window};

use self::peers::KnownPeers;
use self::report::AuditPrinter;
use crate::compute::Compute;
use crate::error::{CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::offline::NetworkAccess;
use crate::printer::count;
use crate::session::sync;
use crate::verdict;

/// Recompute what the records say, from blobs alone
///
/// Replays every contribution, measures every score, takes every outer step and settles every balance again.
/// Ends with `match`; with `mismatch` (exit code 4) and the first difference; or with `unavailable` (exit code
/// 5) and the missing input. An input that this home has lost is `damaged here`: it says nothing about others, and
/// nothing is signed. An audit without a closed window is `unavailable` too.
///
/// Everything is recomputed from this home alone. Without --offline, the peers that the home knows are asked whether
/// they have a later record; a home that is behind is `unavailable`, and what it has is audited all the same.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    /// Audit only this window
    #[arg(long, value_name = "N", value_parser = parse_window, conflicts_with = "all")]
    window: Option<WindowIndex>,
    /// Audit all closed windows, and hash every blob of the run (the default)
    #[arg(long)]
    all: bool,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// A record that must be among those of this home: the last one that you know from somebody else [a hash, or
    /// four or more digits of one]
    #[arg(long, value_name = "RECORD", value_parser = parse_record)]
    expect: Option<Reference>,
    /// Give up the network first, where the system allows it
    #[arg(long)]
    pub(crate) offline: bool,
    /// Sign the findings, and keep them as one audit manifest for each window, unless data is damaged here
    #[arg(long)]
    sign: bool,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(invocation: &Invocation, args: &AuditArgs, network: NetworkAccess) -> CommandResult {
    let printer = invocation.printer;
    if network == NetworkAccess::NotAvailable {
        printer.talk("the system does not let this process give up the network; the audit opens no socket anyway");
    }
    args.compute.choose(invocation)?;
    let access = if args.sign { invocation.write() } else { invocation.read() }.map_err(verdict::unopened)?;
    let run = match &args.run {
        Some(named) => run_id(&access, named)?,
        None => access.home.current_run()?.ok_or(RunError::None)?,
    };
    // A home with a copy of another's blobs may have no key. Only a signature needs one.
    let key = if args.sign { Some(access.home.key()?) } else { access.home.key().ok() };
    let auditor = key.as_ref().map_or(PublicKey::from_bytes([0; 32]), SecretKey::public);
    let report = AuditPrinter { printer, network };
    let peers = if args.offline { None } else { KnownPeers::of(invocation, &access, run)? };
    let peers = peers.as_ref().map(|peers| peers as &dyn AskPeers);
    let plan = AuditPlan { access: &access, run, window: args.window, expect: args.expect.as_ref(), peers, auditor };
    let summary = plan.run::<CommandError>(&mut |event| {
        match event {
            AuditEvent::StartMissing { what, last } => {
                printer.talk(format_args!("{what}: windows 0 to {last} are recomputed first"));
            }
            AuditEvent::Replaying { window, contributions } => {
                let replays = count(contributions as u64, "contribution");
                printer.talk(format_args!("window {window}: {replays} to replay"));
            }
            AuditEvent::Found(AuditFinding::Window(mut found)) => {
                match key.as_ref().filter(|_| args.sign) {
                    Some(key) if found.may_sign => keep(&access, &mut found, key)?,
                    Some(_) => printer.warn(format_args!(
                        "window {}: nothing is signed, because data of this home is damaged",
                        found.window
                    )),
                    None => {}
                }
                report.finding(&AuditFinding::Window(found));
            }
            AuditEvent::Found(finding) => report.finding(&finding),
        }
        Ok(())
    })?;
    Ok(report.end(&summary))
}

/// Reads a record's hash, or digits of one.
fn parse_record(text: &str) -> Result<Reference, String> {
    match text.parse() {
        Ok(record @ (Reference::Whole(_) | Reference::Prefix(_))) => Ok(record),
        Ok(_) => Err("expected the hash of a record, or four or more digits of one".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Signs the audit of a window, and keeps the manifest and the signed entry as blobs.
fn keep(access: &Access, found: &mut WindowFinding, key: &SecretKey) -> Result<(), CommandError> {
    let audit: &Audit = &found.findings;
    let signed = Signed::sign(audit.clone(), key);
    let manifest = access.put(payload::encode(audit))?;
    let envelope = access.put(Entry::Envelope(signed.envelope()).encode())?;
    sync(access, &[manifest, envelope])?;
    (found.audit, found.signed) = (Some(manifest), Some(envelope));
    Ok(())
}
