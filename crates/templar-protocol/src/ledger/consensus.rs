//! From the validators' rows to consensus weights and mints: Yuma consensus in integers.
//!
//! A weight counts only as far as more than half of the stake behind the rows supports it. Weight that is not
//! agreed on is not minted: there is no normalisation after clipping and no fallback. Every division rounds
//! down.
//!
//! # Absent validators
//!
//! An outage of validators must not cost the miners what the others agree on. So a validator without a counted
//! score takes part with the opinion that it had before the window. A validator that never had one, or has not
//! been heard of for long, is left out of the stake that counts ([`RunState`](crate::RunState) has the rule).
//! Only validators with a counted score are paid.
//!
//! This gives a faulty minority nothing. Scores with more than two thirds of all stake are counted, so more
//! than half of the stake that counts is more than a third of all stake. A faulty minority of less than a third
//! supports nothing alone, and the opinion that it had before it could as well sign today.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{Genesis, Mint, MintKind, PublicKey, Weight};

use crate::stake;

/// One in parts per million.
pub(crate) const ONE_PPM: u64 = 1_000_000;

/// The agreement of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsensusWeights {
    /// `R_j = ⌊Σ_i S_i · min(W_ij, C_j) / Σ S⌋` in ppm for each paid miner, sorted by miner, zeros left out.
    /// The sum of stakes is over all that have a row.
    pub(crate) weights: Vec<Weight>,
    /// `S_i · Σ_j min(W_ij, C_j)` of each validator with a row, by which the validators' part is shared.
    pub(crate) shares: BTreeMap<PublicKey, u128>,
}

/// The largest value that more than half of `whole` supports; 0 where there is none. Each of `levels` is a
/// value and a stake, which supports every value up to it. (This is Yuma's κ = 1/2, strictly: of two equal
/// validators neither sets a weight alone.)
pub(crate) fn supported(mut levels: Vec<(u64, u64)>, whole: u64) -> u64 {
    levels.sort_unstable_by(|a, b| b.cmp(a));
    let mut support = 0u128;
    for (value, stake) in levels {
        support += u128::from(stake);
        if support * 2 > u128::from(whole) {
            return value;
        }
    }
    0
}

/// Clips every row to the supported weights. Only the miners in `paid` count.
pub(crate) fn agree(
    genesis: &Genesis,
    rows: &[(PublicKey, &[Weight])],
    paid: &BTreeSet<PublicKey>,
) -> ConsensusWeights {
    let whole = stake::stake_of(genesis, rows.iter().map(|(validator, _)| validator));
    // Turn the rows around: for each miner the stakes and weights of the validators that give it one.
    let mut columns = BTreeMap::<PublicKey, Vec<(PublicKey, u64, u64)>>::new();
    for (validator, row) in rows {
        let Some(stake) = genesis.validator(validator).map(|validator| validator.stake) else { continue };
        for weight in row.iter().filter(|weight| paid.contains(&weight.miner)) {
            let column = columns.entry(weight.miner).or_default();
            column.push((*validator, stake, weight.weight_ppm.into()));
        }
    }
    let mut weights = Vec::new();
    let mut shares = BTreeMap::new();
    for (miner, column) in columns {
        let consensus = supported(column.iter().map(|&(_, stake, weight)| (weight, stake)).collect(), whole);
        let mut rank = 0u128;
        for (validator, stake, weight) in column {
            let part = u128::from(stake) * u128::from(weight.min(consensus));
            rank += part;
            *shares.entry(validator).or_default() += part;
        }
        // There is at least one row and no stake is 0, so `whole` is not 0. A rank is at most the largest
        // weight, which is below 2^32.
        let weight_ppm = (rank / u128::from(whole)) as u32;
        if weight_ppm > 0 {
            weights.push(Weight { miner, weight_ppm });
        }
    }
    ConsensusWeights { weights, shares }
}

/// The mints of a window, sorted by account and kind, zeros left out. Every share is rounded down. With `E` the
/// emission of a window, `R_j` the weights and `A = Σ R_j`:
///
/// * miner `j` gets `⌊⌊E·miners⌋·R_j⌋`,
/// * the validators have the pot `P = ⌊⌊E·validators⌋·A⌋`. They share `⌊P·replays⌋` of it by the number of
///   replays that each has proven. Those who have proven any share the rest by [`ConsensusWeights::shares`],
/// * the treasury gets `⌊⌊E·treasury⌋·A⌋`.
pub(crate) fn mints(genesis: &Genesis, agreement: &ConsensusWeights, replays: &[(PublicKey, u64)]) -> Vec<Mint> {
    let emission = &genesis.emission;
    let part = |ppm: u32| fraction(emission.per_window_micros, u64::from(ppm), ONE_PPM);
    let agreed: u64 = agreement.weights.iter().map(|weight| u64::from(weight.weight_ppm)).sum();
    let mut mints = Vec::new();
    let mut mint = |account, kind, amount_micros| {
        if amount_micros > 0 {
            mints.push(Mint { account, kind, amount_micros });
        }
    };
    for weight in &agreement.weights {
        let amount = fraction(part(emission.miners_ppm), weight.weight_ppm.into(), ONE_PPM);
        mint(weight.miner, MintKind::Miner, amount);
    }
    let pot = fraction(part(emission.validators_ppm), agreed, ONE_PPM);
    let for_replays = fraction(pot, emission.replays_ppm.into(), ONE_PPM);
    let proven: u64 = replays.iter().map(|(_, count)| count).sum();
    for (validator, count) in replays {
        let amount = if proven == 0 { 0 } else { fraction(for_replays, *count, proven) };
        mint(*validator, MintKind::Replays, amount);
    }
    let pot = u128::from(pot - for_replays);
    // A row too is paid only to validators that have proven a replay.
    let has_proven = |validator: &PublicKey| replays.iter().any(|(key, count)| key == validator && *count > 0);
    let shares = || agreement.shares.iter().filter(|(validator, _)| has_proven(validator));
    let all: u128 = shares().map(|(_, share)| share).sum();
    for (validator, share) in shares() {
        // pot < 2^50 and share < 2^68; the quotient is at most the pot.
        let amount = (pot * share).checked_div(all).unwrap_or(0) as u64;
        mint(*validator, MintKind::Validator, amount);
    }
    let treasury = fraction(part(emission.treasury_ppm), agreed, ONE_PPM);
    mint(PublicKey::from_bytes([0; 32]), MintKind::Treasury, treasury);
    mints.sort_unstable_by_key(|mint| (mint.account, mint.kind));
    mints
}

/// `⌊whole · numerator / denominator⌋` for a numerator that is not above the denominator.
pub(crate) fn fraction(whole: u64, numerator: u64, denominator: u64) -> u64 {
    (u128::from(whole) * u128::from(numerator) / u128::from(denominator)) as u64
}
