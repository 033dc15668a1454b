//! The work of a validator beside that of a miner, and rules under which validators can do it in time.
//!
//! A validator repeats some contributions and measures some. The unit of its load is the training of one miner for
//! one window. The person who makes a run tells how many miners are expected, as `emission.target_steps`, and how fast
//! a machine trains. The rules of replay, the fee of a slot and the deadlines follow.

use templar_manifest::{GauntletSpec, Genesis, ReplaySpec};

/// How many forward passes a training step on a page takes as long as.
const FORWARDS: f64 = 2.5;
/// The largest load that is chosen without being asked for.
const MOST_LOAD: f64 = 6.0;
/// How many validators measure a contribution, if there are so many.
const EVALUATORS: u32 = 3;
/// Windows after its own in which a verdict counts, and those in which a challenge can be answered, where not
/// everything can be replayed before the record.
const LATE_WINDOWS: u64 = 2;
/// Windows of vesting in such a run. The longer pay can be slashed, the less a slot has to cost.
const LATE_VESTING: u64 = 16;
/// The time that a phase has on top of its work, for fetching and for slow machines.
const SPARE_MS: u64 = 60_000;

/// The load of one validator in a window, in multiples of the training of one miner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidatorLoad {
    /// The part that goes into replays.
    pub replays: f64,
    /// The part that goes into measuring deltas and the held-out loss.
    pub measurements: f64,
}

impl ValidatorLoad {
    /// The mean load of a validator in a run with so many miners, all of which take all steps.
    pub fn of(genesis: &Genesis, miners: u64) -> Self {
        let (miners, validators) = (miners as f64, genesis.validators.len().max(1) as f64);
        let (replay, gauntlet, context) = (&genesis.replay, &genesis.gauntlet, genesis.context_at(0));
        let fraction = f64::from(replay.fraction_ppm) / 1e6;
        let places = f64::from(replay.least_replays).min(validators) / validators;
        let drawn = f64::from(gauntlet.evaluators).min(validators) / validators;
        let pages = f64::from(gauntlet.assigned_pages) * 2.0 + f64::from(gauntlet.unassigned_pages);
        let once = f64::from(gauntlet.unassigned_pages);
        let checked = f64::from(gauntlet.spot_checks_ppm) / 1e6 * (1.0 - drawn) * miners * pages;
        let checked = if gauntlet.spot_checks_ppm > 0 { checked + once } else { 0.0 };
        let measured = drawn * miners * pages + once + f64::from(gauntlet.held_out_pages) + checked;
        let trained = FORWARDS * f64::from(genesis.inner.steps) * f64::from(context.batch_sequences);
        Self { replays: miners * (fraction + (1.0 - fraction) * places), measurements: measured / trained }
    }

    /// Both parts together.
    pub fn total(&self) -> f64 {
        self.replays + self.measurements
    }
}

/// The number of miners that a run mints everything for, if all of them take all steps.
pub fn expected_miners(genesis: &Genesis) -> u64 {
    genesis.emission.target_steps.div_ceil(u64::from(genesis.inner.steps).max(1))
}

/// The time that one miner trains in a window at this speed, in milliseconds, rounded up.
fn training_ms(genesis: &Genesis, tokens_per_second: u64) -> u64 {
    let context = genesis.context_at(0);
    let tokens =
        u128::from(genesis.inner.steps) * u128::from(context.batch_sequences) * u128::from(context.sequence_length);
    u64::try_from((tokens * 1_000).div_ceil(u128::from(tokens_per_second.max(1)))).unwrap_or(u64::MAX)
}

/// The time that a validator needs to judge a window at this speed, in milliseconds.
pub fn judging_ms(genesis: &Genesis, tokens_per_second: u64) -> u64 {
    let load = ValidatorLoad::of(genesis, expected_miners(genesis)).total();
    (load * training_ms(genesis, tokens_per_second) as f64).ceil() as u64
}

