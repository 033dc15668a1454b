//! The demo: a run of several processes on this machine, each with a home, a key and an endpoint of its own.
//!
//! All keys, hash chains and the first model are drawn from one seed, and a window closes when all registered
//! members have spoken. So the run ends in the same checkpoint on every machine, in any order of events. A
//! deadline that passes ends the demo with an error instead of changing the result. Keys from a public seed are
//! not secret, so the demo's homes must not be used for anything else.

mod children;
mod disk;
mod error;
mod event;
mod forecast;
mod pay;
mod stage;

use std::path::Path;

use templar_audit::{AuditInputs, InputError};
use templar_eval::{ContinueError, Prompt, TextModel};
use templar_home::access::Access;
use templar_home::context::read_manifest;
use templar_home::{Home, HomeError};
use templar_manifest::{Checkpoint, CheckpointId, SecretKey, WindowIndex};
use templar_model::generate::{LanguageModel, Sampling};
use templar_node::event::NodeEvent;

use children::{Children, Spawn};
pub use disk::remove;
pub use error::{ChildError, DemoError};
pub use event::{DemoEvent, DemoParticipant, DemoResult, Rejected};
pub use forecast::Forecast;
pub use pay::Pay;
pub use stage::{DemoConfig, VALIDATORS};
use stage::{Stage, insecure_key};

/// The checkpoint in which the demo ends with its default seed, miners and windows. The README prints it. A
/// change of the arithmetic, the model, the data or the rules changes it, and the commit of such a change says
/// why.
pub const DEFAULT_CHECKPOINT: &str = "c70acbeaaa62d3399a43c2a398324b3414f1c12a4f5025291e341bc3defa73c7";

/// The default seed of the demo.
pub const DEFAULT_SEED: &str = "templar";

/// The default number of miners, the cheat among them.
pub const DEFAULT_MINERS: u32 = 4;

/// The default number of windows.
pub const DEFAULT_WINDOWS: u64 = 4;

/// The default size of the model.
pub const DEFAULT_SIZE: &str = "micro";

/// The prompt of the text before and after.
const PROMPT: &str = "HAMLET. ";

/// A small model that always takes the likeliest token repeats itself.
const SAMPLING: Sampling = Sampling::Draw { temperature: 0.7, top_p: 1.0, seed: [7; 32] };

/// Generates text with a checkpoint of a home.
fn text(home: &Path, checkpoint: CheckpointId) -> Result<String, DemoError> {
    let access = Access::read(home)?;
    let context = access.run(None)?;
    let tokenizer = context.tokenizer(access.blobs())?;
    let inputs = AuditInputs::new(&context.recipe, &context.dataset, access.blobs());
    let parameters = inputs
        .and_then(|inputs| inputs.parameters(&checkpoint))
        .map_err(|error| ChildError::Unusable(error.to_string()))?;
    let manifest: Checkpoint = read_manifest(access.blobs(), &checkpoint.hash())?;
    let model = context.genesis.model_before(manifest.window.0);
    let model = LanguageModel::new(&model, &parameters).map_err(ContinueError::from)?;
    let prompt = Prompt { text: PROMPT, max_tokens: 48, sampling: SAMPLING };
    let continued = TextModel::new(model, tokenizer, Vec::new()).continue_text(&prompt)?;
    Ok(format!("{PROMPT}{}", continued.text))
}

/// The inputs of an audit of a stage, and the untrained parameters.
fn untrained<T>(
    stage: &Stage,
    measure: impl FnOnce(&AuditInputs<'_>, &[f32]) -> Result<T, InputError>,
) -> Result<T, DemoError> {
    let access = Access::read(&stage.first_home)?;
    let inputs = AuditInputs::new(&stage.context.recipe, &stage.context.dataset, access.blobs());
    let measured = inputs.and_then(|inputs| measure(&inputs, &inputs.initial_parameters()?));
    Ok(measured.map_err(|error| ChildError::Unusable(error.to_string()))?)
}

/// The seconds in which this machine evaluates a token: those of a page, the quicker of two times.
#[expect(clippy::disallowed_methods, reason = "the time that people are told the demo takes; decides nothing")]
fn token_seconds(stage: &Stage) -> Result<f64, DemoError> {
    let failed = |error: &dyn std::error::Error| InputError::Machine(error.to_string());
    untrained(stage, |inputs, parameters| {
        let (mut model, device) = (inputs.recipe.model(WindowIndex(0)), &inputs.recipe.device);
        let parameters = device.upload(parameters.into()).map_err(|error| failed(&error))?;
        let mut pages = inputs.held_out_pages(WindowIndex(0))?;
        pages.truncate(1);
        let mut seconds = f64::INFINITY;
        for _ in 0..2 {
            let start = std::time::Instant::now();
            templar_train::evaluate(&mut model, &parameters, &pages).map_err(|error| failed(&error))?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        Ok(seconds / f64::from(inputs.recipe.genesis.context_at(0).sequence_length))
    })
}

/// Held-out loss of the untrained model, in nats.
fn first_loss(stage: &Stage) -> Result<f64, DemoError> {
    let loss = untrained(stage, |inputs, parameters| templar_audit::held_out_loss(inputs, WindowIndex(0), parameters))?;
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
    say(DemoEvent::Planned { home: config.home.clone(), validators: VALIDATORS, miners: config.miners });
    let setting = config.clone();
    let (stage, token_s) = on_thread(move || {
        let stage = Stage::set(&setting)?;
        let token_s = token_seconds(&stage)?;
        Ok((stage, token_s))
    })
    .await?;
    say(DemoEvent::Forecast { forecast: Forecast::of(&stage.context.genesis, config.miners - 1, token_s) });
    let (stage, loss_first) = on_thread(move || {
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
        steps: stage.context.genesis.inner.steps,
        emission: stage.context.genesis.emission.clone(),
    });

    let spawn = Spawn {
        program: &config.program,
        home: &config.home,
        threads: config.threads,
        delays: config.delays,
        devices: &config.devices,
    };
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
    let turn = (&config.devices[..], stage.participants.len() as u64);
    let audit = children::audit(&config.program, &audit_home, turn, stop, &mut |report| {
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
    let home = config.home.clone();
    let (pay, disk_bytes) = on_thread(move || Ok((paid(&audit_home)?, disk::used(&home)))).await?;
    Ok(DemoResult {
        checkpoint: run.checkpoint,
        loss_first,
        loss_last: run.loss_last,
        windows: run.windows,
        audit,
        audit_network: network,
        rejected: run.rejected,
        minted: run.minted,
        pay,
        disk_bytes,
        home: config.home,
        run: stage.context.run,
    })
}

/// The pay that the records in a home mint.
fn paid(home: &Path) -> Result<Pay, DemoError> {
    let access = Access::read(home)?;
    let context = access.run(None)?;
    let node = access.fold(&context)?;
    Ok(Pay::of(&context.genesis, node.closed().iter().map(|closed| &closed.window.body)))
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
