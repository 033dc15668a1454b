//! `templar run new`: makes the genesis of a run from a model size or a folder, and the run's first checkpoint.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use templar_eval::FilesError;
use templar_home::access::Access;
use templar_home::configure::{self, Origin, RunPlan, Scale};
use templar_home::context::{Put, RunContext};
use templar_home::folder::Folder;
use templar_home::unfinished::Unfinished;
use templar_manifest::{
    Arithmetic, Genesis, Hash, Payload as _, PublicKey, RunId, SecretKey, ValidatorSpec, WeightRule, payload,
};
use templar_query::find::{dataset, runs_named};
use templar_query::runs::RunView;

use super::{configuration, overview};
use crate::commands::eval::schedule::Schedule;
use crate::commands::key::new_chain;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::refuse_seen_chain;

/// Make a run, and print it in ten lines
///
/// A size sets every value. A folder sets the model, and the nearest size sets the rest. --set changes single
/// values. Without --validator this home is the only validator; without --miner it is the only miner. The same
/// configuration has the same hash everywhere.
#[derive(Debug, clap::Args)]
pub(crate) struct NewRunArgs {
    /// A short name, by which commands can name the run
    name: String,
    /// The dataset to train on: a hash, four or more digits of one, or a name
    #[arg(long, value_name = "D")]
    dataset: String,
    /// The size of the model: tiny, nano, micro, small, medium, 150M, 512M, 1B, 8B or 72B
    #[arg(long, default_value = "nano")]
    size: String,
    /// Start from the model in this Hugging Face folder. The dataset must use the same tokenizer
    #[arg(long, value_name = "DIR", conflicts_with_all = ["size", "seed"])]
    from: Option<PathBuf>,
    /// The arithmetic of every result: f32/1, or i8x2/1 with matrix products of 8-bit integers
    #[arg(long, default_value_t = Arithmetic::F32, value_name = "NAME")]
    arithmetic: Arithmetic,
    /// How miners are paid: by the training steps that replays confirm and what they are worth beside others', by
    /// the rank of the measured value of their deltas, or by the steps alone
    #[arg(long, value_enum, default_value_t = PayChoice::Measured, value_name = "RULE")]
    pay: PayChoice,
    /// Set one value of the configuration, such as inner.steps=10 or model.layers=2
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Give a slot to this miner from the start
    #[arg(long, value_name = "KEY")]
    miner: Vec<PublicKey>,
    /// Name a validator: its key, its stake, and the anchor that `key show --anchor NAME` prints in its home
    #[arg(long, value_name = "KEY:STAKE:ANCHOR", value_parser = validator)]
    validator: Vec<ValidatorSpec>,
    /// The number of miners to expect: replays, measurements and the fee of a slot are chosen for it, and a window
    /// mints everything if so many take all steps [default: the first miners]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    expect_miners: Option<u32>,
    /// The speed of a machine, as `templar train` prints it: the deadlines are chosen for it, and a run whose
    /// windows validators cannot judge in time is refused [default: the deadlines of the size]
    #[arg(long, value_name = "TOKENS_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    speed: Option<u64>,
    /// The seed of the first checkpoint: any text
    #[arg(long, default_value = "0", value_name = "S")]
    seed: String,
    /// Have the run's validators and seeders measure its models as this file says. Its questions and texts become part
    /// of the run
    #[arg(long, value_name = "FILE.toml")]
    benchmarks: Option<PathBuf>,
    /// Print every value of the configuration too, as `run show` does
    #[arg(long)]
    long: bool,
}

/// The pay rules that have a short name here. `--set gauntlet.weights=...` takes all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PayChoice {
    Measured,
    Ranks,
    Steps,
}

impl PayChoice {
    /// The setting of the configuration that makes the choice; `None` for the default.
    fn setting(self) -> Option<String> {
        let rule = match self {
            Self::Measured => return None,
            Self::Ranks => serde_json::to_string(&WeightRule::rank_ramp()).unwrap_or_default(),
            Self::Steps => "proven-steps".to_owned(),
        };
        Some(format!("gauntlet.weights={rule}"))
    }
}

fn validator(text: &str) -> Result<ValidatorSpec, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [key, stake, anchor] = parts[..] else { return Err("expected KEY:STAKE:ANCHOR".to_owned()) };
    Ok(ValidatorSpec {
        key: key.parse().map_err(|error| format!("{error}"))?,
        stake: stake.parse().map_err(|_| format!("{stake:?} is not a stake: expected a whole number"))?,
        chain_anchor: anchor.parse().map_err(|error| format!("{error}"))?,
    })
}

