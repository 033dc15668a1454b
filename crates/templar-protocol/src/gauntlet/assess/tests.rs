//! The rules of the original that apply, with its numbers, and what must hold of any window.

use proptest::prelude::*;

use super::*;
use crate::gauntlet::Rating;

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn gains(gain: i128) -> MinerConduct {
    MinerConduct::Measured { gain_nanonats: gain, own_gain_nanonats: gain + 1 }
}

fn did(of: MinerConduct) -> Conduct {
    Conduct { of, restarted: false, steps: 3 }
}

fn departed(overlap_ppm: Option<u32>) -> MinerConduct {
    let copied = overlap_ppm.map(|overlap_ppm| Copied { overlap_ppm, of: key(9), window: WindowIndex(0) });
    MinerConduct::Departed { at_start: false, copied }
}

/// One miner among four others that gain, window after window.
struct Career {
    spec: GauntletSpec,
    window: u64,
    standings: BTreeMap<PublicKey, Standing>,
    last: Option<Assessment>,
}

impl Career {
    fn new(spec: GauntletSpec) -> Self {
        Self { spec, window: 0, standings: BTreeMap::new(), last: None }
    }

    fn proven(mut self) -> Self {
        self.standings.insert(key(1), Standing { proof_nanos: 1_000_000_000, ..Standing::NEW });
        self
    }

    fn window(&mut self, conduct: MinerConduct) -> &mut Self {
        let others = (2..6).map(|number| (key(number), did(gains(i128::from(number)))));
        let conducts = others.chain([(key(1), did(conduct))]).collect();
        let found = assess(&self.spec, WindowIndex(self.window), &self.standings, &conducts);
        self.standings = found.standings.clone();
        self.last = Some(found);
        self.window += 1;
        self
    }

    fn standing(&self) -> Standing {
        self.standings[&key(1)]
    }

    fn is_paid(&self) -> bool {
        self.last.as_ref().is_some_and(|found| found.scores.contains_key(&key(1)))
    }

    fn penalties(&self) -> Vec<(Offence, u32)> {
        let changes = self.last.iter().flat_map(|found| &found.changes).filter(|change| change.miner == key(1));
        changes
            .filter_map(|change| match change.cause {
                Cause::Penalty { row, measure, .. } => Some((row.offence, measure)),
                _ => None,
            })
            .collect()
    }
}

/// 1, three quarters, a half of that, nothing.
#[test]
fn withholding_escalates_as_a_missing_gradient_did() {
    let mut career = Career::new(GauntletSpec::customary()).proven();
    let proofs = [(); 3].map(|()| career.window(MinerConduct::Withheld).standing().proof_nanos);
    assert_eq!(proofs, [750_000_000, 375_000_000, 0]);
    // An interruption begins the count anew.
    let mut career = Career::new(GauntletSpec::customary()).proven();
    career.window(MinerConduct::Withheld).window(gains(1)).window(MinerConduct::Withheld);
    assert_eq!(career.penalties(), [(Offence::Withheld, 1)]);
}

/// Served, and not, as in the original's test of eight: three of eight are borne, a fourth is not.
#[test]
fn withholding_half_of_the_time_resets_and_excludes() {
    let mut career = Career::new(GauntletSpec::customary()).proven();
    for served in [true, false, true, true, false, true, false, true] {
        career.window(if served { gains(10) } else { MinerConduct::Withheld });
        assert!(!career.standing().is_excluded(WindowIndex(career.window)));
    }
    assert_eq!(career.standing().withheld.often(), 3);
    career.window(MinerConduct::Withheld);
    assert_eq!(career.penalties(), [(Offence::Withheld, 1), (Offence::WithheldOften, 4)]);
    let standing = career.standing();
    assert_eq!((standing.proof_nanos, standing.rating.sigma_picos), (0, Rating::NEW.sigma_picos));
    assert!(standing.rating.mu_picos <= Rating::NEW.mu_picos);
    // Twenty windows from the one in which it happened.
    assert!(standing.is_excluded(WindowIndex(8 + 19)) && !standing.is_excluded(WindowIndex(8 + 20)));
}

