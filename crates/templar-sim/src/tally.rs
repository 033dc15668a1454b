//! The counts of a simulation: how often each invariant was checked, and how each member fared.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_manifest::PublicKey;

/// Something that honest nodes found out about a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The window in which it was found.
    pub window: u64,
    /// A description, such as `refused: withheld`.
    pub how: String,
}

/// The fate of the windows in which miners planted a trigger, and of the windows that continued from those (the
/// strategy `plant`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// Contributions with a planted trigger that a cut named.
    pub sent: u64,
    /// Contributions of `sent` that were aggregated. Their trigger stays in the model for good.
    pub aggregated: u64,
    /// Contributions of `sent` that a replay refuted, before the record or after it.
    pub seen: u64,
    /// Later honest contributions that were aggregated and start from a state that a planted window left.
    pub carried: u64,
    /// Matches that validators signed for contributions of `carried`.
    pub matched: u64,
}

impl Planted {
    /// Adds both, count by count.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            aggregated: self.aggregated + other.aggregated,
            seen: self.seen + other.seen,
            carried: self.carried + other.carried,
            matched: self.matched + other.matched,
        }
    }
}

/// Counts for the registrations that gave a slot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RegistrationCounts {
    /// All registrations that gave a slot.
    pub(crate) joined: u64,
    /// Those that took the slot from another member.
    pub(crate) replaced: u64,
    /// Those by a key that belongs to no simulated member, such as the keys of a flood.
    pub(crate) strangers: u64,
}

/// Counts for one member.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemberTally {
    /// Windows whose cut names a contribution of this miner.
    pub(crate) in_cut: u64,
    /// Windows in which its contribution was refused.
    pub(crate) refused: u64,
    /// Its contributions for which pay was slashed after their record.
    pub(crate) slashed: u64,
    /// Windows whose record has no hash-chain value of this validator.
    pub(crate) unrevealed: u64,
    /// The first thing that was found out about it.
    pub(crate) noticed: Option<Notice>,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct SimTally {
    invariants: BTreeMap<&'static str, u64>,
    members: BTreeMap<PublicKey, MemberTally>,
    pub(crate) registrations: RegistrationCounts,
    pub(crate) planted: Planted,
    /// The model's loss on the held-out pages after the last closed window, in 1e-9 nats.
    pub(crate) held_out_loss_nanonats: u64,
    /// Honest contributions that no validator replayed in time.
    pub(crate) unreplayed: u64,
    /// The most attempts that a cut, reveal set or record took.
    pub(crate) most_attempts: u32,
}

impl SimTally {
    /// Counts one check of an invariant.
    pub(crate) fn count(&mut self, invariant: &'static str) {
        *self.invariants.entry(invariant).or_default() += 1;
    }

    /// How often each invariant was checked.
    pub(crate) fn invariants(&self) -> &BTreeMap<&'static str, u64> {
        &self.invariants
    }

    /// How often any invariant was checked.
    pub(crate) fn checked(&self) -> u64 {
        self.invariants.values().sum()
    }

    /// The counts of a member; zeros for one that nothing happened to.
    pub(crate) fn of(&self, key: &PublicKey) -> MemberTally {
        self.members.get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn member(&mut self, key: &PublicKey) -> &mut MemberTally {
        self.members.entry(*key).or_default()
    }

    /// Writes down what was found out about a member; only the first finding is kept.
    pub(crate) fn notice(&mut self, about: &PublicKey, window: u64, how: &str) {
        self.member(about).noticed.get_or_insert_with(|| Notice { window, how: how.to_owned() });
    }
}
