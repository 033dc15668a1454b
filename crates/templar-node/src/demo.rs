//! The demo: a run of six processes on this machine, each with a home, a key and an endpoint of its own.
//!
//! All keys, hash chains and the first model are drawn from one seed, and a window closes when everybody who is registered
//! has spoken. So the run ends in the same checkpoint on every machine, whatever the order in which things happen; a
//! deadline that is hit ends the demo instead of changing the result. Keys from a public seed are not secret: the demo's
//! homes are good for nothing else.

mod children;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use templar_data::bundled;
use templar_manifest::chain::Chain;
use templar_manifest::{
    Checkpoint, CheckpointId, Hash, PublicKey, RunId, SecretKey, ValidatorSpec, WindowIndex, payload,
};
use templar_model::generate::{GenerateError, Sampling, generate};

use crate::access::{Access, AccessError};
use crate::configure::{ConfigureError, Origin, RunPlan, configure};
use crate::context::{RunContext, RunError, read_manifest};
use crate::event::Event;
use crate::home::{Home, HomeError};

pub use children::ChildError;
use children::{Children, Spawn};

/// Validators of every demo.
const VALIDATORS: u32 = 2;

/// The checkpoint that the demo ends in with its default seed, miners and windows. README prints it; a change of the
/// arithmetic, the model, the data or the rules changes it, and its commit says why.
pub const DEFAULT_CHECKPOINT: &str = "0474e8ff10da6c580f75c47360c473ab5c6d0253395e1b7add8e112d685b77c0";

/// The default seed.
pub const DEFAULT_SEED: &str = "templar";

/// The default number of miners, the cheat among them.
pub const DEFAULT_MINERS: u32 = 4;

/// The default number of windows.
pub const DEFAULT_WINDOWS: u64 = 5;

/// The default size of the model.
pub const DEFAULT_SIZE: &str = "micro";

/// What sets the demo's genesis apart from that of its size: short windows, and deadlines that no healthy machine meets.
const SETTINGS: [&str; 13] = [
    "inner.steps=30",
    "inner.batch_sequences=4",
    "inner.micro_batch_sequences=4",
    "compression.top_k=64",
    // At 1.0 the held-out loss of a young model swings; at 0.7 it falls in every window.
    r#"outer.schedule=[{"from_window":0,"learning_rate_ppm":700000}]"#,
    // A page is easier or harder than another by more than a few steps teach, so few of them rank miners by chance.
    "gauntlet.assigned_pages=32",
    "gauntlet.unassigned_pages=32",
    "gauntlet.held_out_pages=16",
    "deadlines.commit_ms=600000",
    "deadlines.reveal_ms=600000",
    "deadlines.judge_ms=600000",
    // The cheat keeps its slot, so that every window shows what becomes of it.
    "replay.expulsion_windows=0",
    "emission.per_window_micros=100000000",
];

/// The prompt of the text before and after.
const PROMPT: &str = "HAMLET. ";

/// A small model that always takes the likeliest token repeats itself.
const SAMPLING: Sampling = Sampling::Temperature { temperature: 0.7, seed: [7; 32] };

/// How a demo is run.
#[derive(Debug, Clone)]
pub struct DemoConfig {
    /// From which everything is drawn.
    pub seed: String,
    /// Miners, the last of which cheats.
    pub miners: u32,
    /// Windows.
    pub windows: u64,
    /// An absent or empty directory for the homes.
    pub home: PathBuf,
    /// This program, to start nodes and the audit with.
    pub program: PathBuf,
    /// The model's size.
    pub size: String,
    /// Settings of genesis on top of the demo's own.
    pub settings: Vec<String>,
    /// Random delays before every act of every node, and a random order of starting them: the longest delay, and a seed.
    pub delays: Option<(Duration, u64)>,
}

/// Why a demo ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// It needs at least one honest miner besides the cheat.
    #[error("a demo needs at least 2 miners, one of which cheats, not {0}")]
    TooFewMiners(u32),
    /// A run without end has none to show.
    #[error("a demo needs at least 1 window")]
    NoWindows,
    /// A home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A home in use.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The genesis.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The dataset.
    #[error(transparent)]
    Import(#[from] templar_data::ImportError),
    /// A process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A deadline passed: this machine is too slow, or a process hung. There is no other result than the one.
    #[error("the {phase} deadline of window {window} passed with somebody missing")]
    Deadline {
        /// The window.
        window: u64,
        /// `commit`, `reveal` or `judge`.
        phase: String,
    },
    /// Text.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Somebody asked it to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Who takes part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Participant {
    /// `validator-1`, `miner-3`.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// Whether it cheats.
    pub cheats: bool,
}