/// A miner that commits nothing keeps its standing and gains nothing; and with the original's table it pays.
#[test]
fn a_missing_miner_merely_does_not_gain() {
    let mut career = Career::new(GauntletSpec::customary()).proven();
    let before = career.standing();
    for _ in 0..8 {
        career.window(MinerConduct::Missing);
    }
    let after = career.standing();
    assert_eq!((after.rating, after.proof_nanos), (before.rating, before.proof_nanos));
    assert!(!career.is_paid() && after.missing.often() == 8);

    let mut spec = GauntletSpec::customary();
    let row =
        |from, factor_ppm| Penalty { offence: Offence::Missing, from, factor_ppm, resets: false, excluded_windows: 0 };
    spec.penalties.splice(0..0, [row(1, 750_000), row(2, 500_000), row(3, 0)]);
    let mut career = Career::new(spec).proven();
    let proofs = [(); 3].map(|()| career.window(MinerConduct::Missing).standing().proof_nanos);
    assert_eq!(proofs, [750_000_000, 375_000_000, 0]);
}

/// Five of the last eight cost three quarters of the proof, four cost nothing.
#[test]
fn negative_gains_cost_from_five_of_eight() {
    let mut career = Career::new(GauntletSpec::customary()).proven();
    for negative in [true, true, false, true, false, true] {
        career.window(gains(if negative { -5 } else { 5 }));
        assert_eq!(career.penalties(), []);
    }
    assert_eq!(career.standing().negative.often(), 4);
    let mut without = career.standing();
    career.window(gains(-5));
    assert_eq!(career.penalties(), [(Offence::NegativeOften, 5)]);
    without.prove(&career.spec.proof, true);
    assert_eq!(career.standing().proof_nanos, without.proof_nanos / 4);
    // A positive one is not punished for those before it.
    career.window(gains(5));
    assert_eq!(career.penalties(), []);
}

#[test]
fn three_negatives_in_a_row_exclude_until_one_is_positive() {
    let mut career = Career::new(GauntletSpec::customary()).proven();
    let paid = [-5, -5, -5, -5, 5, -5].map(|gain| career.window(gains(gain)).is_paid());
    assert_eq!(paid, [true, true, false, false, true, true]);
}

/// Where most deltas made the model worse, the window is to blame.
#[test]
fn a_bad_window_blames_nobody() {
    let conducts: Conducts =
        [(1, -9), (2, -8), (3, 1), (4, 2)].into_iter().map(|(who, gain)| (key(who), did(gains(gain)))).collect();
    let spec = GauntletSpec::customary();
    let found = assess(&spec, WindowIndex(0), &BTreeMap::new(), &conducts);
    assert!(found.standings.values().all(|standing| standing.negative.bits() == 0));
    // With one more that gained, most did.
    let conducts = conducts.into_iter().chain([(key(5), did(gains(3)))]).collect();
    let found = assess(&spec, WindowIndex(0), &BTreeMap::new(), &conducts);
    assert_eq!(found.standings[&key(1)].negative.bits(), 1);
}

/// The three degrees of a copy: a half, a reset, a reset and twenty windows.
#[test]
fn a_copy_that_does_not_replay_pays_by_its_likeness() {
    let expected = [
        (399_999, None),
        (400_000, Some((400_000, false, 0))),
        (499_000, Some((400_000, false, 0))),
        (500_000, Some((500_000, true, 0))),
        (501_000, Some((500_000, true, 0))),
        (599_000, Some((500_000, true, 0))),
        (600_000, Some((600_000, true, 20))),
        (601_000, Some((600_000, true, 20))),
        (1_000_000, Some((600_000, true, 20))),
    ];
    for (overlap, expected) in expected {
        let found = lookup(&GauntletSpec::customary().penalties, Offence::Copied, overlap);
        assert_eq!(found.map(|row| (row.from, row.resets, row.excluded_windows)), expected, "{overlap}");
    }
    // The first degree alone, to see its half: a table without the mismatch that goes with it.
    let mut spec = GauntletSpec::customary();
    spec.penalties.retain(|row| row.offence != Offence::Mismatch);
    let mut career = Career::new(spec).proven();
    assert_eq!(career.window(departed(Some(450_000))).standing().proof_nanos, 500_000_000);
    let mut career = Career::new(GauntletSpec::customary()).proven();
    career.window(departed(Some(1_000_000)));
    assert_eq!(career.penalties(), [(Offence::Mismatch, 1), (Offence::Copied, 1_000_000)]);
    assert!(career.standing().is_excluded(WindowIndex(19)) && !career.standing().is_excluded(WindowIndex(20)));
}

