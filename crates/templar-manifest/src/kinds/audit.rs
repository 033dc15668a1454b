//! One auditor's recomputation of a window.

use serde::{Deserialize, Serialize};

use super::rules::{ascending, ascii};
use crate::id::{ContributionId, RecordId, RunId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// What an auditor found when it recomputed a window from blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The run.
    pub run: RunId,
    /// The window.
    pub window: WindowIndex,
    /// The record that was audited.
    pub record: RecordId,
    /// Who audited.
    pub auditor: PublicKey,
    /// Scores, weights, seed, cut and links of the record.
    pub record_verdict: AuditVerdict,
    /// The checkpoint after the window.
    pub checkpoint_verdict: AuditVerdict,
    /// The ledger after the window.
    pub ledger_verdict: AuditVerdict,
    /// Each contribution of the record, sorted by miner.
    pub contributions: Vec<AuditEntry>,
}

/// What an auditor found about one contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// The miner.
    pub miner: PublicKey,
    /// Its contribution.
    pub contribution: ContributionId,
    /// Whether the recorded verdict was found again.
    pub verdict: AuditVerdict,
}

/// The three answers of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AuditVerdict {
    /// Recomputed and equal.
    Match,
    /// Recomputed and different.
    Mismatch {
        /// What differs, and where first.
        what: String,
    },
    /// Not recomputed, because something is missing.
    Unavailable {
        /// What is missing.
        what: String,
    },
}

impl AuditVerdict {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Match => Ok(()),
            Self::Mismatch { what } | Self::Unavailable { what } => ascii("what", what, 1024),
        }
    }
}

impl Payload for Audit {
    const KIND: Kind = Kind::Audit;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        self.record_verdict.check()?;
        self.checkpoint_verdict.check()?;
        self.ledger_verdict.check()?;
        ascending("contributions", &self.contributions, |entry| entry.miner)?;
        self.contributions.iter().try_for_each(|entry| entry.verdict.check())
    }
}