/// What a demo says while it runs.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DemoEvent {
    /// Homes and genesis are made.
    Ready {
        /// Where the homes are.
        home: PathBuf,
        /// The run.
        run: RunId,
        /// Who takes part.
        participants: Vec<Participant>,
        /// Parameters of the model.
        parameters: usize,
        /// Tokens of the vocabulary.
        vocab_size: u32,
        /// Tokens to train on.
        training_tokens: u64,
        /// Held-out loss of the untrained model, in nats.
        held_out_loss: f64,
    },
    /// A node reports.
    Node {
        /// Which.
        node: String,
        /// What.
        event: Event,
    },
    /// The audit begins, on a copy.
    Auditing {
        /// Where the copy is.
        home: PathBuf,
    },
    /// A line of the audit's own report.
    Audit {
        /// As the audit prints it.
        report: serde_json::Value,
    },
    /// Text from the model.
    Text {
        /// `before` or `after`.
        when: &'static str,
        /// Prompt and continuation.
        text: String,
    },
}

/// A refused contribution.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// The miner.
    pub miner: PublicKey,
    /// The window.
    pub window: u64,
    /// Why.
    pub reason: String,
}

/// What a demo came to.
#[derive(Debug, Clone, Serialize)]
pub struct DemoResult {
    /// The last model.
    pub checkpoint: CheckpointId,
    /// Held-out loss of the untrained model, in nats.
    pub loss_first: f64,
    /// Held-out loss of the last model.
    pub loss_last: f64,
    /// Windows closed.
    pub windows: u64,
    /// `match`, `mismatch` or `unavailable`.
    pub audit: String,
    /// Whether the audit's process had no network: `unshared`, or why not.
    pub audit_network: String,
    /// Refused contributions.
    pub rejected: Vec<Rejected>,
    /// ALPHA minted in all.
    pub minted: f64,
    /// Where the homes are.
    pub home: PathBuf,
    /// The run.
    pub run: RunId,
}

/// A key that everybody who knows the seed knows.
fn insecure_key(seed: &str, name: &str) -> SecretKey {
    let mut input = seed.as_bytes().to_vec();
    input.push(0);
    input.extend_from_slice(name.as_bytes());
    SecretKey::from_bytes(Hash::of(&input).as_bytes())
}

/// Homes, dataset and genesis of a demo.
struct Stage {
    participants: Vec<Participant>,
    context: RunContext,
    first_home: PathBuf,
}

impl Stage {
    fn set(config: &DemoConfig) -> Result<Self, DemoError> {
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
            Home::init(&config.home.join(&name), &secret)?;
            let key = secret.public();
            if name.starts_with("validator") {
                let chain_anchor = Chain::new(&secret, run_name).anchor();
                validators.push(ValidatorSpec { key, stake: 1, chain_anchor });
            } else {
                miners.push(key);
            }
            participants.push(Participant { name, key, cheats });
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
        let mut settings: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
        settings.push(format!("windows={}", config.windows));
        settings.extend(config.settings.iter().cloned());
        let genesis = configure(&plan, &settings)?;
        let run: RunId = put(payload::encode(&genesis)).map_err(RunError::from)?.into();
        let context = RunContext::create(&access.home, access.blobs(), &put, &|blobs| access.sync(blobs), run)?;
        access.home.set_current_run(&run)?;
        Ok(Self { participants, context, first_home })
    }
}

/// Keeps what an import makes.
pub struct AccessSink<'a>(pub &'a Access);

impl templar_data::ShardSink for AccessSink<'_> {
    fn put(&mut self, bytes: Vec<u8>) -> Result<templar_manifest::BlobId, templar_data::SinkError> {
        self.0.put(bytes).map(Into::into).map_err(|error| templar_data::SinkError(error.into()))
    }
}

/// Text from a checkpoint of a home.
fn text(home: &Path, checkpoint: CheckpointId) -> Result<String, DemoError> {
    let access = Access::read(home)?;
    let context = access.run(None)?;
    let tokenizer = context.tokenizer(access.blobs())?;
    let evidence = templar_audit::Evidence::new(&context.recipe, &context.dataset, access.blobs());
    let parameters = evidence
        .and_then(|evidence| evidence.parameters(&checkpoint))
        .map_err(|error| ChildError::Unusable(error.to_string()))?;
    let manifest: Checkpoint = read_manifest(access.blobs(), &checkpoint.hash())?;
    let model = context.genesis.model_before(manifest.window.0);
    let text = generate(&model, &parameters, &tokenizer, PROMPT, 48, SAMPLING)?;
    Ok(format!("{PROMPT}{text}"))
}

/// Held-out loss of the untrained model, in nats.
fn first_loss(stage: &Stage) -> Result<f64, DemoError> {
    let access = Access::read(&stage.first_home)?;
    let recipe = &stage.context.recipe;
    let loss = templar_audit::Evidence::new(recipe, &stage.context.dataset, access.blobs())
        .and_then(|evidence| templar_audit::held_out_loss(&evidence, WindowIndex(0), &evidence.initial_parameters()?))
        .map_err(|error| ChildError::Unusable(error.to_string()))?;
    Ok(templar_train::nats(loss))
}

