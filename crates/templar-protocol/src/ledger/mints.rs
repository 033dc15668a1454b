//! The mints of a window, in integers. Every division rounds down.
//!
//! A window mints in proportion to the steps that were proven, up to the number for which genesis mints
//! everything. So nothing is paid for work that nobody did, whatever the weights say.

use templar_manifest::{EmissionSpec, Mint, MintKind, PublicKey, Weight};

/// One in parts per million.
pub(crate) const ONE_PPM: u64 = 1_000_000;

/// The work of a window that is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProvenWork {
    /// Inner steps of the contributions that are paid.
    pub(crate) steps: u64,
    /// The number of replays that each validator has proven.
    pub(crate) replays: Vec<(PublicKey, u64)>,
    /// The number of measurements that each validator has proven.
    pub(crate) evaluations: Vec<(PublicKey, u64)>,
}

/// The micro-ALPHA that a window with so many proven steps mints at most.
pub(crate) fn emission_of(spec: &EmissionSpec, steps: u64) -> u64 {
    fraction(spec.per_window_micros, steps.min(spec.target_steps), spec.target_steps)
}

/// The mints of a window, sorted by account and kind, zeros left out. Where no miner has a weight nothing is
/// minted. Otherwise, with `e = ⌊E · min(steps, target) / target⌋` for the emission `E` of a full window:
///
/// * miner `j` of weight `w_j` gets `⌊⌊e·miners⌋·w_j⌋`,
/// * the validators have the pot `P = ⌊e·validators⌋`. `⌊P·replays⌋` of it is shared by the number of replays
///   that each has proven, and the rest by the number of measurements. If nobody has proven any of one kind,
///   the other kind has the whole pot,
/// * the treasury gets `⌊e·treasury⌋`.
pub(crate) fn mints(spec: &EmissionSpec, weights: &[Weight], work: &ProvenWork) -> Vec<Mint> {
    if weights.is_empty() {
        return Vec::new();
    }
    let emission = emission_of(spec, work.steps);
    let part = |ppm: u32| fraction(emission, ppm.into(), ONE_PPM);
    let mut mints = Vec::new();
    let mut mint = |account, kind, amount_micros| {
        if amount_micros > 0 {
            mints.push(Mint { account, kind, amount_micros });
        }
    };
    for weight in weights {
        let amount = fraction(part(spec.miners_ppm), weight.weight_ppm.into(), ONE_PPM);
        mint(weight.miner, MintKind::Miner, amount);
    }
    let sum = |counts: &[(PublicKey, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
    let pot = part(spec.validators_ppm);
    let for_replays = match (sum(&work.replays), sum(&work.evaluations)) {
        (0, _) => 0,
        (_, 0) => pot,
        _ => fraction(pot, spec.replays_ppm.into(), ONE_PPM),
    };
    for (kind, whole, counts) in
        [(MintKind::Replays, for_replays, &work.replays), (MintKind::Evaluations, pot - for_replays, &work.evaluations)]
    {
        let all = sum(counts);
        for (validator, count) in counts.iter().filter(|(_, count)| *count > 0) {
            mint(*validator, kind, fraction(whole, *count, all));
        }
    }
    mint(PublicKey::from_bytes([0; 32]), MintKind::Treasury, part(spec.treasury_ppm));
    mints.sort_unstable_by_key(|mint| (mint.account, mint.kind));
    mints
}

/// `⌊whole · numerator / denominator⌋` for a numerator that is not above the denominator.
pub(crate) fn fraction(whole: u64, numerator: u64, denominator: u64) -> u64 {
    (u128::from(whole) * u128::from(numerator) / u128::from(denominator)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    const SPEC: EmissionSpec = EmissionSpec {
        per_window_micros: 1_000_000,
        target_steps: 40,
        miners_ppm: 410_000,
        validators_ppm: 410_000,
        treasury_ppm: 180_000,
        replays_ppm: 250_000,
        vesting_windows: 1,
        registration_cost_micros: 0,
    };

    fn minted(steps: u64, replays: &[u64], evaluations: &[u64]) -> Vec<(u8, MintKind, u64)> {
        let counts = |counts: &[u64]| {
            counts.iter().enumerate().map(|(place, count)| (key(place as u8 + 1), *count)).collect::<Vec<_>>()
        };
        let work = ProvenWork { steps, replays: counts(replays), evaluations: counts(evaluations) };
        let weights = [(7, 750_000), (8, 250_000)].map(|(miner, weight_ppm)| Weight { miner: key(miner), weight_ppm });
        let found = mints(&SPEC, &weights, &work);
        found.iter().map(|mint| (mint.account.as_bytes()[0], mint.kind, mint.amount_micros)).collect()
    }

    #[test]
    fn a_full_window_by_hand() {
        use MintKind::{Evaluations, Miner, Replays, Treasury};
        let expected = [
            (0, Treasury, 180_000),
            (1, Evaluations, 102_500),
            (1, Replays, 102_500),
            (2, Evaluations, 205_000),
            (7, Miner, 307_500),
            (8, Miner, 102_500),
        ];
        assert_eq!(minted(40, &[3, 0], &[1, 2]), expected);
        assert_eq!(minted(4_000, &[3, 0], &[1, 2]), expected, "more than the target mints no more");
    }

    #[test]
    fn a_window_with_a_tenth_of_the_steps_mints_a_tenth() {
        let sum = |steps| minted(steps, &[1], &[1]).iter().map(|(.., amount)| amount).sum::<u64>();
        assert_eq!((sum(40), sum(4), sum(0)), (1_000_000, 100_000, 0));
    }

    #[test]
    fn work_of_one_kind_alone_has_the_whole_pot_and_no_work_has_none() {
        let of = |found: Vec<(u8, MintKind, u64)>| -> Vec<(u8, MintKind, u64)> {
            found.into_iter().filter(|(account, ..)| (1..7).contains(account)).collect()
        };
        assert_eq!(
            of(minted(40, &[1, 3], &[0, 0])),
            [(1, MintKind::Replays, 102_500), (2, MintKind::Replays, 307_500)]
        );
        assert_eq!(of(minted(40, &[], &[0, 2])), [(2, MintKind::Evaluations, 410_000)]);
        assert_eq!(of(minted(40, &[], &[])), []);
        let nobody = ProvenWork { steps: 40, replays: vec![(key(1), 1)], evaluations: vec![] };
        assert_eq!(mints(&SPEC, &[], &nobody), []);
    }
}
