//! The set-up of a simulated run: keys, hash chains, genesis and the state before window 0.
//!
//! Without real training no tensor is computed, and the settings of model and optimiser in genesis are only
//! well formed; `training.rs` replaces them with real ones. The rules read the number of steps and pages, the
//! number of aggregated contributions, the deadlines, the emission and the vesting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use templar_manifest::chain::{Chain, anchor_of};
use templar_manifest::testing::{GenesisBuilder, price_slots};
use templar_manifest::{
    Deadlines, GauntletSpec, Genesis, Hash, Initial, PriceRule, RegistrationSpec, SecretKey, ValidatorSpec,
};
use templar_protocol::RunState;

use crate::config::{Config, PayRule, SimConfigError};
use crate::settings::{COMMIT_MS, JUDGE_MS, REVEAL_MS, STEPS};
use crate::training::Training;

/// The name of every simulated run. Hash chains follow from key and name, so a process computes them once for
/// all its runs.
const NAME: &str = "simulated run";
/// The unit of stakes.
const STAKE: u64 = 100;
const SEQUENCE_LENGTH: u32 = 16;
const UNASSIGNED_PAGES: u32 = 8;
/// How many validators measure each contribution. Of seven validators two can be faulty.
const EVALUATORS: u32 = 3;
/// The dataset has pages for so many windows. Longer runs begin a new epoch.
const EPOCH_WINDOWS: u64 = 5;

/// A validator's hash chain: its anchor, and the values of the first windows, in order.
#[derive(Debug, Clone)]
pub(crate) struct ChainValues {
    pub(crate) anchor: Hash,
    pub(crate) values: Arc<Vec<Hash>>,
}

/// The members of a run and its first state. Validators and miners are sorted by key, as genesis lists them.
#[derive(Debug)]
pub(crate) struct RunSetup {
    pub(crate) validators: Vec<SecretKey>,
    pub(crate) chains: Vec<ChainValues>,
    pub(crate) miners: Vec<SecretKey>,
    /// Miners that genesis does not know.
    pub(crate) newcomers: Vec<SecretKey>,
    pub(crate) state: Arc<RunState>,
    pub(crate) training: Option<Box<Training>>,
}

