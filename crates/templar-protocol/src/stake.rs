//! Fractions of stake, exactly.
//!
//! Validators decide everything together by two thresholds. More than two thirds of the stake certify a cut,
//! reveal set or record. More than a third puts a contribution into the cut. With less than a third of the stake
//! faulty, two certificates share an honest signer, and a contribution that all honest validators hold is always in the
//! cut.

use std::collections::BTreeSet;

use templar_manifest::{Genesis, PublicKey};

/// Whether `part` is more than two thirds of `whole`.
pub fn more_than_two_thirds(part: u64, whole: u64) -> bool {
    u128::from(part) * 3 > u128::from(whole) * 2
}

/// Whether `part` is more than a third of `whole`.
pub fn more_than_a_third(part: u64, whole: u64) -> bool {
    u128::from(part) * 3 > u128::from(whole)
}

/// The stake of the validators among `keys`, each counted once.
pub fn stake_of<'a>(genesis: &Genesis, keys: impl IntoIterator<Item = &'a PublicKey>) -> u64 {
    let distinct: BTreeSet<&PublicKey> = keys.into_iter().collect();
    distinct.into_iter().filter_map(|key| genesis.validator(key)).map(|validator| validator.stake).sum()
}

/// Whether the validators among `keys` hold more than two thirds of the stake.
pub fn is_quorum<'a>(genesis: &Genesis, keys: impl IntoIterator<Item = &'a PublicKey>) -> bool {
    more_than_two_thirds(stake_of(genesis, keys), genesis.total_stake())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thresholds_are_strict() {
        assert!(!more_than_two_thirds(2, 3) && more_than_two_thirds(3, 3) && more_than_two_thirds(3, 4));
        assert!(!more_than_a_third(1, 3) && more_than_a_third(2, 3) && more_than_a_third(1, 2));
        assert!(more_than_two_thirds(u64::MAX, u64::MAX) && !more_than_a_third(0, u64::MAX));
    }
}
