//! An audit of a run: every verdict of every record, computed again from the blobs and the journal of a home.
//!
//! An audit trusts nothing that the home once concluded. It makes the first checkpoint again from genesis,
//! takes every entry of the journal through the rules again, and recomputes each window from the result of the
//! one before. A difference is a `mismatch` and names the place; a missing input makes a verdict `unavailable`
//! and is named.

pub mod findings;

use templar_audit::{AuditInputs, AuditTask, InputError, States, audit_window};
use templar_blob::ReadError;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_manifest::{
    AuditEntry, AuditVerdict, Checkpoint, CheckpointId, PublicKey, Signed, State, WindowIndex, payload,
};
use templar_protocol::{ClosedWindow, Node, RunState};
use templar_train::{MinerState, tensors};

use self::findings::{AuditEvent, AuditFinding, AuditSummary, VerdictView, WindowFinding};
use crate::error::{QueryError, error_line};
use crate::find::closed_window;
use crate::index::HomeIndex;
use crate::refold::{Refolded, refold};

/// The audit that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct AuditPlan<'a> {
    /// The home with the journal and the blobs.
    pub access: &'a Access,
    /// The run to audit.
    pub context: &'a RunContext,
    /// The window to audit; `None` for all closed windows and every blob of the run.
    pub window: Option<WindowIndex>,
    /// The key that the audit manifests name as the auditor; zero where nothing is signed.
    pub auditor: PublicKey,
}

impl AuditPlan<'_> {
    /// Audits, and hands every finding to `hear` as soon as it is known.
    ///
    /// # Errors
    /// An error of `hear` ends the audit. A home that cannot be read is an error too; missing and wrong data
    /// are findings.
    pub fn run<E: From<QueryError>>(
        &self,
        hear: &mut dyn FnMut(AuditEvent) -> Result<(), E>,
    ) -> Result<AuditSummary, E> {
        let inputs = query(AuditInputs::new(&self.context.recipe, &self.context.dataset, self.access.blobs()))?;
        let mut auditor = Auditor { plan: *self, inputs, hear, summary: AuditSummary::default() };
        let start = auditor.start()?;
        let node = auditor.fold()?;
        match self.window {
            Some(window) => auditor.one(&node, window, start)?,
            None => {
                let state = query(self.context.first_state())?;
                auditor.windows(node.closed(), state, start)?;
                auditor.blobs()?;
            }
        }
        Ok(auditor.summary)
    }
}

/// An error on the way to the caller's error type.
fn query<T, E: From<QueryError>>(result: Result<T, impl Into<QueryError>>) -> Result<T, E> {
    result.map_err(|error| error.into().into())
}

struct Auditor<'a, E> {
    plan: AuditPlan<'a>,
    inputs: AuditInputs<'a>,
    hear: &'a mut dyn FnMut(AuditEvent) -> Result<(), E>,
    summary: AuditSummary,
}

