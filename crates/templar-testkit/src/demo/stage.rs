//! The stage of a demo: homes with keys from the seed, the dataset, and the genesis.

use std::path::PathBuf;
use std::time::Duration;

use templar_data::bundled;
use templar_device::DeviceChoices;
use templar_home::Home;
use templar_home::access::{Access, AccessSink};
use templar_home::configure::{Origin, RunPlan, configure};
use templar_home::context::{RunContext, RunError};
use templar_manifest::chain::Chain;
use templar_manifest::{Hash, RunId, SecretKey, ValidatorSpec, payload};

use super::error::DemoError;
use super::event::DemoParticipant;

/// The number of validators in every demo.
pub const VALIDATORS: u32 = 2;

/// Inner steps of a window.
const DEMO_STEPS: u64 = 12;

/// Settings of the demo's genesis on top of those of its size: short windows, and deadlines so long that no
/// healthy machine reaches them.
const SETTINGS: [&str; 12] = [
    "inner.batch_sequences=4",
    "inner.micro_batch_sequences=4",
    "compression.top_k=64",
    // At 1.0 the held-out loss of a young model swings; at 0.7 it falls in every window.
    r#"outer.schedule=[{"from_window":0,"learning_rate_ppm":700000}]"#,
    // A page is easier or harder than another by more than a few steps teach, so few of them rank miners by chance.
    "gauntlet.assigned_pages=16",
    "gauntlet.unassigned_pages=16",
    "gauntlet.held_out_pages=16",
    "deadlines.commit_ms=600000",
    "deadlines.reveal_ms=600000",
    "deadlines.judge_ms=600000",
    // The cheat keeps its slot, so that every window shows how it is refused.
    "replay.expulsion_windows=0",
    "emission.per_window_micros=100000000",
];

/// The learning rate of small models. A demo takes few steps, so its warm-up is short and its peak high.
const QUICK_SCHEDULE: &str = r#"inner.schedule=[{"steps":6,"from_nanos":1000000,"to_nanos":6000000,"shape":"linear"},{"steps":10000,"from_nanos":6000000,"to_nanos":600000,"shape":"cosine"}]"#;

/// The sizes that such a learning rate suits.
const QUICK_SIZES: [&str; 3] = ["tiny", "nano", "micro"];

/// The configuration of a demo.
#[derive(Debug, Clone)]
pub struct DemoConfig {
    /// The seed from which keys and the first model are drawn.
    pub seed: String,
    /// The number of miners, the last of which cheats.
    pub miners: u32,
    /// The number of windows.
    pub windows: u64,
    /// An absent or empty directory for the homes.
    pub home: PathBuf,
    /// This program, to start nodes and the audit with.
    pub program: PathBuf,
    /// The size of the model, a name of the size table.
    pub size: String,
    /// Settings of genesis on top of the demo's own.
    pub settings: Vec<String>,
    /// The number of threads with which each node computes; `None` leaves it to the environment.
    pub threads: Option<usize>,
    /// The devices that the nodes and the audit take in turn. If there are none, each process chooses as it does alone.
    pub devices: Vec<DeviceChoices>,
    /// Random pauses before every act of every node, and a random order of their start: the longest pause, and
    /// a seed.
    pub delays: Option<(Duration, u64)>,
}

/// A key drawn from the seed. Everybody who knows the seed knows the key.
pub(super) fn insecure_key(seed: &str, name: &str) -> SecretKey {
    let mut input = seed.as_bytes().to_vec();
    input.push(0);
    input.extend_from_slice(name.as_bytes());
    SecretKey::from_bytes(Hash::of(&input).as_bytes())
}

/// Homes, dataset and genesis of a demo.
pub(super) struct Stage {
    pub(super) participants: Vec<DemoParticipant>,
    pub(super) context: RunContext,
    pub(super) first_home: PathBuf,
}

impl Stage {
    pub(super) fn set(config: &DemoConfig) -> Result<Self, DemoError> {
        if config.miners < 2 {
            return Err(DemoError::TooFewMiners(config.miners));
        }
        if config.windows == 0 {
            return Err(DemoError::NoWindows);
        }
        let names = (1..=VALIDATORS)
            .map(|index| (format!("validator-{index}"), false))
            .chain((1..=config.miners).map(|index| (format!("miner-{index}"), index == config.miners)));
        let run_name = "demo";
        let mut participants = Vec::new();
        let mut validators = Vec::new();
        let mut miners = Vec::new();
        for (name, cheats) in names {
            let secret = insecure_key(&config.seed, &name);
            let home = Home::init(&config.home.join(&name), &secret)?;
            let key = secret.public();
            if name.starts_with("validator") {
                let chain_anchor = home.keep_chain(&Chain::insecure(&secret, run_name))?;
                validators.push(ValidatorSpec { key, stake: 1, chain_anchor });
            } else {
                miners.push(key);
            }
            participants.push(DemoParticipant { name, key, cheats });
        }
        let first_home = config.home.join("validator-1");
        let access = Access::write(&first_home)?;
        let dataset = bundled::import_shakespeare(&mut AccessSink(&access))?;
        let put = |bytes: Vec<u8>| access.put(bytes);
        let dataset_id = put(payload::encode(&dataset)).map_err(RunError::from)?.into();
        let plan = RunPlan {
            name: run_name.to_owned(),
            dataset_id,
            dataset: &dataset,
            validators,
            miners,
            origin: Origin::Drawn { size: config.size.clone(), seed: Hash::of(config.seed.as_bytes()) },
        };
        let mut settings = vec![format!("inner.steps={DEMO_STEPS}")];
        settings.extend(SETTINGS.iter().map(ToString::to_string));
        if QUICK_SIZES.contains(&config.size.as_str()) {
            settings.push(QUICK_SCHEDULE.to_owned());
        }
        settings.push(format!("windows={}", config.windows));
        // The cheat's steps are refused, so those of the others are all that a window can prove.
        settings.push(format!("emission.target_steps={}", u64::from(config.miners - 1) * DEMO_STEPS));
        settings.extend(config.settings.iter().cloned());
        let genesis = configure(&plan, &settings)?;
        let run: RunId = put(payload::encode(&genesis)).map_err(RunError::from)?.into();
        let context = RunContext::create(&access.home, access.blobs(), &put, &|blobs| access.sync(blobs), run)?;
        access.home.set_current_run(&run)?;
        Ok(Self { participants, context, first_home })
    }
}
