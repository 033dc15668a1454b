//! An audit of a run: every verdict of every record, computed again from the blobs and the journal of a home.
//!
//! An audit trusts nothing that the home once concluded. It makes the first checkpoint again from genesis,
//! takes every entry of the journal through the rules again, and recomputes each window from the result of the
//! one before. A difference is a `mismatch` and names the place; a missing input makes a verdict `unavailable`
//! and is named.
//!
//! It looks at itself first. Bytes that this home has lost say nothing about others: they make a verdict
//! `unavailable`, which begins with `damaged here`, and from then on nothing may be signed. An audit of no window is
//! `unavailable` too.

pub mod findings;
pub mod head;

use templar_audit::{AuditInputs, AuditTask, InputError, States, audit_window};
use templar_blob::{BlobSource, Damage, ReadError, Watched};
use templar_home::access::Access;
use templar_home::context::{RunContext, RunError, StartFault};
use templar_manifest::{AuditEntry, AuditVerdict, PublicKey, RunId, Signed, State, WindowIndex};
use templar_protocol::{ClosedWindow, Node, RunState};
use templar_train::tensors::LoadError;

use self::findings::{AuditEvent, AuditFinding, AuditSummary, VerdictView, WindowFinding};
use self::head::{AskPeers, AuditedHead, HeardOfPeers};
use crate::error::{QueryError, error_line};
use crate::find::closed_window;
use crate::index::{HomeIndex, IndexFault};
use crate::own::{self, OwnJournal, damaged, mismatch};
use crate::reference::Reference;

/// The audit that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct AuditPlan<'a> {
    /// The home with the journal and the blobs.
    pub access: &'a Access,
    /// The run to audit.
    pub run: RunId,
    /// The window to audit; `None` for all closed windows and every blob of the run.
    pub window: Option<WindowIndex>,
    /// A record that must be among those of the journal, by its hash or the first digits of it.
    pub expect: Option<&'a Reference>,
    /// The peers to ask for a later record; `None` for an audit without a network.
    pub peers: Option<&'a dyn AskPeers>,
    /// The key that the audit manifests name as the auditor; zero where nothing is signed.
    pub auditor: PublicKey,
}

impl AuditPlan<'_> {
    /// Audits, and hands every finding to `hear` as soon as it is known.
    ///
    /// # Errors
    /// An error of `hear` ends the audit. A home without the run, or that the system does not let this process read,
    /// is an error too. Missing, damaged and wrong data are findings.
    pub fn run<E: From<QueryError>>(
        &self,
        hear: &mut dyn FnMut(AuditEvent) -> Result<(), E>,
    ) -> Result<AuditSummary, E> {
        if !self.access.home.run_dir(&self.run).exists() {
            return query(Err(RunError::Unknown(self.run)));
        }
        let damage = Damage::default();
        let blobs = Watched { blobs: self.access.blobs(), damage: damage.clone() };
        let mut report = Report { hear, summary: AuditSummary::of(self.run) };
        match RunContext::of_genesis(&blobs, self.run) {
            Ok((context, start)) => {
                report.summary.name = Some(context.genesis.name.clone());
                let inputs = query(AuditInputs::new(&context.recipe, &context.dataset, &blobs))?;
                let mut auditor =
                    Auditor { plan: *self, context: &context, blobs: &blobs, inputs, damage: &damage, report };
                auditor.audit(start)?;
                report = auditor.report;
            }
            Err(error) => {
                let Some(what) = unreadable(&error) else { return query(Err(error)) };
                let verdict = AuditVerdict::Unavailable { what }.into();
                report.found(AuditFinding::Genesis { run: self.run, checkpoint: None, verdict })?;
            }
        }
        report.summary.damaged = damage.take();
        Ok(report.summary)
    }
}

/// An error on the way to the caller's error type.
fn query<T, E: From<QueryError>>(result: Result<T, impl Into<QueryError>>) -> Result<T, E> {
    result.map_err(|error| error.into().into())
}

/// Why the manifests of a run, or the tensors that it starts from, are not here. `None` if the error is another one.
fn unreadable(error: &RunError) -> Option<String> {
    let (what, id, source) = match error {
        RunError::Read { kind, id, source } => (format!("{kind} manifest"), *id, source),
        RunError::Load(LoadError::Read { name, blob, source }) => {
            (format!("first checkpoint, tensor {name},"), blob.hash(), source)
        }
        _ => return None,
    };
    match InputError::of_run(&what, &id, source) {
        InputError::Broken(_) => None,
        error => Some(error.to_string()),
    }
}