impl<E: From<QueryError>> Auditor<'_, E> {
    fn found(&mut self, finding: AuditFinding) -> Result<(), E> {
        self.summary.count(&finding);
        (self.hear)(AuditEvent::Found(finding))
    }

    /// Makes the first checkpoint again from genesis, and compares its id with the one that this home works with.
    fn start(&mut self) -> Result<Vec<f32>, E> {
        let (recipe, context) = (self.inputs.recipe, self.plan.context);
        let parameters = query(self.inputs.initial_parameters())?;
        let made = tensors::checkpoint_of(recipe.run, WindowIndex(0), &recipe.tensors, &parameters);
        let made = CheckpointId::new(payload::id_of(&made));
        let zero = MinerState::zero_id(recipe.run, &recipe.tensors);
        let first = context.first_checkpoint();
        let verdict = if made != first {
            mismatch(format!("the first checkpoint is recorded as {first}, genesis gives {made}"))
        } else if zero != context.zero_state() {
            mismatch(format!("the zero state is recorded as {}, genesis gives {zero}", context.zero_state()))
        } else {
            AuditVerdict::Match
        };
        self.found(AuditFinding::Genesis { run: recipe.run, checkpoint: first, verdict: verdict.into() })?;
        Ok(parameters)
    }

    /// Takes every entry of the journal through the rules again, as far as they accept it.
    fn fold(&mut self) -> Result<Node, E> {
        let records = query(Journal::read(&self.plan.access.home.run_dir(&self.plan.context.run)))?;
        let Refolded { node, fault } = query(refold(self.plan.context, &records))?;
        let verdict = fault.map_or(AuditVerdict::Match, mismatch).into();
        self.found(AuditFinding::Journal { entries: records.len(), verdict })?;
        Ok(node)
    }

    /// Audits one window. It starts from the window's own checkpoint and states where they are here, and otherwise
    /// recomputes all windows before it.
    fn one(&mut self, node: &Node, window: WindowIndex, start: Vec<f32>) -> Result<(), E> {
        let closed = query(closed_window(node, window))?;
        let Some(before) = node.state_at(window) else {
            return Err(QueryError::Unfoldable(window).into());
        };
        if let Some(what) = missing_start(&self.inputs, &before, closed) {
            if window.0 > 0 {
                (self.hear)(AuditEvent::StartMissing { what, last: WindowIndex(window.0 - 1) })?;
            }
            let until = node.closed().get(..=window.0 as usize).unwrap_or_default();
            let first = query(self.plan.context.first_state())?;
            return self.windows(until, first, start);
        }
        let parameters = if window.0 == 0 { start } else { query(self.inputs.parameters(&before.checkpoint()))? };
        self.windows(std::slice::from_ref(closed), before, parameters)
    }

    /// Audits windows that follow one another, from the state and the parameters before the first of them.
    fn windows(&mut self, windows: &[ClosedWindow], mut state: RunState, mut parameters: Vec<f32>) -> Result<(), E> {
        let mut states = States::default();
        for (index, closed) in windows.iter().enumerate() {
            let window = closed.window.window;
            (self.hear)(AuditEvent::Replaying { window, contributions: closed.contributions.len() })?;
            // The callback cannot fail, so the caller's first error is kept until the window is done.
            let mut refused = None;
            let found = {
                let Self { inputs, hear, summary, plan } = self;
                let mut seen = |entry: &AuditEntry| {
                    let finding = AuditFinding::contribution(window, entry);
                    summary.count(&finding);
                    if refused.is_none() {
                        refused = hear(AuditEvent::Found(finding)).err();
                    }
                };
                let auditor = plan.auditor;
                let task = AuditTask { before: &state, parameters: &parameters, closed, auditor };
                audit_window(inputs, &task, &mut states, &mut seen)
            };
            if let Some(error) = refused {
                return Err(error);
            }
            self.found(AuditFinding::Window(Box::new(WindowFinding::of(&found))))?;
            let recorded = closed.window.checkpoint;
            let next = match found.parameters.filter(|_| found.audit.checkpoint_verdict == AuditVerdict::Match) {
                Some(parameters) => Ok(parameters),
                // The windows that follow can still be checked, from the checkpoint that the record names.
                None => self.inputs.parameters(&recorded),
            };
            let why = match (found.after, next) {
                (Some(after), Ok(next)) => {
                    (state, parameters) = (after, next);
                    continue;
                }
                (None, _) => format!("the record of window {window} does not follow from its parts"),
                (_, Err(error)) => format!("checkpoint {}: {error}", recorded.short()),
            };
            for closed in &windows[index + 1..] {
                let verdict = AuditVerdict::Unavailable { what: why.clone() }.into();
                self.found(AuditFinding::NotReached { window: closed.window.window, verdict })?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Hashes every blob of the run that is here, including those that the audit did not have to read.
    fn blobs(&mut self) -> Result<(), E> {
        let index = query(HomeIndex::build(self.plan.access, Some(self.plan.context.run)))?;
        let blobs = self.plan.access.blobs();
        let (mut checked, mut verdict) = (0u64, AuditVerdict::Match);
        if let Some(fault) = index.faults.first() {
            verdict = mismatch(format!("{}: {}", fault.id, fault.what));
        }
        for (id, object) in index.objects() {
            match blobs.read(id, u64::MAX) {
                Ok(_) => checked += 1,
                Err(ReadError::NotFound { .. }) => {}
                Err(error) if verdict == AuditVerdict::Match => {
                    verdict = mismatch(format!("{} {}", object.kind.name(), error_line(&error)));
                }
                Err(_) => {}
            }
        }
        self.found(AuditFinding::Blobs { checked, verdict: VerdictView::from(verdict) })
    }
}

/// The first input that is missing for an audit that starts at the window's own checkpoint; `None` when all are here.
fn missing_start(inputs: &AuditInputs<'_>, before: &RunState, closed: &ClosedWindow) -> Option<String> {
    if before.window().0 == 0 {
        return None;
    }
    let checkpoint = before.checkpoint();
    match inputs.manifest::<Checkpoint>(&checkpoint.hash()) {
        Err(InputError::Unavailable { what }) => return Some(what),
        Ok(manifest) => {
            let missing = manifest.tensors.iter().find(|tensor| !inputs.blobs.contains(&tensor.blob.hash()));
            if let Some(tensor) = missing {
                return Some(format!("tensor {} of checkpoint {}", tensor.spec.name, checkpoint.short()));
            }
        }
        Err(InputError::Broken(_)) => {}
    }
    for contribution in closed.contributions.iter().map(Signed::payload) {
        if contribution.state_in == before.zero_state() {
            continue;
        }
        match inputs.manifest::<State>(&contribution.state_in.hash()) {
            Err(InputError::Unavailable { what }) => return Some(what),
            Ok(manifest) => {
                if manifest.tensors.iter().any(|tensor| !inputs.blobs.contains(&tensor.blob.hash())) {
                    return Some(format!("state {}", contribution.state_in.short()));
                }
            }
            Err(InputError::Broken(_)) => {}
        }
    }
    None
}

fn mismatch(what: String) -> AuditVerdict {
    AuditVerdict::Mismatch { what }
}