pub(crate) fn run(invocation: &Invocation, args: &NewRunArgs) -> CommandResult {
    let access = invocation.write()?;
    let key = access.home.key()?;
    let (mut genesis, folder) = genesis(&access, &key, args)?;
    let schedule = args.benchmarks.as_deref().map(Schedule::read).transpose()?;
    let mut files = Vec::new();
    if let Some(schedule) = schedule {
        (genesis.benchmarks, files) = schedule.benchmarks()?;
        genesis.check().map_err(|error| CommandError::says(Code::Usage, error))?;
    }
    let bytes = payload::encode(&genesis);
    let run = RunId::new(Hash::of(&bytes));
    if !access.home.runs()?.contains(&run) {
        refuse_used_name(&access, &genesis)?;
        refuse_seen_chain(&access, &genesis)?;
        create(&access, run, bytes, folder.as_ref(), &files)?;
    }
    access.home.set_current_run(&run)?;
    let context = RunContext::open(&access.home, access.blobs(), run)?;
    let me = key.public();
    let mut text = overview::lines(invocation.printer, &context, &me);
    if args.long {
        text.push_str(&format!("\n{}", configuration::lines(&genesis)));
    }
    invocation.printer.document(&RunView::of(&context), text);
    if !args.long {
        invocation.printer.talk("`templar run show` prints every value");
    }
    invocation.printer.talk(next(&genesis, &me));
    let slots = context.genesis.registration.slots;
    if let WeightRule::RankRamp { places, tail_places, .. } = context.genesis.gauntlet.weights
        && slots > places.saturating_add(tail_places)
    {
        let places = places.saturating_add(tail_places);
        invocation.printer.talk(format_args!(
            "by rank, at most {places} of {slots} miners are paid; `--pay measured` pays all of them"
        ));
    }
    Ok(Code::Ok)
}

/// The next thing that this home can do in the run.
fn next(genesis: &Genesis, me: &PublicKey) -> &'static str {
    match (genesis.validator(me).is_some(), genesis.miners().contains(me)) {
        (true, true) => {
            "this home is validator and miner: `templar train --window 0` trains the first window, then \
             `templar close --commits`, `score` and `close`; a node has one role, so name miners of other homes with \
             `--miner KEY` for a run of nodes"
        }
        (true, false) => "`templar node --role validator` serves the run and prints the ticket for others",
        (false, true) => "`templar node --role miner` trains; `templar share` prints the ticket for others",
        (false, false) => "`templar share` prints the ticket for its members",
    }
}

/// The genesis that the arguments describe, and the folder that it starts from.
fn genesis(access: &Access, key: &SecretKey, args: &NewRunArgs) -> Result<(Genesis, Option<Folder>), CommandError> {
    let (dataset_id, dataset) = dataset(access, &args.dataset)?;
    let folder = args.from.as_ref().map(|dir| Folder::read(dir, &dataset, access.blobs())).transpose()?;
    let origin = match &folder {
        Some(folder) => folder.origin(),
        None => {
            let seed = Hash::of(format!("templar model seed {}", args.seed).as_bytes());
            Origin::Drawn { size: args.size.clone(), seed }
        }
    };
    let me = key.public();
    let validators = if args.validator.is_empty() {
        vec![ValidatorSpec { key: me, stake: 1, chain_anchor: own_anchor(access, key, &args.name)? }]
    } else {
        args.validator.clone()
    };
    let miners = if args.miner.is_empty() { vec![me] } else { args.miner.clone() };
    let plan = RunPlan { name: args.name.clone(), dataset_id, dataset: &dataset, validators, miners, origin };
    let choices = [Some(format!("arithmetic={}", args.arithmetic)), args.pay.setting()];
    let settings: Vec<String> = choices.into_iter().flatten().chain(args.set.iter().cloned()).collect();
    let miners = args.expect_miners.unwrap_or(plan.miners.len() as u32);
    let scale = Scale { miners, tokens_per_second: args.speed };
    Ok((configure::configure_for(&plan, &scale, &settings)?, folder))
}

/// The anchor of this home's chain in a run that it makes alone: a new one, or that of the run with this name, which
/// is then made again or refused.
fn own_anchor(access: &Access, key: &SecretKey, name: &str) -> Result<Hash, CommandError> {
    let me = key.public();
    let made = runs_named(access, name)?;
    match made.iter().find_map(|(_, genesis)| genesis.validator(&me)) {
        Some(own) => Ok(own.chain_anchor),
        None => new_chain(&access.home, key, name),
    }
}

/// Refuses a second run of the same name, since commands name runs.
fn refuse_used_name(access: &Access, genesis: &Genesis) -> Result<(), CommandError> {
    let Some((run, _)) = runs_named(access, &genesis.name)?.into_iter().next() else { return Ok(()) };
    let text = format!("run {} of this home is already called {:?}", run.short(), genesis.name);
    Err(CommandError::says(Code::Failed, text).hint("choose another name: commands name runs"))
}

fn create(
    access: &Access,
    run: RunId,
    genesis: Vec<u8>,
    folder: Option<&Folder>,
    files: &[PathBuf],
) -> Result<(), CommandError> {
    let import = Mutex::new(Unfinished::begin(access));
    let put: Put<'_> = &|bytes| import.lock().unwrap_or_else(PoisonError::into_inner).put(bytes);
    if let Some(folder) = folder {
        folder.keep(put)?;
    }
    for path in files {
        put(std::fs::read(path).map_err(|source| FilesError::Io { path: path.clone(), source })?)?;
    }
    put(genesis)?;
    RunContext::create(&access.home, access.blobs(), put, &|blobs| access.sync(blobs), run)?;
    // Now the run names what was put.
    Ok(import.into_inner().unwrap_or_else(PoisonError::into_inner).keep()?)
}
