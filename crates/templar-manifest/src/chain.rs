//! A validator's hash chain: random values that are fixed before the run and revealed one window at a time.
//!
//! The value of window `N` hashes to the value of window `N − 1`, and the value of window 0 hashes to the
//! anchor in genesis. So a validator cannot choose its value after it has seen others': there is one value that
//! fits, which it can only reveal or withhold.

use crate::id::{Hash, WindowIndex};
use crate::key::SecretKey;

/// The number of windows that a chain has values for, after window 0.
pub const CHAIN_LENGTH: u64 = 1 << 16;

const STEP_CONTEXT: &str = "templar/1 hash chain step";
const INSECURE_CONTEXT: &str = "templar/1 hash chain secret";

fn step(value: &Hash) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(STEP_CONTEXT);
    hasher.update(value.as_bytes());
    hasher.finalize().into()
}

/// The chain that begins with a secret: 32 random bytes that serve for one run. Two runs that share a secret share
/// their values, so the values of one would foretell those of the other.
#[derive(Clone)]
pub struct Chain {
    secret: Hash,
}

impl Chain {
    /// The chain of a secret.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self { secret: Hash::from_bytes(secret) }
    }

    /// The chain that follows from a key and the name of a run, so that demonstrations and tests repeat. Everybody
    /// who sees a run of this name knows the values of the next one.
    pub fn insecure(key: &SecretKey, name: &str) -> Self {
        Self::new(key.derive(INSECURE_CONTEXT, name.as_bytes()))
    }

    /// The secret, for the file that keeps it.
    pub const fn secret(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    /// The anchor, which genesis holds.
    pub fn anchor(&self) -> Hash {
        (0..=CHAIN_LENGTH).fold(self.secret, |value, _| step(&value))
    }

    /// The value of a window; `None` beyond the end of the chain.
    pub fn value(&self, window: WindowIndex) -> Option<Hash> {
        let steps = CHAIN_LENGTH.checked_sub(window.0)?;
        Some((0..steps).fold(self.secret, |value, _| step(&value)))
    }

    /// The values of the first `windows` windows, computed in one walk along the chain. Fewer where the chain
    /// is shorter.
    pub fn values(&self, windows: u64) -> Vec<Hash> {
        let Some(last) = windows.min(CHAIN_LENGTH + 1).checked_sub(1) else { return Vec::new() };
        let first = (0..CHAIN_LENGTH - last).fold(self.secret, |value, _| step(&value));
        let mut values: Vec<Hash> =
            std::iter::successors(Some(first), |value| Some(step(value))).take(last as usize + 1).collect();
        values.reverse();
        values
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chain")
    }
}

/// Whether `value` is the value of a window whose predecessor (or the anchor, for window 0) is `previous`.
pub fn follows(previous: &Hash, value: &Hash) -> bool {
    step(value) == *previous
}

/// Whether `value` is the value of `window` in the chain with this `anchor`. A node uses it when it does not
/// know the value of the window before; it takes `window + 1` hashes.
pub fn follows_anchor(anchor: &Hash, window: WindowIndex, value: &Hash) -> bool {
    window.0 <= CHAIN_LENGTH && (0..=window.0).fold(*value, |value, _| step(&value)) == *anchor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hash_back_to_the_anchor() {
        let chain = Chain::new([3; 32]);
        let (zero, one) = (chain.value(WindowIndex(0)).unwrap(), chain.value(WindowIndex(1)).unwrap());
        assert!(follows(&chain.anchor(), &zero));
        assert!(follows(&zero, &one));
        assert!(follows_anchor(&chain.anchor(), WindowIndex(1), &one));
        assert!(!follows_anchor(&chain.anchor(), WindowIndex(0), &one));
        assert!(!follows(&zero, &zero));
        assert_ne!(chain.anchor(), Chain::new([4; 32]).anchor());
        assert_eq!(format!("{chain:?}"), "Chain", "a secret is not printed");
        assert!(chain.value(WindowIndex(CHAIN_LENGTH + 1)).is_none());
        assert_eq!(chain.values(2), [zero, one]);
        assert_eq!(chain.values(CHAIN_LENGTH + 9).len() as u64, CHAIN_LENGTH + 1);
        assert!(chain.values(0).is_empty());
    }
}
