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

/// Takes steps along a chain. The context is hashed once and not with every step.
struct Walk(blake3::Hasher);

impl Walk {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key(STEP_CONTEXT))
    }

    fn step(&mut self, value: &Hash) -> Hash {
        self.0.reset();
        self.0.update(value.as_bytes());
        self.0.finalize().into()
    }

    fn steps(&mut self, from: &Hash, steps: u64) -> Hash {
        (0..steps).fold(*from, |value, _| self.step(&value))
    }
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
        Walk::new().steps(&self.secret, CHAIN_LENGTH + 1)
    }

    /// The value of a window; `None` beyond the end of the chain.
    pub fn value(&self, window: WindowIndex) -> Option<Hash> {
        let steps = CHAIN_LENGTH.checked_sub(window.0)?;
        Some(Walk::new().steps(&self.secret, steps))
    }

    /// The values of the first `windows` windows, computed in one walk along the chain. Fewer where the chain
    /// is shorter.
    pub fn values(&self, windows: u64) -> Vec<Hash> {
        let Some(last) = windows.min(CHAIN_LENGTH + 1).checked_sub(1) else { return Vec::new() };
        let mut walk = Walk::new();
        let first = walk.steps(&self.secret, CHAIN_LENGTH - last);
        let mut values: Vec<Hash> =
            std::iter::successors(Some(first), |value| Some(walk.step(value))).take(last as usize + 1).collect();
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
    anchor_of(value) == *previous
}

/// What a value of a chain hashes to: the value of the window before, or of window 0 the anchor.
pub fn anchor_of(value: &Hash) -> Hash {
    Walk::new().step(value)
}

/// Whether `value` is the value of `window` in the chain with this `anchor`. A node uses it when it does not
/// know the value of the window before; it takes `window + 1` hashes.
pub fn follows_anchor(anchor: &Hash, window: WindowIndex, value: &Hash) -> bool {
    window.0 <= CHAIN_LENGTH && Walk::new().steps(value, window.0 + 1) == *anchor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hash_back_to_the_anchor() {
        let chain = Chain::new([3; 32]);
        let (zero, one) = (chain.value(WindowIndex(0)).unwrap(), chain.value(WindowIndex(1)).unwrap());
        assert!(follows(&chain.anchor(), &zero));
        assert_eq!(anchor_of(&zero), chain.anchor());
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