/// Chooses how many validators measure and replay each contribution, when, and the fee of a slot, as far as no
/// setting of `is_set` says it.
///
/// If validators can replay each contribution so often before the record that one of them is honest, they do. If
/// that is more work than they should have, each replays a part of all within a few windows, and the fee makes up
/// for what stays unseen.
pub(crate) fn choose_checks(genesis: &mut Genesis, is_set: &dyn Fn(&str) -> bool) {
    let validators = genesis.validators.len() as u32;
    if genesis.gauntlet.measures() && !is_set("gauntlet.evaluators") {
        genesis.gauntlet.evaluators = EVALUATORS.min(validators).max(1);
    }
    choose_spot_checks(genesis, is_set);
    if is_set("replay") {
        return;
    }
    let miners = expected_miners(genesis);
    let faulty = ReplaySpec::most_faulty(&genesis.validators) as u32;
    genesis.replay = ReplaySpec { fraction_ppm: 0, least_replays: faulty + 1, ..ReplaySpec::whole() };
    let load = ValidatorLoad::of(genesis, miners);
    if load.total() <= MOST_LOAD {
        return;
    }
    let fraction = (MOST_LOAD - load.measurements).max(0.0) / miners.max(1) as f64;
    genesis.replay = ReplaySpec {
        before_close: false,
        fraction_ppm: ((fraction * 1e6) as u32).clamp(1, 1_000_000),
        least_replays: 0,
        verdict_windows: LATE_WINDOWS,
        challenge_windows: LATE_WINDOWS,
        ..ReplaySpec::whole()
    };
    if !is_set("emission.vesting_windows") {
        genesis.emission.vesting_windows = LATE_VESTING;
    }
    charge(genesis, is_set);
}

/// Chooses how often measurements are checked, where no setting says it.
pub(crate) fn choose_spot_checks(genesis: &mut Genesis, is_set: &dyn Fn(&str) -> bool) {
    if genesis.gauntlet.measures() && !is_set("gauntlet.spot_checks_ppm") {
        let evaluators = genesis.gauntlet.evaluators;
        genesis.gauntlet.spot_checks_ppm = GauntletSpec::spot_checks_for(evaluators, &genesis.validators);
    }
}

/// Sets what a slot must cost so that cheating loses money, and the price of a burn that is at least that.
fn charge(genesis: &mut Genesis, is_set: &dyn Fn(&str) -> bool) {
    let least = genesis.replay.least_registration_cost(&genesis.emission, &genesis.validators);
    let Some(least) = least.and_then(|least| u64::try_from(least).ok()) else { return };
    if !is_set("emission.registration_cost_micros") {
        genesis.emission.registration_cost_micros = least;
    }
    if !is_set("registration.burn") {
        let burn = &mut genesis.registration.burn;
        burn.least = burn.least.max(least);
        burn.first = burn.first.max(burn.least);
        burn.most = burn.most.max(burn.first);
    }
}

