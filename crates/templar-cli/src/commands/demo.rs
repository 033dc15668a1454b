//! `templar demo`: a whole training run on this machine, then an audit of it.

mod advice;
mod ending;
mod progress;
mod story;
mod words;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use templar_device::DeviceChoices;
use templar_testkit::demo::{
    self, DEFAULT_CHECKPOINT, DEFAULT_MINERS, DEFAULT_SEED, DEFAULT_SIZE, DEFAULT_WINDOWS, DemoConfig, DemoError,
    DemoEvent, DemoResult,
};
use tokio::runtime::Runtime;

use super::explore::{self, ExploreArgs};
use crate::address::address;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Stop, delays};
use ending::Ending;
use story::Story;

/// Run a small decentralised training run on this machine and check it
///
/// Starts two validators and several miners as separate processes, each with its own home, key and endpoint on
/// loopback. One miner cheats. At the end another process, without a network, audits every window from a copy
/// of the blobs. With the same seed, the final checkpoint has the same hash on every machine.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// The seed of all keys, all hash chains and the first model
    #[arg(long, default_value = DEFAULT_SEED, value_name = "S")]
    seed: String,
    /// The number of miners; the last one cheats
    #[arg(long, default_value_t = DEFAULT_MINERS, value_name = "M")]
    miners: u32,
    /// The number of windows
    #[arg(long, default_value_t = DEFAULT_WINDOWS, value_name = "W", value_parser = clap::value_parser!(u64).range(1..))]
    windows: u64,
    /// The size of the model: a name that `run new --size` takes
    #[arg(long, default_value = DEFAULT_SIZE)]
    size: String,
    /// Set one value of the configuration, such as inner.steps=10
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Remove the homes at the end, also after an error. Without this they stay, to look around in
    #[arg(long)]
    clean: bool,
    /// At the end, show the run in a browser until you press Ctrl-C; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = explore::ADDRESS, conflicts_with = "clean", value_parser = address)]
    http: Option<SocketAddr>,
    /// Compute on this device: auto, cpu, or a name that `templar device list` shows. If it is given several times,
    /// nodes and audit take them in turn [default: TEMPLAR_DEVICE, or else auto]
    #[arg(long, value_name = "DEVICE")]
    device: Vec<DeviceChoices>,
    /// Delay every act of every node and start the nodes in another order, for tests
    #[arg(long, hide = true, value_name = "MS:SEED", value_parser = delays)]
    delays: Option<(Duration, u64)>,
}

impl DemoArgs {
    /// Whether these are the arguments whose final hash is documented.
    fn is_default(&self) -> bool {
        self.seed == DEFAULT_SEED
            && self.miners == DEFAULT_MINERS
            && self.windows == DEFAULT_WINDOWS
            && self.size == DEFAULT_SIZE
            && self.set.is_empty()
    }
}

/// The directory of the homes: the named one, or a new temporary one that is not removed.
fn directory(named: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    match named {
        Some(path) => Ok(std::path::absolute(path)?),
        None => Ok(tempfile::Builder::new().prefix("templar-demo-").tempdir()?.keep()),
    }
}

/// The number of threads of each node: half of the cores, since two validators or several miners compute at the same
/// time. More threads than cores would only wait for each other.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

#[expect(clippy::disallowed_methods, reason = "how long the demo took, for a person; decides nothing")]
pub(crate) fn run(invocation: &Invocation, args: &DemoArgs, home: Option<PathBuf>) -> CommandResult {
    let start = Instant::now();
    let printer = invocation.printer;
    let home = directory(home)?;
    let config = DemoConfig {
        seed: args.seed.clone(),
        miners: args.miners,
        windows: args.windows,
        home: home.clone(),
        program: std::env::current_exe()?,
        size: args.size.clone(),
        settings: args.set.clone(),
        threads: (!invocation.chooses_threads).then(threads),
        devices: args.device.clone(),
        delays: args.delays,
    };
    let runtime = Runtime::new()?;
    let stop = Stop::OnSignal.watch(runtime.handle());
    let mut story = Story::new(printer, args.clean);
    let mut say = |event: DemoEvent| {
        printer.json(&event);
        story.tell(&event);
    };
    let result = runtime.block_on(demo::run(config, &mut say, stop));
    let names = story.end();
    let removed = if args.clean { demo::remove(&home) } else { Ok(()) };
    let result = result.map_err(|error| {
        // The folder of a demo that could not begin is empty. One with homes in it is not removed.
        let _ = std::fs::remove_dir(&home);
        failed(error, &home, args.clean)
    })?;
    removed?;
    let documented = args.is_default().then_some(DEFAULT_CHECKPOINT);
    let same = documented.is_none_or(|documented| documented == result.checkpoint.to_string());
    let program = program();
    let advice = if args.clean { advice::without_homes(&program) } else { advice::for_homes(&result, &program) };
    let took = start.elapsed();
    Ending { printer, names, result: &result, documented, took, clean: args.clean, program: &program }.tell(&advice);
    let mut value = serde_json::to_value(&result).unwrap_or_default();
    value["type"] = json!("result");
    value["documented"] = json!(documented);
    printer.json(&value);
    drop(runtime);
    if let Some(address) = args.http {
        explore::show(invocation, &result.home.join("audit"), &ExploreArgs::at(address))?;
    }
    Ok(code(&result, same))
}

/// An error with a hint about the homes that stay behind.
fn failed(error: DemoError, home: &Path, clean: bool) -> CommandError {
    let has_homes = !clean && home.join("validator-1").exists();
    let error = CommandError::from(error);
    if has_homes { error.more(format!("the homes of this demo stay in {}", home.display())) } else { error }
}

fn code(result: &DemoResult, same: bool) -> Code {
    match result.audit.as_str() {
        "match" if same => Code::Ok,
        "unavailable" => Code::Partial,
        _ => Code::Verification,
    }
}

/// The path by which this program was called, for the commands that the demo suggests.
fn program() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| "templar".into())
}
