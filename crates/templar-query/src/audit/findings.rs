//! The findings of an audit, and the answer that they add up to: the worst of all verdicts.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_audit::WindowAudit;
use templar_home::memory::Head;
use templar_manifest::{
    Audit, AuditEntry, AuditVerdict, CheckpointId, ContributionId, Hash, PublicKey, RecordId, RunId, WindowIndex,
};

use super::head::AuditedHead;

/// The three answers of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditAnswer {
    /// The recomputation gives the recorded result.
    Match,
    /// The recomputation gives another result than the record.
    Mismatch,
    /// An input is missing, so nothing can be recomputed.
    Unavailable,
}

impl AuditAnswer {
    /// The name in texts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Mismatch => "mismatch",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A verdict with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictView {
    /// The answer in one word.
    pub verdict: AuditAnswer,
    /// The first difference, or the missing input; `None` for a match.
    pub what: Option<String>,
}

impl From<AuditVerdict> for VerdictView {
    fn from(verdict: AuditVerdict) -> Self {
        let (verdict, what) = match verdict {
            AuditVerdict::Match => (AuditAnswer::Match, None),
            AuditVerdict::Mismatch { what } => (AuditAnswer::Mismatch, Some(what)),
            AuditVerdict::Unavailable { what } => (AuditAnswer::Unavailable, Some(what)),
        };
        Self { verdict, what }
    }
}

/// Something that happens during an audit.
#[derive(Debug, Clone)]
pub enum AuditEvent {
    /// The checkpoint or a state that the window starts from is not here, so all windows from 0 to `last` come first.
    StartMissing {
        /// The input that is missing.
        what: String,
        /// The last window that is recomputed only to get to the one that was asked for.
        last: WindowIndex,
    },
    /// The replays of a window begin.
    Replaying {
        /// The window that is audited.
        window: WindowIndex,
        /// The number of contributions to replay.
        contributions: usize,
    },
    /// A part of the audit is done; this is its finding.
    Found(AuditFinding),
}

