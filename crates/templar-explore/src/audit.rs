//! An audit that was started from the browser: what it has found so far, step by step.
//!
//! At most one runs at a time, on a thread of its own. It reads the home as `templar audit` does and signs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use templar_home::access::Access;
use templar_manifest::{PublicKey, RunId, WindowIndex};
use templar_query::QueryError;
use templar_query::audit::AuditPlan;
use templar_query::audit::findings::{AuditAnswer, AuditEvent, AuditFinding, VerdictView};
use templar_query::error_line;

/// The state of the audit.
#[derive(Debug, Default)]
pub(crate) struct AuditDesk {
    progress: Arc<Mutex<AuditProgress>>,
    /// The number of changes of the progress so far.
    steps: Arc<AtomicU64>,
}

/// How far an audit has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct AuditProgress {
    pub(crate) stage: AuditStage,
    /// What it looked at before the first window, in order: genesis, journal, last record, blobs.
    pub(crate) home: Vec<CheckedPart>,
    pub(crate) windows: BTreeMap<WindowIndex, CheckedWindow>,
    /// The answer, at the end.
    pub(crate) answer: Option<VerdictView>,
    /// Why it ended before its end.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuditStage {
    /// Nobody has started one.
    #[default]
    Idle,
    Running,
    Done,
}

/// A part of the home that an audit has checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CheckedPart {
    pub(crate) part: String,
    #[serde(flatten)]
    pub(crate) verdict: VerdictView,
}

/// A window that an audit has begun.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct CheckedWindow {
    /// The number of contributions to replay.
    pub(crate) expected: usize,
    pub(crate) contributions: BTreeMap<PublicKey, VerdictView>,
    /// Record, checkpoint and ledger, once all contributions are done.
    pub(crate) parts: Vec<CheckedPart>,
    pub(crate) verdict: Option<AuditAnswer>,
}

impl AuditDesk {
    /// A text that changes whenever a page may be another one: with the entries of the journal, and with each step of
    /// the audit.
    pub(crate) fn news(&self, entries: usize) -> String {
        format!("{entries}.{}", self.steps.load(Ordering::Acquire))
    }

    /// A copy of the progress.
    pub(crate) fn progress(&self) -> AuditProgress {
        self.progress.lock().clone()
    }

    /// Starts an audit of all windows, unless one runs. The home is `access`, and is given back at the end.
    pub(crate) fn start(&self, access: Arc<Access>, run: RunId) {
        let mut now = self.progress.lock();
        if now.stage == AuditStage::Running {
            return;
        }
        *now = AuditProgress { stage: AuditStage::Running, ..AuditProgress::default() };
        drop(now);
        self.steps.fetch_add(1, Ordering::AcqRel);
        let (progress, steps) = (self.progress.clone(), self.steps.clone());
        std::thread::spawn(move || {
            let auditor = PublicKey::from_bytes([0; 32]);
            let plan = AuditPlan { access: &access, run, window: None, expect: None, peers: None, auditor };
            let ended = plan.run::<Box<QueryError>>(&mut |event| {
                progress.lock().take(event);
                steps.fetch_add(1, Ordering::AcqRel);
                Ok(())
            });
            let mut progress = progress.lock();
            match ended {
                Ok(summary) => progress.answer = Some(summary.answer()),
                Err(error) => progress.error = Some(error_line(&*error)),
            }
            progress.stage = AuditStage::Done;
            steps.fetch_add(1, Ordering::AcqRel);
        });
    }
}

impl AuditProgress {
    fn take(&mut self, event: AuditEvent) {
        match event {
            AuditEvent::StartMissing { .. } => {}
            AuditEvent::Replaying { window, contributions } => {
                self.windows.entry(window).or_default().expected = contributions;
            }
            AuditEvent::Found(finding) => self.found(finding),
        }
    }

    fn found(&mut self, finding: AuditFinding) {
        let (part, verdict) = match finding {
            AuditFinding::Genesis { verdict, .. } => ("the first model, made again from genesis".to_owned(), verdict),
            AuditFinding::Journal { entries, verdict } => {
                (format!("{entries} entries of the journal, by the rules"), verdict)
            }
            AuditFinding::Head { verdict, .. } => ("the last record and its signatures".to_owned(), verdict),
            AuditFinding::Peers { verdict, .. } => ("what peers know".to_owned(), verdict),
            AuditFinding::Blobs { checked, verdict } => (format!("{checked} blobs, hashed again"), verdict),
            AuditFinding::Contribution { window, miner, verdict, .. } => {
                self.windows.entry(window).or_default().contributions.insert(miner, verdict);
                return;
            }
            AuditFinding::Window(found) => {
                let window = self.windows.entry(found.window).or_default();
                let part = |(part, verdict): (&str, &VerdictView)| CheckedPart {
                    part: part.to_owned(),
                    verdict: verdict.clone(),
                };
                window.parts = found.parts().into_iter().map(part).collect();
                window.verdict = Some(found.verdict);
                return;
            }
            AuditFinding::NotReached { window, verdict } => {
                let found = self.windows.entry(window).or_default();
                found.verdict = Some(verdict.verdict);
                found.parts = vec![CheckedPart { part: "window".to_owned(), verdict }];
                return;
            }
        };
        self.home.push(CheckedPart { part, verdict });
    }
}
