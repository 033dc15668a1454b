//! The pay of a run, added up from its records.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_manifest::{Genesis, MintKind, PublicKey, WindowBody};

/// The pay of each participant of a run, in micro-ALPHA. The sums of miners, validators and treasury and the part that
/// was not minted add up to the emission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pay {
    /// The pay that the windows could mint at most.
    pub emission_micros: u64,
    /// The pay of the miners, by owner key. Those who got nothing are missing.
    pub miners: BTreeMap<PublicKey, u64>,
    /// The pay of the validators, for their measurements and for their replays.
    pub validators: BTreeMap<PublicKey, u64>,
    /// The pay of the treasury.
    pub treasury_micros: u64,
}

impl Pay {
    /// The pay that these records mint under this genesis.
    pub(super) fn of<'a>(genesis: &Genesis, records: impl IntoIterator<Item = &'a WindowBody>) -> Self {
        let mut pay = Self::default();
        for record in records {
            pay.emission_micros = pay.emission_micros.saturating_add(genesis.emission.per_window_micros);
            for mint in &record.mints {
                match mint.kind {
                    MintKind::Miner => *pay.miners.entry(mint.account).or_default() += mint.amount_micros,
                    MintKind::Evaluations | MintKind::Replays => {
                        *pay.validators.entry(mint.account).or_default() += mint.amount_micros;
                    }
                    MintKind::Treasury => pay.treasury_micros += mint.amount_micros,
                }
            }
        }
        pay
    }

    /// The pay that was minted.
    pub fn minted_micros(&self) -> u64 {
        self.miners.values().sum::<u64>() + self.validators.values().sum::<u64>() + self.treasury_micros
    }

    /// The part of the emission that was not minted, because too few steps were proven.
    pub fn not_minted_micros(&self) -> u64 {
        self.emission_micros.saturating_sub(self.minted_micros())
    }
}
