//! `templar audit`: recomputes every verdict of every record, from the blobs and the journal of this home alone.

mod report;

use templar_blob::ReadError;
use templar_home::access::{Access, AccessError};
use templar_home::context::{RunContext, RunError};
use templar_manifest::{Audit, PublicKey, SecretKey, Signed, WindowIndex, payload};
use templar_protocol::Entry;
use templar_query::QueryError;
use templar_query::audit::AuditPlan;
use templar_query::audit::findings::{AuditEvent, AuditFinding, WindowFinding};
use templar_query::find::run_context;
use templar_query::reference::parse_window;

use self::report::AuditPrinter;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::offline::NetworkAccess;
use crate::printer::count;
use crate::session::sync;

/// Recompute what the records say, from blobs alone
///
/// Replays every contribution, measures every score, takes every outer step and settles every balance again.
/// Ends with `match`; with `mismatch` (exit code 4) and the first difference; or with `unavailable` (exit code
/// 5) and the missing input. Opens no socket.
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
    /// Give up the network first, where the system allows it
    #[arg(long)]
    pub(crate) offline: bool,
    /// Sign the findings, and keep them as one audit manifest for each window
    #[arg(long)]
    sign: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &AuditArgs, network: NetworkAccess) -> CommandResult {
    let printer = invocation.printer;
    if network == NetworkAccess::NotAvailable {
        printer.talk("the system does not let this process give up the network; the audit opens no socket anyway");
    }
    let access = if args.sign { invocation.write()? } else { invocation.read()? };
    let context = open(&access, args)?;
    // A home with a copy of another's blobs may have no key. Only a signature needs one.
    let key = if args.sign { Some(access.home.key()?) } else { access.home.key().ok() };
    let auditor = key.as_ref().map_or(PublicKey::from_bytes([0; 32]), SecretKey::public);
    let report = AuditPrinter { printer, network };
    let plan = AuditPlan { access: &access, context: &context, window: args.window, auditor };
    let summary = plan.run::<CommandError>(&mut |event| {
        match event {
            AuditEvent::StartMissing { what, last } => {
                printer.talk(format_args!("{what} is not here: windows 0 to {last} are recomputed first"));
            }
            AuditEvent::Replaying { window, contributions } => {
                let replays = count(contributions as u64, "contribution");
                printer.talk(format_args!("window {window}: {replays} to replay"));
            }
            AuditEvent::Found(AuditFinding::Window(mut found)) => {
                if let Some(key) = key.as_ref().filter(|_| args.sign) {
                    keep(&access, &mut found, key)?;
                }
                report.finding(&AuditFinding::Window(found));
            }
            AuditEvent::Found(finding) => report.finding(&finding),
        }
        Ok(())
    })?;
    Ok(report.end(&summary))
}

/// Opens the run. A manifest that is missing makes the whole audit unavailable.
fn open(access: &Access, args: &AuditArgs) -> Result<RunContext, CommandError> {
    run_context(access, args.run.as_deref()).map_err(|error| match error {
        QueryError::Access(AccessError::Run(RunError::Read { source: ReadError::NotFound { .. }, .. })) => {
            CommandError::from(error).with_code(Code::Partial)
        }
        error => error.into(),
    })
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