fn keys(role: &str, count: u32) -> Vec<SecretKey> {
    let name = |number| Hash::of(format!("templar-sim {role} {number}").as_bytes());
    let mut keys: Vec<SecretKey> = (0..count).map(|number| SecretKey::from_bytes(name(number).as_bytes())).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

/// The chain of a key, walked once in a process for each number of windows.
fn chain(key: &SecretKey, windows: u64) -> ChainValues {
    static WALKED: Mutex<BTreeMap<[u8; 32], ChainValues>> = Mutex::new(BTreeMap::new());
    let mut walked = WALKED.lock().unwrap_or_else(PoisonError::into_inner);
    let name = *key.public().as_bytes();
    if let Some(known) = walked.get(&name)
        && known.values.len() as u64 >= windows
    {
        return known.clone();
    }
    // Short runs of one process ask for different lengths.
    let values = Chain::insecure(key, NAME).values(windows.max(64));
    let values = ChainValues { anchor: anchor_of(&values[0]), values: Arc::new(values) };
    walked.insert(name, values.clone());
    values
}

impl RunSetup {
    pub(crate) fn new(config: &Config) -> Result<Self, SimConfigError> {
        let (validators, miners) = (keys("validator", config.validators), keys("miner", config.miners));
        let chains: Vec<ChainValues> = validators.iter().map(|key| chain(key, config.windows)).collect();
        let genesis = genesis(config, &validators, &chains, &miners);
        let newcomers = keys("newcomer", config.newcomers);
        if config.real {
            let (training, state) = Training::new(genesis).map_err(SimConfigError::Training)?;
            let (state, training) = (Arc::new(state), Some(Box::new(training)));
            return Ok(Self { validators, chains, miners, newcomers, state, training });
        }
        let pages = (u64::from(config.slots()) * u64::from(STEPS) + u64::from(UNASSIGNED_PAGES)) * EPOCH_WINDOWS;
        let tokens = pages * u64::from(SEQUENCE_LENGTH) + 1;
        let (checkpoint, zero) = (Hash::of(b"initial checkpoint").into(), Hash::of(b"zero state").into());
        let state = RunState::new(Arc::new(genesis), checkpoint, zero, tokens)
            .expect("a checked configuration gives a genesis that the rules take");
        Ok(Self { validators, chains, miners, newcomers, state: Arc::new(state), training: None })
    }
}

/// Prices that a simulated newcomer can pay at once, and an immunity that short runs outlast.
fn registration(config: &Config, miners: &[SecretKey]) -> RegistrationSpec {
    let spec = RegistrationSpec::customary(config.slots(), miners.iter().map(SecretKey::public).collect());
    let hashcash = PriceRule { per_window: 2, first: 4, least: 2, most: 64, ..spec.hashcash };
    let burn = PriceRule { per_window: 2, first: 1_000_000, ..spec.burn };
    RegistrationSpec { immunity_windows: 3, anchor_windows: 4, hashcash, burn, ..spec }
}

/// Another seed is another run: other pages, other draws, other ids.
pub(crate) fn initial(seed: u64) -> Initial {
    Initial::Seed(Hash::of(format!("seed {seed}").as_bytes()))
}

fn genesis(config: &Config, validators: &[SecretKey], chains: &[ChainValues], miners: &[SecretKey]) -> Genesis {
    let validator = |(place, (key, chain)): (u32, (&SecretKey, &ChainValues))| ValidatorSpec {
        key: key.public(),
        stake: STAKE * config.stake_of(place),
        chain_anchor: chain.anchor,
    };
    let measures = config.pay != PayRule::Steps;
    let specs: Vec<ValidatorSpec> = (0..).zip(validators.iter().zip(chains)).map(validator).collect();
    let spot_checks = GauntletSpec::spot_checks_for(EVALUATORS, &specs);
    GenesisBuilder::tiny(NAME)
        .validators(specs)
        .with(|genesis| {
            genesis.initial = initial(config.seed);
            genesis.model.sequence_length = SEQUENCE_LENGTH;
            (genesis.inner.steps, genesis.inner.batch_sequences) = (STEPS, 1);
            // As the original: 20 of up to 250; where steps are paid, all that there can be.
            genesis.outer.max_contributions = if measures { 20 } else { config.slots().max(20) };
            genesis.gauntlet = GauntletSpec {
                assigned_pages: if measures { 4 } else { 0 },
                unassigned_pages: if measures { UNASSIGNED_PAGES } else { 0 },
                evaluators: if measures { EVALUATORS } else { 0 },
                spot_checks_ppm: if measures { spot_checks } else { 0 },
                trial_step_ppm: 200_000,
                held_out_pages: 1,
                weights: config.weights(),
                ..GauntletSpec::customary()
            };
            // Everything is minted if all miners that genesis knows take all steps.
            genesis.emission.target_steps = u64::from(config.miners) * u64::from(STEPS);
            genesis.replay = config.replay();
            genesis.deadlines = Deadlines { commit_ms: COMMIT_MS, reveal_ms: REVEAL_MS, judge_ms: JUDGE_MS };
            genesis.registration = registration(config, miners);
            genesis.state_retention_windows = 4;
            genesis.windows = config.windows;
            price(genesis);
        })
        .build()
}

/// States what a slot must cost under the rules of replay, so that cheating does not pay; no burn is for less.
fn price(genesis: &mut Genesis) {
    price_slots(genesis);
    let cost = genesis.emission.registration_cost_micros;
    assert_ne!(cost, u64::MAX, "a modest price is enough in every mode");
    let burn = &mut genesis.registration.burn;
    for price in [&mut burn.least, &mut burn.first, &mut burn.most] {
        *price = (*price).max(cost);
    }
}
