//! The validators of a run.

use serde::{Deserialize, Serialize};

use crate::id::Hash;
use crate::key::PublicKey;

/// A validator of the first epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSpec {
    /// The key with which the validator signs.
    pub key: PublicKey,
    /// Its stake, in any unit; only fractions of the sum matter.
    pub stake: u64,
    /// The anchor of its hash chain: the value of window N hashes to the value of window N−1, and the value of
    /// window 0 hashes to this.
    pub chain_anchor: Hash,
}
