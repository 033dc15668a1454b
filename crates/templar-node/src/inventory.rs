//! What a home's store holds: each blob, what it is, and whether the runs of this home still need it.
//!
//! What no run names stays too, unless its own bytes say that it is left over: a checkpoint or state of one of these runs that was
//! never recorded, a delta or trace of a closed window that no cut names, or a part of a blob that nobody wants. Whatever a
//! person put here by hand is a person's to remove.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use templar_delta::Header;
use templar_manifest::trace::TraceHeader;
use templar_manifest::{
    Checkpoint, Dataset, Hash, Kind, MAX_PAYLOAD_BYTES, PublicKey, RunId, State, TensorBlob, WindowIndex, payload,
};
use templar_protocol::Node;
use templar_store::{BlobSource, ListError, ReadError};

use crate::context::{RunContext, RunError};
use crate::home::{Home, HomeError, at};
use crate::journal::{Journal, JournalError};
use crate::retention::{Record, Retention, Sort};

/// A manifest that no run names is looked for among blobs of up to this length, and so are traces and deltas up to the longest
/// that a run of this home may have.
const STRAY_MANIFEST_BYTES: u64 = 256 << 10;

/// Why it is not known what may go.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A run that cannot be read may need anything.
    #[error("run {run} cannot be read, so it is not known what it needs")]
    Run {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: Box<RunError>,
    },
    /// A journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The store.
    #[error(transparent)]
    List(#[from] ListError),
    /// A blob that may be a manifest does not read.
    #[error("it is not known what a blob names")]
    Read(#[from] ReadError),
}

/// A blob of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The blob.
    pub id: Hash,
    /// Its length, or of a part the bytes on the disk.
    pub bytes: u64,
    /// What it is.
    pub sort: Sort,
    /// Whether all of it is here.
    pub whole: bool,
    /// Whether it stays.
    pub stays: bool,
}

/// What a store says that it has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stock {
    /// Whole blobs and their lengths.
    pub whole: Vec<(Hash, u64)>,
    /// Parts of blobs and the bytes that they take.
    pub partial: Vec<(Hash, u64)>,
    /// Those of the parts that were whole once.
    pub torn: BTreeSet<Hash>,
}

impl Stock {
    /// Of an open store.
    pub async fn of(store: &templar_store::Store) -> Result<Self, ListError> {
        let torn = store.torn().await?.into_iter().collect();
        Ok(Self { whole: store.list().await?, partial: store.partial().await?, torn })
    }
}

/// The tensors that the manifest of a checkpoint or state names; none where it is not here.
pub fn parts(blobs: &dyn BlobSource, manifest: &Hash) -> Vec<Hash> {
    let Ok(bytes) = blobs.read(manifest, MAX_PAYLOAD_BYTES as u64) else { return Vec::new() };
    let tensors = |tensors: Vec<TensorBlob>| tensors.iter().map(|tensor| tensor.blob.hash()).collect();
    match payload::peek(&bytes) {
        Ok((Kind::Checkpoint, _)) => payload::decode::<Checkpoint>(&bytes).map(|found| tensors(found.tensors)),
        Ok((Kind::State, _)) => payload::decode::<State>(&bytes).map(|found| tensors(found.tensors)),
        _ => return Vec::new(),
    }
    .unwrap_or_default()
}

/// What the rule says of one run.
pub fn retention(context: &RunContext, node: &Node, blobs: &dyn BlobSource) -> Retention {
    Retention::of(&Record::of(context, node), &|manifest| parts(blobs, manifest))
}

/// The runs of a home.
#[derive(Debug, Default)]
pub struct Runs {
    /// What the rule says of all of them.
    pub rule: Retention,
    /// The window that each of them has open.
    open: BTreeMap<RunId, u64>,
    /// The longest delta or trace that one of them may have, in bytes.
    longest: u64,
}

/// All runs of a home but one.
pub fn runs(home: &Home, blobs: &dyn BlobSource, except: Option<RunId>) -> Result<Runs, InventoryError> {
    let mut runs = Runs::default();
    for run in home.runs()?.into_iter().filter(|run| Some(*run) != except) {
        let opened = |source| InventoryError::Run { run, source: Box::new(source) };
        let context = RunContext::open(home, blobs, run).map_err(opened)?;
        let node = context.fold(None, &Journal::read(&home.run_dir(&run))?).map_err(opened)?;
        runs.rule.and(retention(&context, &node, blobs));
        runs.open.insert(run, node.state().window().0);
        runs.longest = runs.longest.max(longest(&context));
    }
    Ok(runs)
}

/// The longest delta or trace of a run, in bytes.
fn longest(context: &RunContext) -> u64 {
    let recipe = &context.recipe;
    let header = TraceHeader {
        run: context.run,
        window: WindowIndex(0),
        miner: PublicKey::from_bytes([0; 32]),
        steps: context.genesis.inner.steps,
        tensors: u32::try_from(recipe.tensors.len()).unwrap_or(u32::MAX),
    };
    let delta = templar_delta::max_bytes(&recipe.tensors, &recipe.compression).unwrap_or(0);
    delta.max(header.trace_bytes())
}