/// The findings so far, and the one who hears them.
struct Report<'a, E> {
    hear: &'a mut dyn FnMut(AuditEvent) -> Result<(), E>,
    summary: AuditSummary,
}

impl<E> Report<'_, E> {
    fn found(&mut self, finding: AuditFinding) -> Result<(), E> {
        self.summary.count(&finding);
        (self.hear)(AuditEvent::Found(finding))
    }
}

struct Auditor<'a, 'h, E> {
    plan: AuditPlan<'a>,
    /// The run as its genesis gives it.
    context: &'a RunContext,
    blobs: &'a dyn BlobSource,
    inputs: AuditInputs<'a>,
    /// The blobs of this home that reads have found damaged.
    damage: &'a Damage,
    report: Report<'h, E>,
}

impl<E: From<QueryError>> Auditor<'_, '_, E> {
    /// Audits what the plan says. `start` are the first parameters of the run.
    fn audit(&mut self, start: Vec<f32>) -> Result<(), E> {
        self.start()?;
        let Some(node) = self.journal()? else { return Ok(()) };
        self.head(&node)?;
        self.peers(&node)?;
        match self.plan.window {
            Some(window) => self.one(&node, window, start),
            None => {
                self.blobs()?;
                let state = query(self.context.first_state())?;
                self.windows(node.closed(), state, start)
            }
        }
    }

    /// Compares what this home once derived from genesis with what genesis gives. The audit works with the latter.
    fn start(&mut self) -> Result<(), E> {
        let (run, checkpoint) = (self.context.run, Some(self.context.first_checkpoint()));
        let verdict = match query(self.context.start_fault(&self.plan.access.home))? {
            None => AuditVerdict::Match,
            Some(StartFault::Differs(what)) => mismatch(format!("start.json of this home: {what}")),
            Some(StartFault::Damaged(what)) => damaged(format!("start.json: {what}")),
        };
        self.report.found(AuditFinding::Genesis { run, checkpoint, verdict: verdict.into() })
    }

    /// Takes every entry of the journal through the rules again, as far as they accept it. `None` if the journal is
    /// damaged.
    fn journal(&mut self) -> Result<Option<Node>, E> {
        let OwnJournal { entries, node, verdict } = query(OwnJournal::read(self.plan.access, self.context))?;
        self.report.found(AuditFinding::Journal { entries, verdict: verdict.into() })?;
        Ok(node)
    }

    /// Compares the last record with the one that this home remembers and with the one that is expected. Both tell
    /// a journal that lost its end from one that is whole.
    fn head(&mut self, node: &Node) -> Result<(), E> {
        let head = AuditedHead::of(&self.context.genesis, node.closed().last());
        let known = own::forgotten(self.plan.access, self.context.run, node);
        let expected = self.plan.expect.filter(|expected| !head::is_among(expected, node.closed()));
        let unknown = expected.map(|expected| AuditVerdict::Unavailable {
            what: format!("record {} is not among the {} of this journal", head::name(expected), node.closed().len()),
        });
        let vouched = own::not_reached(self.plan.access, self.context.run, node);
        let verdict = known.or(unknown).or(vouched).unwrap_or(AuditVerdict::Match).into();
        self.report.found(AuditFinding::Head { head, verdict })
    }

    /// Asks peers whether they know a later record. If nobody answers, nothing is found.
    fn peers(&mut self, node: &Node) -> Result<(), E> {
        let Some(peers) = self.plan.peers else { return Ok(()) };
        let HeardOfPeers { answered, ahead } = head::ask(node, peers);
        if answered == 0 {
            return Ok(());
        }
        // An audit of one window says nothing about those that follow.
        let behind = ahead.filter(|_| self.plan.window.is_none());
        let verdict = behind.map_or(AuditVerdict::Match, |ahead| AuditVerdict::Unavailable {
            what: format!(
                "this home is behind: peers have window {}, with record {}",
                ahead.window,
                ahead.record.short()
            ),
        });
        self.report.found(AuditFinding::Peers { answered, ahead, verdict: verdict.into() })
    }

