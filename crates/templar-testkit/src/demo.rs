//! The demo: a run of several processes on this machine, each with a home, a key and an endpoint of its own.
//!
//! All keys, hash chains and the first model are drawn from one seed, and a window closes when all registered members have
//! spoken. So the run ends in the same checkpoint on every machine, in any order of events. A deadline that passes ends the
//! demo with an error instead of changing the result. Keys from a public seed are not secret, so the demo's homes must not
//! be used for anything else.

mod children;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use templar_data::bundled;
use templar_home::access::{Access, AccessError, AccessSink};
use templar_home::configure::{ConfigureError, Origin, RunPlan, configure};
use templar_home::context::{RunContext, RunError, read_manifest};
use templar_home::{Home, HomeError};
use templar_manifest::chain::Chain;
use templar_manifest::{
    Checkpoint, CheckpointId, Hash, PublicKey, RunId, SecretKey, ValidatorSpec, WindowIndex, payload,
};
use templar_model::generate::{GenerateError, Sampling, generate};
use templar_node::event::NodeEvent;

pub use children::ChildError;
use children::{Children, Spawn};

/// The number of validators in every demo.
const VALIDATORS: u32 = 2;

/// The checkpoint in which the demo ends with its default seed, miners and windows. The README prints it. A change of the
/// arithmetic, the model, the data or the rules changes it, and the commit of such a change says why.
pub const DEFAULT_CHECKPOINT: &str = "0474e8ff10da6c580f75c47360c473ab5c6d0253395e1b7add8e112d685b77c0";

/// The default seed of the demo.
pub const DEFAULT_SEED: &str = "templar";

/// The default number of miners, the cheat among them.
pub const DEFAULT_MINERS: u32 = 4;

/// The default number of windows.
pub const DEFAULT_WINDOWS: u64 = 5;

/// The default size of the model.
pub const DEFAULT_SIZE: &str = "micro";

/// Settings of the demo's genesis on top of those of its size: short windows, and deadlines so long that no healthy machine
/// reaches them.
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
    // The cheat keeps its slot, so that every window shows how it is refused.
    "replay.expulsion_windows=0",
    "emission.per_window_micros=100000000",
];

/// The prompt of the text before and after.
const PROMPT: &str = "HAMLET. ";

/// A small model that always takes the likeliest token repeats itself.
const SAMPLING: Sampling = Sampling::Temperature { temperature: 0.7, seed: [7; 32] };

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
    /// Random pauses before every act of every node, and a random order of their start: the longest pause, and a seed.
    pub delays: Option<(Duration, u64)>,
}

/// A demo ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A demo needs at least one honest miner besides the cheat.
    #[error("a demo needs at least 2 miners, one of which cheats, not {0}")]
    TooFewMiners(u32),
    /// A demo needs at least one window.
    #[error("a demo needs at least 1 window")]
    NoWindows,
    /// A home cannot be made.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A home cannot be opened.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The genesis is refused.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The run cannot be set up.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The bundled dataset cannot be imported.
    #[error(transparent)]
    Import(#[from] templar_data::ImportError),
    /// A process of the demo failed.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A deadline passed: this machine is too slow, or a process hung. The result would not be the documented one.
    #[error("the {phase} deadline of window {window} passed with somebody missing")]
    Deadline {
        /// The window of the deadline.
        window: u64,
        /// `commit`, `reveal` or `judge`.
        phase: String,
    },
    /// The model cannot generate text.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The demo was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A node of the demo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DemoParticipant {
    /// Its name, such as `validator-1` or `miner-3`.
    pub name: String,
    /// The public key of the node.
    pub key: PublicKey,
    /// Whether the node cheats.
    pub cheats: bool,
}

/// An event of a demo.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DemoEvent {
    /// Homes and genesis have been made.
    Ready {
        /// The directory of the homes.
        home: PathBuf,
        /// The id of the run.
        run: RunId,
        /// The nodes that take part.
        participants: Vec<DemoParticipant>,
        /// The number of the model's parameters.
        parameters: usize,
        /// The size of the vocabulary.
        vocab_size: u32,
        /// The number of training tokens.
        training_tokens: u64,
        /// Held-out loss of the untrained model, in nats.
        held_out_loss: f64,
    },
    /// A node reports an event.
    Node {
        /// The name of the node.
        node: String,
        /// The event of the node.
        event: NodeEvent,
    },
    /// The audit begins, on a copy.
    Auditing {
        /// The directory of the copy.
        home: PathBuf,
    },
    /// A line of the audit's own report.
    Audit {
        /// The line as the audit prints it.
        report: serde_json::Value,
    },
    /// Text that a model has generated.
    Text {
        /// When the model was trained: `before` or `after` the run.
        when: &'static str,
        /// The prompt and its continuation.
        text: String,
    },
}

/// A refused contribution of the demo.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// The miner, by its owner key.
    pub miner: PublicKey,
    /// The window of the contribution.
    pub window: u64,
    /// The reason of the refusal.
    pub reason: String,
}

/// The result of a demo.
#[derive(Debug, Clone, Serialize)]
pub struct DemoResult {
    /// The final model of the run.
    pub checkpoint: CheckpointId,
    /// Held-out loss of the untrained model, in nats.
    pub loss_first: f64,
    /// Held-out loss of the final model, in nats.
    pub loss_last: f64,
    /// The number of closed windows.
    pub windows: u64,
    /// The audit's verdict: `match`, `mismatch` or `unavailable`.
    pub audit: String,
    /// Whether the audit's process was cut off from the network: `unshared`, or the reason why not.
    pub audit_network: String,
    /// All refused contributions of the run.
    pub rejected: Vec<Rejected>,
    /// The pay minted in the whole run, in ALPHA.
    pub minted: f64,
    /// The directory of the homes.
    pub home: PathBuf,
    /// The id of the run.
    pub run: RunId,
}

/// A key drawn from the seed. Everybody who knows the seed knows the key.
fn insecure_key(seed: &str, name: &str) -> SecretKey {
    let mut input = seed.as_bytes().to_vec();
    input.push(0);
    input.extend_from_slice(name.as_bytes());
    SecretKey::from_bytes(Hash::of(&input).as_bytes())
}

/// Homes, dataset and genesis of a demo.
struct Stage {
    participants: Vec<DemoParticipant>,
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

/// Generates text with a checkpoint of a home.
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

/// Copies the blobs and journals of a home, without its key, lock and peers: an auditor has no more.
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

/// Runs a demo. `say` is called with every event as it happens, and `stop` ends the demo early.
///
/// # Errors
/// The configuration is refused, a process fails, or a deadline passes.
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
    // Stop all processes, also after an error.
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

/// The results of the nodes.
#[derive(Default)]
struct Course {
    checkpoint: CheckpointId,
    loss_last: f64,
    windows: u64,
    rejected: Vec<Rejected>,
    minted: f64,
}

/// Follows the nodes until each of them has the final model.
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
            NodeEvent::Deadline { window, phase } => {
                return Err(DemoError::Deadline { window: *window, phase: phase.clone() });
            }
            NodeEvent::Closed { window, held_out_loss, refused, minted, .. } if node == stage.participants[0].name => {
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
            NodeEvent::Finished { checkpoint } => {
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
    // This needs a thread of its own, since an open home has a runtime of its own.
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
