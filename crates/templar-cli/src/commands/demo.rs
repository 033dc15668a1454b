//! `templar demo`: a whole run on this machine, to watch and to check.

mod story;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use templar_testkit::demo::{
    self, DEFAULT_CHECKPOINT, DEFAULT_MINERS, DEFAULT_SEED, DEFAULT_SIZE, DEFAULT_WINDOWS, DemoConfig, DemoEvent,
    DemoResult,
};
use tokio::runtime::Runtime;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Stop, delays};
use story::Story;

/// Run a small decentralised training run on this machine and check it
///
/// Two validators and some miners, each a process with its own home, key and endpoint on loopback; one miner cheats. At
/// the end every window is audited from a copy of the blobs, in a process without a network. With the same seed the final
/// checkpoint has the same hash on every machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// From which all keys, hash chains and the first model are drawn
    #[arg(long, default_value = DEFAULT_SEED, value_name = "S")]
    seed: String,
    /// Miners; the last one cheats
    #[arg(long, default_value_t = DEFAULT_MINERS, value_name = "M")]
    miners: u32,
    /// Windows
    #[arg(long, default_value_t = DEFAULT_WINDOWS, value_name = "W")]
    windows: u64,
    /// The model's size, a name as `run new --size` takes it
    #[arg(long, default_value = DEFAULT_SIZE)]
    size: String,
    /// Set a value of the configuration, such as inner.steps=10
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Wait before every act of every node and start them in another order, for tests
    #[arg(long, hide = true, value_name = "MS:SEED", value_parser = delays)]
    delays: Option<(Duration, u64)>,
}

impl Args {
    /// Whether this is the demo whose hash is documented.
    fn is_default(&self) -> bool {
        self.seed == DEFAULT_SEED
            && self.miners == DEFAULT_MINERS
            && self.windows == DEFAULT_WINDOWS
            && self.size == DEFAULT_SIZE
            && self.set.is_empty()
    }
}

/// The directory of the homes: the one that was named, else a new one that stays.
fn directory(named: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    match named {
        Some(path) => Ok(std::path::absolute(path)?),
        None => Ok(tempfile::Builder::new().prefix("templar-demo-").tempdir()?.keep()),
    }
}

pub(crate) fn run(invocation: &Invocation, args: &Args, home: Option<PathBuf>) -> CommandResult {
    let printer = invocation.printer;
    let config = DemoConfig {
        seed: args.seed.clone(),
        miners: args.miners,
        windows: args.windows,
        home: directory(home)?,
        program: std::env::current_exe()?,
        size: args.size.clone(),
        settings: args.set.clone(),
        delays: args.delays,
    };
    let runtime = Runtime::new()?;
    let stop = Stop::OnSignal.watch(runtime.handle());
    let mut story = Story::new(printer);
    let mut say = |event: DemoEvent| {
        printer.json(&event);
        story.tell(&event);
    };
    let result = runtime.block_on(demo::run(config, &mut say, stop))?;
    let documented = args.is_default().then_some(DEFAULT_CHECKPOINT);
    let same = documented.is_none_or(|documented| documented == result.checkpoint.to_string());
    story.end(&result, documented, &program());
    let mut value = serde_json::to_value(&result).unwrap_or_default();
    value["type"] = json!("result");
    value["documented"] = json!(documented);
    printer.json(&value);
    Ok(code(&result, same))
}

fn code(result: &DemoResult, same: bool) -> Code {
    match result.audit.as_str() {
        "match" if same => Code::Ok,
        "unavailable" => Code::Partial,
        _ => Code::Verification,
    }
}

/// How this program was called, for the commands to try next.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "templar".to_owned(), |name| name.to_string_lossy().into_owned())
}
