//! `templar audit`: every verdict of every record, found again from blobs and journal alone.
//!
//! Nothing that this home once concluded is believed: the first checkpoint is made again from genesis, every entry of the
//! journal goes through the rules again, and each window is recomputed from what the one before gave. A difference is a
//! `mismatch` and says where, something that is not here is `unavailable` and says what.

mod findings;

use serde_json::json;
use templar_audit::{Evidence, EvidenceError, States, audit_window};
use templar_home::access::{Access, AccessError};
use templar_home::context::{RunContext, RunError};
use templar_home::journal::Journal;
use templar_manifest::{
    Audit, AuditVerdict, Checkpoint, CheckpointId, PublicKey, SecretKey, Signed, State, WindowIndex, payload,
};
use templar_protocol::{ClosedWindow, Entry, Node, RunState};
use templar_store::ReadError;
use templar_train::{MinerState, tensors};

use self::findings::Findings;
use crate::error::{Code, CommandError, CommandResult};
use crate::index::Index;
use crate::invocation::{Invocation, closed_window, run_id};
use crate::offline::Network;
use crate::participant::sync;
use crate::printer::count;
use crate::reference::parse_window;
use crate::refold::refold;

/// Recompute what the records say, from blobs alone
///
/// Replays every contribution, measures every score, takes every outer step and settles every balance again. Ends with
/// `match`; `mismatch` (exit code 4) with what differs first; or `unavailable` (exit code 5) with what is missing. Opens
/// no socket.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Audit one window
    #[arg(long, value_name = "N", value_parser = parse_window, conflicts_with = "all")]
    window: Option<WindowIndex>,
    /// Audit all closed windows, and hash every blob of the run (the default)
    #[arg(long)]
    all: bool,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// Leave the network first, where the system allows it
    #[arg(long)]
    pub(crate) offline: bool,
    /// Sign what is found, and keep it as an audit manifest for each window
    #[arg(long)]
    sign: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &Args, network: Network) -> CommandResult {
    if network == Network::NotAvailable {
        invocation
            .printer
            .talk("the system does not let this process leave the network; the audit opens no socket anyway");
    }
    let access = if args.sign { invocation.write()? } else { invocation.read()? };
    let context = open(&access, args)?;
    // Who audits from a copy of somebody's blobs may have no key; only a signature needs one.
    let key = if args.sign { Some(access.home.key()?) } else { access.home.key().ok() };
    let mut findings = Findings::new(invocation.printer, network);
    let auditor = Auditor { access: &access, context: &context, key: key.as_ref(), sign: args.sign };
    let evidence = Evidence::new(&context.recipe, &context.dataset, access.blobs())?;
    let start = auditor.start(&evidence, &mut findings)?;
    let node = auditor.fold(&mut findings)?;
    match args.window {
        Some(window) => auditor.one(&evidence, &node, window, start, &mut findings)?,
        None => {
            let state = context.first_state().map_err(AccessError::from)?;
            auditor.windows(&evidence, node.closed(), state, start, &mut findings)?;
            auditor.blobs(&mut findings)?;
        }
    }
    Ok(findings.end())
}

/// The run's context; a manifest that is missing makes the whole audit unavailable.
fn open(access: &Access, args: &Args) -> Result<RunContext, CommandError> {
    let named = args.run.as_deref().map(|text| run_id(access, text)).transpose()?;
    access.run(named).map_err(|error| match error {
        AccessError::Run(RunError::Read { source: ReadError::NotFound { .. }, .. }) => {
            CommandError::from(error).with_code(Code::Partial)
        }
        error => error.into(),
    })
}

struct Auditor<'a> {
    access: &'a Access,
    context: &'a RunContext,
    key: Option<&'a SecretKey>,
    sign: bool,
}

