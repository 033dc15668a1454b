//! Who judges a run.

use serde::{Deserialize, Serialize};

use crate::id::Hash;
use crate::key::PublicKey;

/// A validator of the first epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSpec {
    /// Its key.
    pub key: PublicKey,
    /// Its stake, in any unit.
    pub stake: u64,
    /// The anchor of its hash chain: the value of window N hashes to the value of window N−1, that of window 0 to this.
    pub chain_anchor: Hash,
}