/// A finding of an audit.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum AuditFinding {
    /// The first checkpoint and the zero state, made again from genesis.
    Genesis {
        /// The run that is audited.
        run: RunId,
        /// The checkpoint before window 0; `None` if genesis cannot be read.
        checkpoint: Option<CheckpointId>,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
    /// The entries of the journal, accepted by the rules again.
    Journal {
        /// The number of entries.
        entries: usize,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
    /// The last record of the journal, compared with the one that is known or expected.
    Head {
        /// The record and its signatures; `None` where no window is closed.
        #[serde(flatten)]
        head: Option<AuditedHead>,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
    /// The answers of peers that were asked for a later record.
    Peers {
        /// The number of peers that answered.
        answered: usize,
        /// A later record than the last one of the journal; `None` if they know none.
        ahead: Option<Head>,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
    /// The replay of one contribution.
    Contribution {
        /// The window of the contribution.
        window: WindowIndex,
        /// The miner that trained it.
        miner: PublicKey,
        /// The id of the contribution.
        contribution: ContributionId,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
    /// The recomputation of one window.
    Window(Box<WindowFinding>),
    /// A window that could not be recomputed because of an earlier one.
    #[serde(rename = "window")]
    NotReached {
        /// The window that was not recomputed.
        window: WindowIndex,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
    /// The blobs of the run, hashed.
    Blobs {
        /// The number of blobs.
        checked: u64,
        /// The verdict on this part.
        #[serde(flatten)]
        verdict: VerdictView,
    },
}

/// The verdicts on the parts of a window.
#[derive(Debug, Clone, Serialize)]
pub struct WindowFinding {
    /// The window that was audited.
    pub window: WindowIndex,
    /// The record that was audited.
    pub manifest: RecordId,
    /// The worst verdict, contributions included.
    pub verdict: AuditAnswer,
    /// Scores, weights, seed, cut and links of the record.
    pub record: VerdictView,
    /// The checkpoint after the window.
    pub checkpoint: VerdictView,
    /// The ledger after the window.
    pub ledger: VerdictView,
    /// The blob of the audit manifest, once the caller has kept it.
    pub audit: Option<Hash>,
    /// The blob of the signed audit, once the caller has kept it.
    pub signed: Option<Hash>,
    /// The audit manifest, for a caller that signs it.
    #[serde(skip)]
    pub findings: Audit,
    /// How many contributions were replayed.
    #[serde(skip)]
    pub replayed: u64,
    /// Whether the findings may be signed: nothing of this home that the audit has read so far is damaged.
    #[serde(skip)]
    pub may_sign: bool,
}

impl WindowFinding {
    pub(super) fn of(found: &WindowAudit, may_sign: bool) -> Self {
        let audit = &found.audit;
        Self {
            window: audit.window,
            manifest: audit.record,
            verdict: VerdictView::from(found.verdict().clone()).verdict,
            record: audit.record_verdict.clone().into(),
            checkpoint: audit.checkpoint_verdict.clone().into(),
            ledger: audit.ledger_verdict.clone().into(),
            audit: None,
            signed: None,
            findings: audit.clone(),
            replayed: found.replayed,
            may_sign,
        }
    }

    /// The parts of the window with their names.
    pub fn parts(&self) -> [(&'static str, &VerdictView); 3] {
        [("record", &self.record), ("checkpoint", &self.checkpoint), ("ledger", &self.ledger)]
    }
}

impl AuditFinding {
    pub(super) fn contribution(window: WindowIndex, entry: &AuditEntry) -> Self {
        let AuditEntry { miner, contribution, ref verdict } = *entry;
        Self::Contribution { window, miner, contribution, verdict: verdict.clone().into() }
    }
}

/// The answer of an audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSummary {
    /// The run that was audited.
    pub run: RunId,
    /// The name of the run, if its genesis is here.
    pub name: Option<String>,
    /// The number of windows that were recomputed.
    pub windows: u64,
    /// The first of them.
    pub first_window: Option<WindowIndex>,
    /// The record of the last of them.
    pub record: Option<AuditedHead>,
    /// The number of contributions in these windows.
    pub contributions: u64,
    /// The number of contributions that were replayed to the end.
    pub replayed: u64,
    /// A later record that peers know and this home does not.
    pub ahead: Option<Head>,
    /// The first difference, with its place.
    pub mismatch: Option<String>,
    /// The first missing input, with its place.
    pub unavailable: Option<String>,
    /// Whether the files of the run in this home, such as its journal, are damaged or not what they were.
    pub has_own_fault: bool,
    /// The blobs that are damaged here, each with the first error.
    pub damaged: BTreeMap<Hash, String>,
}

impl AuditSummary {
    pub(super) fn of(run: RunId) -> Self {
        Self {
            run,
            name: None,
            windows: 0,
            first_window: None,
            record: None,
            contributions: 0,
            replayed: 0,
            ahead: None,
            mismatch: None,
            unavailable: None,
            has_own_fault: false,
            damaged: BTreeMap::new(),
        }
    }

    /// The worst of all verdicts, with its reason. An audit of no window is no match, and neither is one whose reads
    /// have found damage that changed no verdict.
    pub fn answer(&self) -> VerdictView {
        let nothing = || "nothing was audited: the journal has no closed window".to_owned();
        let damaged = self.damaged.values().next().map(|what| format!("damaged here: {what}"));
        let unavailable = self.unavailable.clone().or(damaged).or_else(|| (self.windows == 0).then(nothing));
        let (verdict, what) = match (self.mismatch.clone(), unavailable) {
            (Some(what), _) => (AuditAnswer::Mismatch, Some(what)),
            (None, Some(what)) => (AuditAnswer::Unavailable, Some(what)),
            (None, None) => (AuditAnswer::Match, None),
        };
        VerdictView { verdict, what }
    }

    /// Takes a finding into account.
    pub(super) fn count(&mut self, finding: &AuditFinding) {
        match finding {
            AuditFinding::Genesis { verdict, .. } => self.take_own(verdict, "genesis"),
            AuditFinding::Journal { verdict, .. } => self.take_own(verdict, "journal"),
            AuditFinding::Head { verdict, .. } => self.take_own(verdict, "last record"),
            // A home that is behind has lost nothing.
            AuditFinding::Peers { ahead, verdict, .. } => {
                self.ahead = *ahead;
                self.take(verdict, "last record");
            }
            AuditFinding::Contribution { window, miner, verdict, .. } => {
                self.contributions += 1;
                self.take(verdict, &format!("window {window}, miner {}", miner.short()));
            }
            AuditFinding::Window(found) => {
                self.windows += 1;
                self.replayed += found.replayed;
                self.first_window.get_or_insert(found.window);
                for (part, verdict) in found.parts() {
                    self.take(verdict, &format!("window {}, {part}", found.window));
                }
            }
            AuditFinding::NotReached { window, verdict } => self.take(verdict, &format!("window {window}")),
            AuditFinding::Blobs { verdict, .. } => self.take(verdict, "blobs"),
        }
    }

    /// The same for a verdict on this home's own files.
    fn take_own(&mut self, verdict: &VerdictView, place: &str) {
        self.has_own_fault |= verdict.verdict != AuditAnswer::Match;
        self.take(verdict, place);
    }

    fn take(&mut self, verdict: &VerdictView, place: &str) {
        let first = match verdict.verdict {
            AuditAnswer::Match => return,
            AuditAnswer::Mismatch => &mut self.mismatch,
            AuditAnswer::Unavailable => &mut self.unavailable,
        };
        let what = verdict.what.as_deref().unwrap_or_default();
        first.get_or_insert_with(|| format!("{place}: {what}"));
    }
}