/// Copies a home without its key, its lock or its peers: what an auditor has.
fn copy_evidence(from: &Path, to: &Path, key: &SecretKey) -> Result<(), DemoError> {
    let home = Home::init(to, key)?;
    for part in ["store", "runs"] {
        copy_tree(&from.join(part), &to.join(part)).map_err(|source| HomeError::Io { path: to.join(part), source })?;
    }
    if let Some(run) = Home::open(from)?.current_run()? {
        home.set_current_run(&run)?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Runs a demo. `say` hears of everything as it happens; `stop` ends it early.
pub async fn run(
    config: DemoConfig,
    say: &mut (dyn FnMut(DemoEvent) + Send),
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<DemoResult, DemoError> {
    let setting = config.clone();
    let (stage, loss_first) = on_thread(move || {
        let stage = Stage::set(&setting)?;
        let loss = first_loss(&stage)?;
        Ok((stage, loss))
    })
    .await?;
    say(DemoEvent::Ready {
        home: config.home.clone(),
        run: stage.context.run,
        participants: stage.participants.clone(),
        parameters: stage.context.recipe.parameter_count(),
        vocab_size: stage.context.dataset.vocab_size,
        training_tokens: stage.context.dataset.training_tokens(),
        held_out_loss: loss_first,
    });

    let spawn = Spawn { program: &config.program, home: &config.home, delays: config.delays };
    let mut children = Children::start(&spawn, &stage.participants, say, stop.clone()).await?;
    let outcome = follow(&mut children, &stage, say).await;
    // Whatever happened, no process is left behind.
    children.stop().await;
    let run = outcome?;

    let audit_home = config.home.join("audit");
    let (from, to, key) = (stage.first_home.clone(), audit_home.clone(), insecure_key(&config.seed, "auditor"));
    on_thread(move || copy_evidence(&from, &to, &key)).await?;
    say(DemoEvent::Auditing { home: audit_home.clone() });
    let mut network = "unknown".to_owned();
    let audit = children::audit(&config.program, &audit_home, stop, &mut |report| {
        if let Some(text) = report.get("network").and_then(serde_json::Value::as_str) {
            network = text.to_owned();
        }
        say(DemoEvent::Audit { report });
    })
    .await?;

    for (when, checkpoint) in [("before", stage.context.first_checkpoint()), ("after", run.checkpoint)] {
        let home = stage.first_home.clone();
        let text = on_thread(move || text(&home, checkpoint)).await?;
        say(DemoEvent::Text { when, text });
    }
    Ok(DemoResult {
        checkpoint: run.checkpoint,
        loss_first,
        loss_last: run.loss_last,
        windows: run.windows,
        audit,
        audit_network: network,
        rejected: run.rejected,
        minted: run.minted,
        home: config.home,
        run: stage.context.run,
    })
}

/// What the nodes came to.
#[derive(Default)]
struct Course {
    checkpoint: CheckpointId,
    loss_last: f64,
    windows: u64,
    rejected: Vec<Rejected>,
    minted: f64,
}

/// Listens until every node has the last model.
async fn follow(
    children: &mut Children,
    stage: &Stage,
    say: &mut (dyn FnMut(DemoEvent) + Send),
) -> Result<Course, DemoError> {
    let mut course = Course::default();
    let mut unfinished: Vec<String> = stage.participants.iter().map(|participant| participant.name.clone()).collect();
    while !unfinished.is_empty() {
        let (node, event) = children.next().await?;
        match &event {
            Event::Deadline { window, phase } => {
                return Err(DemoError::Deadline { window: *window, phase: phase.clone() });
            }
            Event::Closed { window, held_out_loss, refused, minted, .. } if node == stage.participants[0].name => {
                course.loss_last = *held_out_loss;
                course.windows = window + 1;
                course.minted += minted;
                let rejected = refused.iter().map(|refused| Rejected {
                    miner: refused.miner,
                    window: *window,
                    reason: refused.reason.clone(),
                });
                course.rejected.extend(rejected);
            }
            Event::Finished { checkpoint } => {
                if course.checkpoint != CheckpointId::default() && course.checkpoint != *checkpoint {
                    return Err(ChildError::Unusable(format!("{node} ends in another checkpoint: {checkpoint}")).into());
                }
                course.checkpoint = *checkpoint;
                unfinished.retain(|name| *name != node);
            }
            _ => {}
        }
        say(DemoEvent::Node { node, event });
    }
    Ok(course)
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DemoError> + Send + 'static,
) -> Result<T, DemoError> {
    // A thread of its own, since homes are opened with a runtime of their own.
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    match receiver.await {
        Ok(result) => result,
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Err(DemoError::Interrupted),
        },
    }
}