/// Another base is a fault of its own: the factor of synchronisation is 1, or the delta is refused and pays this.
#[test]
fn another_start_is_out_of_sync() {
    let mut career = Career::new(GauntletSpec::customary()).proven();
    career.window(MinerConduct::Departed { at_start: true, copied: None });
    assert_eq!(career.penalties(), [(Offence::OutOfSync, 1)]);
    assert_eq!(career.standing().proof_nanos, 750_000_000);
    assert!(!career.is_paid());
    career.window(MinerConduct::Invalid);
    assert_eq!((career.penalties(), career.standing().proof_nanos), (vec![(Offence::Invalid, 1)], 0));
}

#[test]
fn a_withheld_delta_ranks_below_any_revealed_one() {
    let conducts: Conducts = [
        (1, MinerConduct::Withheld),
        (2, gains(-(1 << 64))),
        (3, departed(None)),
        (4, MinerConduct::Invalid),
        (5, gains(7)),
        (6, gains(7)),
        (7, MinerConduct::Missing),
        (8, MinerConduct::Withheld),
    ]
    .into_iter()
    .map(|(who, conduct)| (key(who), did(conduct)))
    .collect();
    let found = assess(&GauntletSpec::customary(), WindowIndex(0), &BTreeMap::new(), &conducts);
    let places: Vec<(PublicKey, u32)> = found
        .changes
        .iter()
        .filter_map(|change| match change.cause {
            Cause::Match { place, entrants: 7 } => Some((change.miner, place)),
            _ => None,
        })
        .collect();
    let expected = [(1, 4), (2, 2), (3, 3), (4, 3), (5, 1), (6, 1), (8, 4)].map(|(who, place)| (key(who), place));
    assert_eq!(places, expected);
    assert_eq!(found.standings[&key(5)].rating, found.standings[&key(6)].rating);
}

#[test]
fn a_lost_state_costs_the_certainty_and_no_more() {
    let rating = Rating { mu_picos: 30_000_000_000_000, sigma_picos: 2_000_000_000_000 };
    let before = BTreeMap::from([(key(1), Standing { rating, proof_nanos: 5, ..Standing::NEW })]);
    // Alone, so that there is no match.
    let conducts = Conducts::from([(key(1), Conduct { restarted: true, ..did(gains(1)) })]);
    let found = assess(&GauntletSpec::customary(), WindowIndex(0), &before, &conducts);
    let expected = Rating { sigma_picos: Rating::NEW.sigma_picos, ..rating };
    assert_eq!(found.standings[&key(1)].rating, expected);
    assert_eq!(found.changes[0].cause, Cause::Restarted);
}

/// The exploit of the original's issue 108: deltas that are bad on both kinds of page earned by a product of
/// two negatives.
#[test]
fn who_is_bad_at_everything_earns_nothing() {
    let mut career = Career::new(GauntletSpec::customary());
    for _ in 0..30 {
        career.window(MinerConduct::Measured { gain_nanonats: -5, own_gain_nanonats: -6 });
        assert!(career.last.as_ref().unwrap().scores.get(&key(1)).is_none_or(|score| *score == 0));
    }
    let standing = career.standing();
    assert!(standing.proof_nanos < 0 && standing.rating.ordinal_picos() < 0);
    // Zeros gain nothing anywhere, and that is no proof either.
    let mut career = Career::new(GauntletSpec::customary());
    for _ in 0..30 {
        career.window(MinerConduct::Measured { gain_nanonats: 0, own_gain_nanonats: 0 });
    }
    assert!(career.standing().proof_nanos < 0 && career.standing().negative.bits() == 0);
}

