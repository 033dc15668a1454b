//! The reasons for which a copy of a state cannot be used.

use templar_manifest::{ContributionId, Hash, RunId};

/// A copy of a state cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertifiedStateError {
    /// The bytes are no copy of a state, or not in its only spelling.
    #[error("the bytes are no copy of a state")]
    Malformed,
    /// The state is of another run.
    #[error("it is the state of run {}", .0.short())]
    OtherRun(RunId),
    /// The header is not certified by validators with more than two thirds of the stake.
    #[error("its header is not certified")]
    NotCertified,
    /// The entries are not those that the header names.
    #[error("its entries have the root {}, and the header says {}", found.short(), said.short())]
    Root {
        /// The root of the entries.
        found: Hash,
        /// The root in the header.
        said: Hash,
    },
    /// A contribution that the state names is not there.
    #[error("it lacks contribution {0}")]
    Contribution(ContributionId),
}