impl Auditor<'_> {
    /// Makes the first checkpoint again from genesis and compares its id with the one that this home works with.
    fn start(&self, evidence: &Evidence<'_>, findings: &mut Findings) -> Result<Vec<f32>, CommandError> {
        let recipe = evidence.recipe;
        let parameters = evidence.initial_parameters()?;
        let found = tensors::checkpoint_of(recipe.run, WindowIndex(0), &recipe.tensors, &parameters);
        let found = CheckpointId::new(payload::id_of(&found));
        let zero = MinerState::zero_id(recipe.run, &recipe.tensors);
        let first = self.context.first_checkpoint();
        let verdict = if found != first {
            mismatch(format!("the first checkpoint is recorded as {first}, genesis gives {found}"))
        } else if zero != self.context.zero_state() {
            mismatch(format!("the zero state is recorded as {}, genesis gives {zero}", self.context.zero_state()))
        } else {
            AuditVerdict::Match
        };
        findings.start(recipe.run, first, &verdict);
        Ok(parameters)
    }

    /// Takes every entry of the journal through the rules again, as far as they go.
    fn fold(&self, findings: &mut Findings) -> Result<Node, CommandError> {
        let records = Journal::read(&self.access.home.run_dir(&self.context.run))?;
        let (node, wrong) = refold(self.context, &records)?;
        findings.journal(records.len(), &wrong.map_or(AuditVerdict::Match, mismatch));
        Ok(node)
    }

    /// One window: from its own checkpoint and states where they are here, else by way of all windows before it.
    fn one(
        &self,
        evidence: &Evidence<'_>,
        node: &Node,
        window: WindowIndex,
        start: Vec<f32>,
        findings: &mut Findings,
    ) -> Result<(), CommandError> {
        let closed = closed_window(node, window)?;
        if let Some(before) = node.state_at(window)
            && let Some(missing) = missing_start(evidence, &before, closed)
        {
            if window.0 > 0 {
                findings
                    .talk(format_args!("{missing} is not here: windows 0 to {} are recomputed first", window.0 - 1));
            }
            let until = node.closed().get(..=window.0 as usize).unwrap_or_default();
            return self.windows(
                evidence,
                until,
                self.context.first_state().map_err(AccessError::from)?,
                start,
                findings,
            );
        }
        let Some(before) = node.state_at(window) else {
            let text = format!("the windows before {window} do not fold again");
            return Err(CommandError::says(Code::Verification, text));
        };
        let parameters = if window.0 == 0 { start } else { evidence.parameters(&before.checkpoint())? };
        self.windows(evidence, std::slice::from_ref(closed), before, parameters, findings)
    }

    fn windows(
        &self,
        evidence: &Evidence<'_>,
        windows: &[ClosedWindow],
        mut state: RunState,
        mut parameters: Vec<f32>,
        findings: &mut Findings,
    ) -> Result<(), CommandError> {
        let mut states = States::default();
        let me = self.key.map_or(PublicKey::from_bytes([0; 32]), SecretKey::public);
        for (index, closed) in windows.iter().enumerate() {
            let window = closed.window.window;
            findings.talk(format_args!(
                "window {window}: {} to replay",
                count(closed.contributions.len() as u64, "contribution")
            ));
            let mut seen = |entry: &_| findings.contribution(window, entry);
            let found = audit_window(evidence, &state, closed, &parameters, &mut states, me, &mut seen);
            let kept = match self.key.filter(|_| self.sign) {
                Some(key) => Some(self.keep(&found.audit, key)?),
                None => None,
            };
            findings.window(&found, kept);
            let recorded = closed.window.checkpoint;
            let next = match found.parameters.filter(|_| found.audit.checkpoint_verdict == AuditVerdict::Match) {
                Some(parameters) => Ok(parameters),
                // What follows can still be checked, from the checkpoint that the record names.
                None => evidence.parameters(&recorded),
            };
            match (found.after, next) {
                (Some(after), Ok(next)) => (state, parameters) = (after, next),
                (after, next) => {
                    let rest = &windows[index + 1..];
                    let why = match (after, next) {
                        (None, _) => format!("the record of window {window} does not follow from its parts"),
                        (_, Err(error)) => format!("checkpoint {}: {error}", recorded.short()),
                        _ => String::new(),
                    };
                    findings.not_reached(rest, &why);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Signs an audit; its payload and its signed envelope are blobs.
    fn keep(&self, audit: &Audit, key: &SecretKey) -> Result<findings::Kept, CommandError> {
        let signed = Signed::sign(audit.clone(), key);
        let manifest = self.access.put(payload::encode(audit))?;
        let envelope = self.access.put(Entry::Envelope(signed.envelope()).encode())?;
        sync(self.access, &[manifest, envelope])?;
        Ok(findings::Kept { manifest, envelope })
    }

    /// Hashes every blob of the run that is here, also those that nothing above had to read.
    fn blobs(&self, findings: &mut Findings) -> Result<(), CommandError> {
        let index = Index::build(self.access, Some(self.context.run))?;
        let blobs = self.access.blobs();
        let (mut checked, mut verdict) = (0u64, AuditVerdict::Match);
        if let Some(fault) = index.faults.first() {
            verdict = mismatch(format!("{}: {}", fault.id, fault.what));
        }
        for (id, object) in index.objects() {
            match blobs.read(id, u64::MAX) {
                Ok(_) => checked += 1,
                Err(ReadError::NotFound { .. }) => {}
                Err(error) if verdict == AuditVerdict::Match => {
                    let lines = CommandError::from(error).lines();
                    verdict = mismatch(format!("{} {}", object.nature.name(), lines.join(": ")));
                }
                Err(_) => {}
            }
        }
        findings.blobs(checked, &verdict);
        Ok(())
    }
}

/// What keeps an audit of one window from starting at its own checkpoint: the first thing that is not here.
fn missing_start(evidence: &Evidence<'_>, before: &RunState, closed: &ClosedWindow) -> Option<String> {
    if before.window().0 == 0 {
        return None;
    }
    let checkpoint = before.checkpoint();
    match evidence.manifest::<Checkpoint>(&checkpoint.hash()) {
        Err(EvidenceError::Unavailable { what }) => return Some(what),
        Ok(manifest) => {
            let missing = manifest.tensors.iter().find(|tensor| !evidence.blobs.contains(&tensor.blob.hash()));
            if let Some(tensor) = missing {
                return Some(format!("tensor {} of checkpoint {}", tensor.spec.name, checkpoint.short()));
            }
        }
        Err(EvidenceError::Broken(_)) => {}
    }
    for contribution in closed.contributions.iter().map(Signed::payload) {
        if contribution.state_in == before.zero_state() {
            continue;
        }
        match evidence.manifest::<State>(&contribution.state_in.hash()) {
            Err(EvidenceError::Unavailable { what }) => return Some(what),
            Ok(manifest) => {
                if manifest.tensors.iter().any(|tensor| !evidence.blobs.contains(&tensor.blob.hash())) {
                    return Some(format!("state {}", contribution.state_in.short()));
                }
            }
            Err(EvidenceError::Broken(_)) => {}
        }
    }
    None
}

fn mismatch(what: String) -> AuditVerdict {
    AuditVerdict::Mismatch { what }
}

/// A verdict for programs.
fn verdict_json(verdict: &AuditVerdict) -> serde_json::Value {
    let what = match verdict {
        AuditVerdict::Match => None,
        AuditVerdict::Mismatch { what } | AuditVerdict::Unavailable { what } => Some(what),
    };
    json!({"verdict": word(verdict), "what": what})
}

fn word(verdict: &AuditVerdict) -> &'static str {
    match verdict {
        AuditVerdict::Match => "match",
        AuditVerdict::Mismatch { .. } => "mismatch",
        AuditVerdict::Unavailable { .. } => "unavailable",
    }
}