/// Everything that the store of a home holds, by name, and snapshots of windows that are closed.
pub fn take(home: &Home, blobs: &dyn BlobSource, stock: &Stock) -> Result<(Vec<Held>, Vec<PathBuf>), InventoryError> {
    let mut runs = runs(home, blobs, None)?;
    strays(blobs, stock, &mut runs)?;
    let Runs { rule, open, .. } = runs;
    let judged = |id: &Hash, bytes, whole, named_or: bool| {
        let (sort, stays) = rule.verdict(id).map_or((Sort::Other, named_or), |verdict| (verdict.sort, verdict.stays));
        Held { id: *id, bytes, sort, whole, stays }
    };
    let mut held: Vec<Held> = stock.whole.iter().map(|(id, bytes)| judged(id, *bytes, true, true)).collect();
    // A part is of use to who wants the whole: a run, or whoever repairs what was whole here once.
    held.extend(stock.partial.iter().map(|(id, bytes)| judged(id, *bytes, false, stock.torn.contains(id))));
    held.sort_by_key(|held| held.id);
    Ok((held, stale_snapshots(home, &open)?))
}

/// What blobs say that no run names: datasets stay with their shards, checkpoints and states of these runs may go, and so may
/// deltas and traces of windows that are closed, since a cut that names them would be a run's.
fn strays(blobs: &dyn BlobSource, stock: &Stock, runs: &mut Runs) -> Result<(), InventoryError> {
    let Runs { rule, open, longest } = runs;
    let longest = STRAY_MANIFEST_BYTES.max(*longest);
    let unnamed = |(id, bytes): &&(Hash, u64)| *bytes <= longest && rule.verdict(id).is_none();
    let unnamed: Vec<Hash> = stock.whole.iter().filter(unnamed).map(|(id, _)| *id).collect();
    let is_closed = |run: RunId, window: u64| open.get(&run).is_some_and(|open| window < *open);
    let mut left_over = Vec::new();
    for id in unnamed {
        let bytes = match blobs.read(&id, longest) {
            Ok(bytes) => bytes,
            // Whatever it was, it names nothing any more.
            Err(ReadError::Corrupt { .. } | ReadError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut of_run = |sort, run: RunId, tensors: Vec<TensorBlob>| {
            let all = std::iter::once(id).chain(tensors.iter().map(|tensor| tensor.blob.hash()));
            if open.contains_key(&run) {
                left_over.extend(all.map(|blob| (sort, blob)));
            } else {
                rule.stay(sort, all);
            }
        };
        match payload::peek(&bytes) {
            Ok((Kind::Dataset, _)) => {
                if let Ok(dataset) = payload::decode::<Dataset>(&bytes) {
                    let shards = dataset.training.iter().chain(&dataset.validation).map(|shard| shard.blob.hash());
                    rule.stay(Sort::Dataset, [id, dataset.tokenizer.hash()].into_iter().chain(shards));
                }
            }
            Ok((Kind::Checkpoint, _)) => {
                if let Ok(found) = payload::decode::<Checkpoint>(&bytes) {
                    of_run(Sort::Checkpoint, found.run, found.tensors);
                }
            }
            Ok((Kind::State, _)) => {
                if let Ok(found) = payload::decode::<State>(&bytes) {
                    of_run(Sort::State, found.run, found.tensors);
                }
            }
            Ok(_) => rule.stay(Sort::Manifest, [id]),
            Err(_) => left_over.extend(trained(&bytes, is_closed).map(|sort| (sort, id))),
        }
    }
    // Last, since what one of them shares with something that stays does not go.
    left_over.into_iter().for_each(|(sort, blob)| rule.may_go(sort, blob));
    Ok(())
}

/// Whether bytes are a delta or a trace of a window of which this is true.
fn trained(bytes: &[u8], is_closed: impl Fn(RunId, u64) -> bool) -> Option<Sort> {
    if let Ok((Header { run, window, .. }, _)) = templar_delta::inspect(bytes)
        && is_closed(run.into(), window)
    {
        return Some(Sort::Delta);
    }
    let TraceHeader { run, window, .. } = TraceHeader::peek(bytes)?;
    is_closed(run, window.0).then_some(Sort::Trace)
}

/// Deltas and traces of a run's closed windows that `rule` does not know, since no cut names them. Unlike a whole
/// [inventory](take) this may run beside a node at work: the checkpoint and the state of its open window are named by nothing yet.
pub(crate) fn uncut(
    context: &RunContext,
    node: &Node,
    rule: &Retention,
    blobs: &dyn BlobSource,
    whole: &[(Hash, u64)],
) -> Result<BTreeSet<Hash>, ReadError> {
    let (longest, open) = (longest(context), node.state().window().0);
    let is_closed = |run: RunId, window: u64| run == context.run && window < open;
    let mut uncut = BTreeSet::new();
    for (id, _) in whole.iter().filter(|(id, bytes)| *bytes <= longest && rule.verdict(id).is_none()) {
        match blobs.read(id, longest) {
            Ok(bytes) if payload::peek(&bytes).is_err() && trained(&bytes, is_closed).is_some() => {
                uncut.insert(*id);
            }
            // What is corrupt is the scrub's.
            Ok(_) | Err(ReadError::Corrupt { .. } | ReadError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(uncut)
}

/// Snapshots of windows that are closed, or of runs that are not here.
fn stale_snapshots(home: &Home, open: &BTreeMap<RunId, u64>) -> Result<Vec<PathBuf>, InventoryError> {
    let wanted: BTreeSet<PathBuf> = open.iter().map(|(run, window)| home.snapshot_path(run, *window)).collect();
    let dir = home.root().join("work");
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(at(&dir))? {
        let path = entry.map_err(at(&dir))?.path();
        if path.extension().is_some_and(|extension| extension == "snapshot") && !wanted.contains(&path) {
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
}
