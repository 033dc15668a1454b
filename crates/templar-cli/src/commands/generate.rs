//! `templar generate`: continues a text with a checkpoint, or with the model of a Hugging Face folder.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use templar_data::{ChatTemplate, Tokenizer};
use templar_device::{Arithmetic, for_arithmetic};
use templar_eval::{Continuation, Prompt, TextModel};
use templar_home::access::{Access, AccessError};
use templar_home::context::{RunContext, RunError, read_manifest};
use templar_manifest::{Checkpoint, CheckpointId, Hash, ModelSpec};
use templar_model::generate::{LanguageModel, Sampling, StopReason};
use templar_model::hf;
use templar_query::find::checkpoint;

use crate::compute::Compute;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{count, path_text};
use crate::signals::stop_flag;
use crate::tokenizer_file;

/// Continue a text with a checkpoint
///
/// The prompt is the beginning of a document, and is read by the tokenizer as the dataset was. Tokens are drawn
/// at random from the likeliest ones; --greedy or --seed repeats a text exactly.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// The text to continue
    #[arg(long, default_value = "", hide_default_value = true)]
    prompt: String,
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the one after window N
    #[arg(long, default_value = "@", value_name = "HASH|@|wN")]
    checkpoint: String,
    /// Use the model and the tokenizer of this Hugging Face folder instead of a checkpoint; no home is needed
    #[arg(long, value_name = "DIR", conflicts_with = "checkpoint")]
    from: Option<PathBuf>,
    /// The largest number of tokens to generate
    #[arg(long, default_value_t = 100, value_name = "N")]
    tokens: usize,
    /// Always take the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_p", "seed"])]
    greedy: bool,
    /// The temperature of the draws: 1 is the model's own distribution, less is sharper
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    temperature: f32,
    /// Draw only from the likeliest tokens that have this share of the probability together
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f32,
    /// The seed of the draws, any text; the same seed repeats a text [default: another one each time]
    #[arg(long)]
    seed: Option<String>,
    #[command(flatten)]
    compute: Compute,
}

/// A checkpoint of the home, loaded with everything that generation and export need.
pub(crate) struct Loaded {
    /// The id of the checkpoint.
    pub(crate) id: CheckpointId,
    /// The dimensions of the model, with the context length that it was trained with last.
    pub(crate) model: ModelSpec,
    /// The parameters in Hugging Face order, `[P]`.
    pub(crate) parameters: Vec<f32>,
    /// The tokenizer of the run.
    pub(crate) tokenizer: Tokenizer,
    /// The chat template that came with it.
    pub(crate) chat_template: Option<ChatTemplate>,
    /// The run that trained it.
    pub(crate) context: RunContext,
    /// The manifest of the checkpoint.
    pub(crate) manifest: Checkpoint,
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
    let chat_template = context.chat_template(access.blobs())?;
    let model = context.genesis.model_before(manifest.window.0);
    Ok(Loaded { id, model, parameters, tokenizer, chat_template, context, manifest })
}

/// The model and the tokenizer of a Hugging Face folder.
fn open(dir: &Path) -> Result<TextModel, CommandError> {
    let hf::OpenedModel { model, ends, start } = hf::open(dir)?;
    let json = tokenizer_file::read(&dir.join("tokenizer.json"))?;
    let tokenizer = match ends.first() {
        Some(end) => Tokenizer::for_model(json, *end, start)?,
        None => Tokenizer::new(json, Default::default())?,
    };
    Ok(TextModel::new(model, tokenizer, ends))
}

pub(crate) fn run(invocation: &Invocation, args: &GenerateArgs) -> CommandResult {
    let (source, mut model) = match &args.from {
        Some(dir) => (json!({ "from": path_text(dir) }), open(dir)?),
        None => {
            args.compute.choose(invocation)?;
            let loaded = load(&invocation.read()?, &args.checkpoint)?;
            let device = for_arithmetic(Arithmetic::F32);
            let model = match device.memory() {
                // A GPU's caches of keys and values are not written yet: it computes the whole text for each token.
                Some(_) => LanguageModel::on(device, &loaded.model, &loaded.parameters)?,
                None => LanguageModel::new(&loaded.model, &loaded.parameters)?,
            };
            (json!({ "checkpoint": loaded.id }), TextModel::new(model, loaded.tokenizer, Vec::new()))
        }
    };
    let seed = match &args.seed {
        _ if args.greedy => None,
        Some(seed) => Some(seed.clone()),
        None => Some(random_seed()?),
    };
    let sampling = seed.as_ref().map_or(Sampling::Greedy, |seed| Sampling::Draw {
        temperature: args.temperature,
        top_p: args.top_p,
        seed: *Hash::of(format!("templar generate {seed}").as_bytes()).as_bytes(),
    });
    let prompt = Prompt { text: &args.prompt, max_tokens: args.tokens, sampling };
    // A text that is interrupted is worth reading too.
    let stop = stop_flag();
    let continued = model.continue_while(&prompt, || !stop.load(Ordering::SeqCst))?;
    let mut value = json!({
        "prompt": args.prompt, "text": continued.text, "tokens": continued.tokens.len(),
        "stop": stop_name(continued.stop), "seed": seed,
    });
    if let (Some(value), Some(source)) = (value.as_object_mut(), source.as_object()) {
        value.extend(source.clone());
    }
    let text = format!("{}{}", args.prompt, continued.text);
    if std::io::stdout().is_terminal() {
        invocation.printer.data(&value, printable(&text));
    } else {
        invocation.printer.data(&value, &text);
    }
    invocation.printer.talk(ended(&continued, &model));
    if let Some(seed) = seed.filter(|_| args.seed.is_none()) {
        invocation.printer.talk(format_args!("--seed {seed} repeats this text"));
    }
    Ok(if continued.stop.is_some() { Code::Ok } else { Code::Interrupted })
}

/// A seed that nobody has chosen.
fn random_seed() -> Result<String, CommandError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::says(Code::Failed, format_args!("the system gives no random bytes: {error}")))?;
    Ok(format!("{:08x}", u32::from_le_bytes(bytes)))
}

fn stop_name(stop: Option<StopReason>) -> &'static str {
    match stop {
        Some(StopReason::EndToken(_)) => "end-token",
        Some(StopReason::Length) => "length",
        Some(StopReason::Context) => "context",
        None => "interrupted",
    }
}

/// Why the text ends where it does, and what a reader cannot see of it.
fn ended(continued: &Continuation, model: &TextModel) -> String {
    let tokens = count(continued.tokens.len() as u64, "token");
    let unseen = match &continued.tokens[..] {
        [] => "no text: ".to_owned(),
        _ if continued.is_visible() => String::new(),
        _ => format!("nothing that can be seen, {:?}: ", continued.text),
    };
    let reason = match continued.stop {
        Some(StopReason::EndToken(token)) => {
            let name = model.tokenizer().token(token).unwrap_or_default();
            format!("the model ended the text (with its end token, {name:?})")
        }
        Some(StopReason::Length) => "as many as --tokens allows".to_owned(),
        Some(StopReason::Context) => format!("the context of {} tokens is full", model.positions()),
        None => "interrupted".to_owned(),
    };
    format!("{unseen}{tokens}; {reason}")
}

/// The text without characters that control a terminal.
fn printable(text: &str) -> String {
    let escaped = |character: char| match character {
        '\n' | '\t' => character.to_string(),
        _ if character.is_control() => character.escape_default().to_string(),
        _ => character.to_string(),
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\n\tb\u{1b}[31m\r\u{7}é"), "a\n\tb\\u{1b}[31m\\r\\u{7}é");
    }
}
