//! `templar serve`: answers requests in the form of OpenAI's interface.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::json;
use templar_data::ChatTemplate;
use templar_home::Home;
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_manifest::CheckpointId;
use templar_serve::{About, ApiKeys, Batching, Limits, Served, Server, ServerSettings};

use super::generate::{Loaded, load};
use crate::address::address;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::signals::asked_to_stop;

/// How often a newer checkpoint is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Answer requests over HTTP, as OpenAI's interface has them
///
/// Serves /v1/models, /v1/completions and /v1/chat/completions, /health and /metrics until Ctrl-C. Several requests are
/// computed together, and none changes the answer of another. The model is a checkpoint of the home, or one of a
/// Hugging Face folder, and is computed on the CPU.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// A hash, four or more digits of one, @ for the current checkpoint, or wN for the one after window N
    #[arg(long, default_value = "@", value_name = "HASH|@|wN")]
    checkpoint: String,
    /// Serve the model and the tokenizer of this Hugging Face folder instead of a checkpoint; no home is needed
    #[arg(long, value_name = "DIR", conflicts_with_all = ["checkpoint", "follow"])]
    model: Option<PathBuf>,
    /// Let each newer checkpoint of the home's current run take over, without dropping a request
    #[arg(long, conflicts_with = "checkpoint")]
    follow: bool,
    /// Listen on this address; port 0 chooses one. Anybody who reaches it can ask, unless --api-keys is given
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    bind: SocketAddr,
    /// The name by which requests ask for the model [default: the name of the run or of the folder]
    #[arg(long)]
    name: Option<String>,
    /// Join conversations by the Jinja template in this file instead of the one that came with the tokenizer
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Answer only requests with a key of this file, within the quotas there
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    /// The largest number of texts that are computed together; further ones wait
    #[arg(long, value_name = "N", default_value_t = Batching::default().texts, value_parser = at_least_one)]
    batch: usize,
    /// The largest number of texts that are computed or wait; further requests get status 503
    #[arg(long, value_name = "N", default_value_t = Limits::default().texts, value_parser = at_least_one)]
    queue: usize,
    /// The longest request, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body_bytes, value_parser = at_least_one)]
    max_body: usize,
}

pub(crate) fn run(invocation: &Invocation, args: &ServeArgs) -> CommandResult {
    let keys = args.api_keys.as_deref().map(ApiKeys::read).transpose()?;
    if keys.is_none() && !args.bind.ip().is_loopback() {
        invocation
            .printer
            .warn(format_args!("everybody who reaches {} can ask: --api-keys lets only some in", args.bind));
    }
    let (served, followed) = open(invocation, args)?;
    let limits = Limits { texts: args.queue, body_bytes: args.max_body, ..Limits::default() };
    let batching = Batching { texts: args.batch, ..Batching::default() };
    let runtime = tokio::runtime::Runtime::new()?;
    let (about, is_exact) = (served.about().clone(), served.is_exact());
    let server = runtime.block_on(Server::bind(args.bind, ServerSettings { limits, batching, keys }, served))?;
    let url = format!("http://{}/v1", server.addr());
    let asked = asked_to_stop();
    invocation.printer.data(
        &json!({ "type": "serving", "url": url, "model": about.name, "checkpoint": about.checkpoint, "run": about.run,
            "licence": about.licence, "exact": is_exact }),
        &url,
    );
    invocation.printer.talk(format_args!("serving the model {:?}; Ctrl-C stops", about.name));
    let swap = server.swapper();
    std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        if let Some(followed) = followed.filter(|_| args.follow) {
            scope.spawn(move || follow(invocation, args, followed, &stopped, swap));
        }
        runtime.block_on(server.run(asked));
        drop(stop);
    });
    Ok(Code::Ok)
}

/// A run whose newest checkpoint is served.
struct Followed {
    home: Home,
    context: RunContext,
    /// The checkpoint that is served now.
    current: CheckpointId,
}

/// The model that is asked for, and its run.
fn open(invocation: &Invocation, args: &ServeArgs) -> Result<(Served, Option<Followed>), CommandError> {
    let template = args.chat_template.as_deref().map(ChatTemplate::read).transpose()?;
    if let Some(dir) = &args.model {
        let folder = std::path::absolute(dir)?;
        let folder = folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
        let about = About { name: args.name.clone().unwrap_or(folder), ..About::default() };
        return Ok((Served::folder(about, dir, template)?, None));
    }
    let access = invocation.read()?;
    let loaded = load(&access, &args.checkpoint)?;
    let followed = Followed { home: access.home.clone(), context: loaded.context.clone(), current: loaded.id };
    Ok((served(args, loaded, template)?, Some(followed)))
}

/// A checkpoint as a model to serve.
fn served(args: &ServeArgs, loaded: Loaded, template: Option<ChatTemplate>) -> Result<Served, CommandError> {
    let Loaded { id, model, parameters, tokenizer, chat_template, context, .. } = loaded;
    let about = About {
        name: args.name.clone().unwrap_or_else(|| context.genesis.name.clone()),
        checkpoint: Some(id.to_string()),
        run: Some(context.run.to_string()),
        licence: Some(context.dataset.licence.clone()),
    };
    Ok(Served::trained(about, &model, parameters, tokenizer, template.or(chat_template).as_ref())?)
}

/// Looks for newer checkpoints until the server stops.
fn follow(
    invocation: &Invocation,
    args: &ServeArgs,
    mut followed: Followed,
    stopped: &Receiver<()>,
    swap: impl Fn(Served),
) {
    let mut is_warned = false;
    while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        match newer(invocation, args, &followed) {
            Ok(None) => is_warned = false,
            Ok(Some((id, served))) => {
                followed.current = id;
                swap(served);
                let value = json!({ "type": "swapped", "checkpoint": id });
                invocation.printer.progress(&value, format_args!("serving checkpoint {}", id.short()));
            }
            Err(error) if !is_warned => {
                is_warned = true;
                invocation.printer.warn(format_args!("no newer checkpoint is read: {}", error.lines().join(": ")));
            }
            Err(_) => {}
        }
    }
}

/// The current checkpoint of the run, if it is another than the one that is served. The journal alone tells, so the
/// home is opened only then, and commands that write in it are rarely in the way.
fn newer(
    invocation: &Invocation,
    args: &ServeArgs,
    followed: &Followed,
) -> Result<Option<(CheckpointId, Served)>, CommandError> {
    let Followed { home, context, current } = followed;
    let entries = Journal::read(&home.run_dir(&context.run))?;
    let id = context.fold(None, &entries)?.state().checkpoint();
    if id == *current {
        return Ok(None);
    }
    let template = args.chat_template.as_deref().map(ChatTemplate::read).transpose()?;
    let loaded = load(&invocation.read()?, &id.to_string())?;
    Ok(Some((id, served(args, loaded, template)?)))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it is 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