/// Chooses the deadlines for machines of this speed, as far as no setting says them: twice the work of the phase.
pub(crate) fn choose_deadlines(genesis: &mut Genesis, tokens_per_second: u64, is_set: &dyn Fn(&str) -> bool) {
    let twice = |work_ms: u64| work_ms.saturating_mul(2).saturating_add(SPARE_MS);
    if !is_set("deadlines.commit_ms") {
        genesis.deadlines.commit_ms = twice(training_ms(genesis, tokens_per_second));
    }
    if !is_set("deadlines.judge_ms") {
        genesis.deadlines.judge_ms = twice(judging_ms(genesis, tokens_per_second));
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::testing::GenesisBuilder;
    use templar_manifest::{Hash, Payload as _, PublicKey, ValidatorSpec};

    use super::*;

    fn run_of(miners: u64, validators: u8) -> Genesis {
        let validator = |number| ValidatorSpec {
            key: PublicKey::from_bytes([number; 32]),
            stake: 1,
            chain_anchor: Hash::default(),
        };
        let mut genesis = GenesisBuilder::tiny("load")
            .validators((0..validators).map(validator))
            .members_and_cheap_slots(vec![PublicKey::from_bytes([99; 32])])
            .with(|genesis| {
                (genesis.inner.steps, genesis.inner.batch_sequences) = (30, 4);
                (genesis.gauntlet.assigned_pages, genesis.gauntlet.unassigned_pages) = (8, 8);
                genesis.emission.target_steps = miners * 30;
                genesis.state_retention_windows = 8;
            })
            .build();
        choose_checks(&mut genesis, &|_| false);
        genesis
    }

    #[test]
    fn few_miners_are_replayed_before_the_record_and_many_in_part() {
        let few = run_of(12, 7);
        assert!(few.replay.before_close && few.replay.least_replays == 3, "two of seven can be faulty");
        assert_eq!((few.gauntlet.evaluators, few.emission.registration_cost_micros), (3, 0));
        assert!(run_of(1, 1).replay.before_close);
        for (miners, validators) in [(250, 20), (250, 4), (4_000, 20)] {
            let many = run_of(miners, validators);
            let load = ValidatorLoad::of(&many, miners);
            assert!(!many.replay.before_close);
            assert!(load.replays <= MOST_LOAD, "{load:?}");
            assert!(many.emission.registration_cost_micros > 0);
            assert_eq!(many.check(), Ok(()), "{miners} miners and {validators} validators");
        }
    }

    #[test]
    fn measurements_are_checked_where_all_evaluators_can_be_faulty() {
        // Three of seven measure, and two can be faulty. Three of twenty measure, six can be faulty, fourteen check.
        assert_eq!(run_of(12, 7).gauntlet.spot_checks_ppm, 0);
        let many = run_of(12, 20);
        assert_eq!(many.gauntlet.spot_checks_ppm, 214_286);
        let mut unchecked = many.clone();
        unchecked.gauntlet.spot_checks_ppm = 0;
        let more = ValidatorLoad::of(&many, 12).measurements - ValidatorLoad::of(&unchecked, 12).measurements;
        // 17 of 20 did not measure it; 24 pages of each of twelve and eight of everybody's; a step is 4 of 300.
        let expected = (0.214_286 * 0.85 * 12.0 * 24.0 + 8.0) / 300.0;
        assert!((more - expected).abs() < 1e-9, "{more} and not {expected}");
        assert_eq!(many.check(), Ok(()));
    }

    #[test]
    fn a_validator_that_replays_everything_trains_as_much_as_all_miners() {
        let mut genesis = run_of(12, 7);
        genesis.replay = ReplaySpec::whole();
        let load = ValidatorLoad::of(&genesis, 12);
        assert!((load.replays - 12.0).abs() < 1e-9);
        // Three of seven measure 24 pages of each of twelve, beside nine pages of everybody's; a step is 4 of 300.
        let expected = (3.0 / 7.0 * 12.0 * 24.0 + 8.0 + 1.0) / 300.0;
        assert!((load.measurements - expected).abs() < 1e-9, "{load:?}");
    }

    #[test]
    fn deadlines_follow_the_speed_and_what_is_set_stays() {
        let mut genesis = run_of(12, 7);
        // 30 steps of 4 sequences of 16 tokens are 1,920 tokens: two seconds at 960 a second.
        assert_eq!(training_ms(&genesis, 960), 2_000);
        choose_deadlines(&mut genesis, 960, &|path| path == "deadlines.judge_ms");
        assert_eq!((genesis.deadlines.commit_ms, genesis.deadlines.judge_ms), (64_000, 1_000));
        assert!(judging_ms(&genesis, 960) > 10_000 && judging_ms(&genesis, u64::MAX) <= 6);
        assert_eq!(training_ms(&genesis, 0), 1_920_000);
    }

    #[test]
    fn what_is_set_is_not_chosen() {
        let mut genesis = run_of(250, 20);
        genesis.replay = ReplaySpec::whole();
        genesis.gauntlet.evaluators = 9;
        choose_checks(&mut genesis, &|path| path == "replay" || path == "gauntlet.evaluators");
        assert_eq!((genesis.replay.clone(), genesis.gauntlet.evaluators), (ReplaySpec::whole(), 9));
    }
}
