//! `templar generate`: generates text with a checkpoint, through candle-transformers.

use std::sync::Arc;

use serde_json::json;
use templar_home::access::{Access, AccessError};
use templar_home::context::{RunError, read_manifest};
use templar_manifest::{Checkpoint, CheckpointId, Hash, ModelSpec};
use templar_model::generate::{Continuation, Sampling, generate};
use templar_query::find::checkpoint;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;

/// Continue a text with a checkpoint
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// The text to continue
    #[arg(long, default_value = "", hide_default_value = true)]
    prompt: String,
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the one after window N
    #[arg(long, default_value = "@", value_name = "HASH|@|wN")]
    checkpoint: String,
    /// The largest number of tokens to generate
    #[arg(long, default_value_t = 100, value_name = "N")]
    tokens: usize,
    /// Sample tokens instead of taking the most likely one: 1 samples the model's own distribution, less is sharper
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// The seed of the sampling: any text
    #[arg(long, default_value = "0", requires = "temperature")]
    seed: String,
}

/// A checkpoint of the home, loaded with everything that generation and export need.
pub(crate) struct Loaded {
    /// The id of the checkpoint.
    pub(crate) id: CheckpointId,
    /// The dimensions of the model, with the context length that it was trained with last.
    pub(crate) model: ModelSpec,
    /// The parameters in Hugging Face order, `[P]`.
    pub(crate) parameters: Vec<f32>,
    /// The bytes of `tokenizer.json`.
    pub(crate) tokenizer: Vec<u8>,
}

/// Loads the checkpoint that a user names.
pub(crate) fn load(access: &Access, named: &str) -> Result<Loaded, CommandError> {
    let node = match access.run(None) {
        Ok(context) => Some(Arc::new(access.fold(&context)?)),
        // A checkpoint named by its hash needs no current run.
        Err(AccessError::Run(RunError::None)) => None,
        Err(error) => return Err(error.into()),
    };
    let id = checkpoint(access, node.as_deref(), named)?;
    let manifest: Checkpoint = read_manifest(access.blobs(), &id.hash())?;
    let context = access.run(Some(manifest.run))?;
    let inputs = templar_audit::AuditInputs::new(&context.recipe, &context.dataset, access.blobs())?;
    let parameters = inputs.parameters(&id)?;
    let tokenizer = context.tokenizer(access.blobs())?;
    let model = context.genesis.model_before(manifest.window.0);
    Ok(Loaded { id, model, parameters, tokenizer })
}

pub(crate) fn run(invocation: &Invocation, args: &GenerateArgs) -> CommandResult {
    let access = invocation.read()?;
    let loaded = load(&access, &args.checkpoint)?;
    let sampling = match args.temperature {
        None => Sampling::Greedy,
        Some(temperature) => {
            let seed = Hash::of(format!("templar generate {}", args.seed).as_bytes());
            Sampling::Temperature { temperature, seed: *seed.as_bytes() }
        }
    };
    let request = Continuation { prompt: &args.prompt, max_tokens: args.tokens, sampling };
    let text = generate(&loaded.model, &loaded.parameters, &loaded.tokenizer, request)?;
    invocation.printer.data(
        &json!({"checkpoint": loaded.id, "prompt": args.prompt, "text": text}),
        format_args!("{}{text}", args.prompt),
    );
    Ok(Code::Ok)
}
