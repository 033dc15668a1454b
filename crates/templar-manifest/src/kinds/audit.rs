//! One auditor's recomputation of a window.

use serde::{Deserialize, Serialize};

use super::rules::{ascending, ascii};
use crate::id::{ContributionId, RecordId, RunId, WindowIndex};
use crate::key::PublicKey;
use crate::payload::{Kind, Payload};

/// The result of one auditor that recomputed a window from blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that was recomputed.
    pub window: WindowIndex,
    /// The record that was audited.
    pub record: RecordId,
    /// The key of the auditor that signs this.
    pub auditor: PublicKey,
    /// Whether scores, weights, seed, cut and links of the record recompute.
    pub record_verdict: AuditVerdict,
    /// Whether the checkpoint after the window recomputes.
    pub checkpoint_verdict: AuditVerdict,
    /// Whether mints, slashes, weights and the ledger after the window recompute.
    pub ledger_verdict: AuditVerdict,
    /// The result for each contribution of the record, sorted by miner.
    pub contributions: Vec<AuditEntry>,
}

/// The result of an audit for one contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// The miner who contributed (its owner key).
    pub miner: PublicKey,
    /// The id of its contribution.
    pub contribution: ContributionId,
    /// Whether the audit came to the recorded verdict.
    pub verdict: AuditVerdict,
}

/// The three possible results of an audit. Missing bytes never count as a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AuditVerdict {
    /// The audit recomputed it and came to the same bytes.
    Match,
    /// The audit recomputed it and came to something else.
    Mismatch {
        /// The first difference, in words.
        what: String,
    },
    /// The audit could not recompute it, because bytes are missing.
    Unavailable {
        /// The blob or state that is missing, in words.
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