    /// Audits one window. It starts from the window's own checkpoint and states where they are here, and otherwise
    /// recomputes all windows before it.
    fn one(&mut self, node: &Node, window: WindowIndex, start: Vec<f32>) -> Result<(), E> {
        let closed = match closed_window(node, window) {
            Ok(closed) => closed,
            // The journal has lost it, or the rules refuse what leads to it.
            Err(error) if self.report.summary.has_own_fault => {
                let verdict = AuditVerdict::Unavailable { what: error.to_string() }.into();
                return self.report.found(AuditFinding::NotReached { window, verdict });
            }
            Err(error) => return query(Err(error)),
        };
        let Some(before) = node.state_at(window) else {
            return Err(QueryError::Unfoldable(window).into());
        };
        let what = match self.parameters_before(&before, closed) {
            Ok(Some(parameters)) => return self.windows(std::slice::from_ref(closed), before, parameters),
            Ok(None) => return self.windows(std::slice::from_ref(closed), before, start),
            Err(what) => what,
        };
        (self.report.hear)(AuditEvent::StartMissing { what, last: WindowIndex(window.0.saturating_sub(1)) })?;
        let until = node.closed().get(..=window.0 as usize).unwrap_or_default();
        let first = query(self.context.first_state())?;
        self.windows(until, first, start)
    }

    /// The parameters before a window, from the checkpoint here; `None` before the first window. The error is the first
    /// input that the audit of the window alone would lack.
    fn parameters_before(&self, before: &RunState, closed: &ClosedWindow) -> Result<Option<Vec<f32>>, String> {
        if before.window().0 == 0 {
            return Ok(None);
        }
        let read = |error: InputError| error.to_string();
        let parameters = self.inputs.parameters(&before.checkpoint()).map_err(read)?;
        for contribution in closed.contributions.iter().map(Signed::payload) {
            let id = contribution.state_in;
            if id != before.zero_state() {
                let state: State = self.inputs.manifest(&id.hash()).map_err(read)?;
                if state.tensors.iter().any(|tensor| !self.inputs.blobs.contains(&tensor.blob.hash())) {
                    return Err(format!("state {} is missing", id.short()));
                }
            }
        }
        Ok(Some(parameters))
    }

    /// Audits windows that follow one another, from the state and the parameters before the first of them.
    fn windows(&mut self, windows: &[ClosedWindow], mut state: RunState, mut parameters: Vec<f32>) -> Result<(), E> {
        let mut states = States::default();
        for (index, closed) in windows.iter().enumerate() {
            let window = closed.window.header.window;
            (self.report.hear)(AuditEvent::Replaying { window, contributions: closed.contributions.len() })?;
            // The callback cannot fail, so the caller's first error is kept until the window is done.
            let mut refused = None;
            let found = {
                let Self { inputs, plan, report: Report { hear, summary }, .. } = self;
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
            let head = AuditedHead::of(&self.context.genesis, Some(closed));
            let may_sign = self.damage.is_none() && !self.report.summary.has_own_fault;
            self.report.summary.record = head;
            self.report.found(AuditFinding::Window(Box::new(WindowFinding::of(&found, may_sign))))?;
            let recorded = closed.window.header.checkpoint;
            let next = match found.parameters {
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
                self.report.found(AuditFinding::NotReached { window: closed.window.header.window, verdict })?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Hashes every blob of the run that is here, including those that the audit does not have to read.
    fn blobs(&mut self) -> Result<(), E> {
        let index = query(HomeIndex::build(self.plan.access, Some(self.context.run)))?;
        let (mut checked, mut lost) = (0u64, None);
        for (id, object) in index.objects() {
            match self.blobs.read(id, u64::MAX) {
                Ok(_) => checked += 1,
                Err(ReadError::NotFound { .. }) => {}
                Err(error) => {
                    lost.get_or_insert_with(|| format!("{}: {}", object.kind.name(), error_line(&error)));
                }
            }
        }
        // A manifest that is damaged here is among the blobs above.
        let is_whole = |fault: &&IndexFault| self.blobs.read(&fault.id, u64::MAX).is_ok();
        let wrong = index.faults.iter().find(is_whole).map(|fault| mismatch(format!("{}: {}", fault.id, fault.what)));
        let verdict = wrong.or(lost.map(damaged)).unwrap_or(AuditVerdict::Match);
        self.report.found(AuditFinding::Blobs { checked, verdict: VerdictView::from(verdict) })
    }
}