/// A miner whose steps gain more is paid more, whatever the others gain, and whatever its rating.
#[test]
fn the_factor_of_pay_follows_the_worth_of_steps() {
    let mut career = Career::new(GauntletSpec::customary());
    // The others gain 2 to 5, so the median of the five is 4 at most.
    (0..40).for_each(|_| {
        career.window(gains(40));
    });
    assert!((1_400_000_000..=1_500_000_000).contains(&career.standing().factor_nanos));
    let cause = |found: &Assessment| {
        found.changes.iter().find_map(|change| match change.cause {
            Cause::Worth(worth) if change.miner == key(1) => Some(worth),
            _ => None,
        })
    };
    let worth = cause(career.last.as_ref().unwrap()).unwrap();
    assert_eq!((worth.gain_piconats, worth.median_piconats, worth.ratio_ppm), (13_333, 1_333, 1_500_000));
    let before = career.standing().factor_nanos;
    career.window(MinerConduct::Unmeasured);
    assert_eq!(career.standing().factor_nanos, before, "what nobody measured changes nothing");
    career.window(MinerConduct::Withheld);
    assert_eq!(career.standing().factor_nanos, before * 3 / 4, "a penalty is one of pay as well");
    let mut career = Career::new(GauntletSpec { weights: WeightRule::rank_ramp(), ..GauntletSpec::customary() });
    (0..9).for_each(|_| {
        career.window(gains(40));
    });
    assert_eq!(career.standing().factor_nanos, Standing::NEW.factor_nanos);
    assert_eq!(cause(career.last.as_ref().unwrap()), None);
}

fn conducts() -> impl Strategy<Value = MinerConduct> {
    prop_oneof![
        Just(MinerConduct::Missing),
        Just(MinerConduct::Withheld),
        Just(MinerConduct::Invalid),
        (any::<bool>(), prop::option::of(0u32..=1_000_000)).prop_map(|(at_start, overlap)| {
            let MinerConduct::Departed { copied, .. } = departed(overlap) else { unreachable!() };
            MinerConduct::Departed { at_start, copied }
        }),
        (-100i128..100, -100i128..100)
            .prop_map(|(gain_nanonats, own_gain_nanonats)| MinerConduct::Measured { gain_nanonats, own_gain_nanonats }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The log leads from the standing before to the one after without a gap; no penalty raises a score; and
    /// nobody who is at fault is paid.
    #[test]
    fn the_log_explains_everything_and_penalties_only_lower(
        windows in prop::collection::vec(prop::collection::vec((conducts(), any::<bool>(), 1u32..4), 5), 1..12),
    ) {
        let spec = GauntletSpec::customary();
        let mut standings = BTreeMap::new();
        for (window, row) in windows.into_iter().enumerate() {
            let window = WindowIndex(window as u64);
            let conducts: Conducts = row
                .into_iter()
                .zip(1..)
                .map(|((of, restarted, steps), who)| (key(who), Conduct { of, restarted, steps }))
                .collect();
            let found = assess(&spec, window, &standings, &conducts);
            for (miner, after) in &found.standings {
                let mut standing = standings.get(miner).copied().unwrap_or(Standing::NEW);
                for change in found.changes.iter().filter(|change| change.miner == *miner) {
                    // Faults that only the histories tell change nothing else.
                    let histories = (change.before.missing, change.before.withheld);
                    prop_assert_eq!(change.before, Standing { missing: histories.0, withheld: histories.1, ..standing });
                    if matches!(change.cause, Cause::Penalty { .. } | Cause::Restarted) {
                        let score = |of: &Standing| of.score_picos(&spec.proof, window);
                        prop_assert!(score(&change.after) <= score(&change.before));
                        prop_assert!(change.after.excluded_until >= change.before.excluded_until);
                    }
                    standing = change.after;
                }
                let histories = (after.missing, after.withheld);
                prop_assert_eq!(*after, Standing { missing: histories.0, withheld: histories.1, ..standing });
                let measured = matches!(conducts[miner].of, MinerConduct::Measured { .. });
                prop_assert_eq!(found.scores.contains_key(miner), measured && !after.is_excluded(window));
            }
            standings = found.standings;
        }
    }
}
