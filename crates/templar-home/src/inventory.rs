//! Lists the blobs of a home's store: the sort of each, and whether the runs of this home still need it.
//!
//! A blob that no run names stays too, unless its own bytes say that it is left over. Left over are a
//! checkpoint or a state of one of these runs that was never recorded, a delta or a trace of a closed window
//! that no cut names, a part of a blob that nobody wants, and a blob of an [`unfinished`](crate::unfinished) import. Blobs that a
//! person has put into the store by hand stay until a person removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use templar_blob::{BlobSource, ReadError};
use templar_delta::DeltaHeader;
use templar_manifest::trace::TraceHeader;
use templar_manifest::{
    Checkpoint, Dataset, Hash, Kind, MAX_PAYLOAD_BYTES, PublicKey, RunId, State, TensorBlob, WindowIndex, payload,
};
use templar_protocol::Node;
use templar_store::ListError;

use crate::context::{RunContext, RunError};
use crate::error::HomeError;
use crate::files::at;
use crate::home::Home;
use crate::journal::{Journal, JournalError};
use crate::retention::{Record, Retention, Sort};
use crate::unfinished::list;

/// Manifests that no run names are looked for among blobs of up to this length. Traces and deltas are looked
/// for up to the longest that a run of this home may have.
const STRAY_MANIFEST_BYTES: u64 = 256 << 10;

/// It is not known which blobs may go.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A run cannot be read, so it may need any blob.
    #[error("run {run} cannot be read, so it is not known what it needs")]
    Run {
        /// The run that cannot be read.
        run: RunId,
        /// The error of the run.
        #[source]
        source: Box<RunError>,
    },
    /// A run's journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A directory of the home cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The store cannot list its blobs.
    #[error(transparent)]
    List(#[from] ListError),
    /// A blob that may be a manifest cannot be read.
    #[error("it is not known what a blob names")]
    Read(#[from] ReadError),
}

/// A blob of the store, with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The hash of the blob.
    pub id: Hash,
    /// The blob's length in bytes; of a part, its bytes on the disk.
    pub bytes: u64,
    /// The sort of the blob.
    pub sort: Sort,
    /// Whether all of its bytes are here.
    pub whole: bool,
    /// Whether the blob must stay.
    pub stays: bool,
}

/// The list of a store's blobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stock {
    /// Whole blobs and their lengths in bytes.
    pub whole: Vec<(Hash, u64)>,
    /// Parts of blobs and their bytes on the disk.
    pub partial: Vec<(Hash, u64)>,
    /// The parts that were whole once and are damaged now.
    pub torn: BTreeSet<Hash>,
}

impl Stock {
    /// Lists an open store.
    pub async fn of(store: &templar_store::Store) -> Result<Self, ListError> {
        let torn = store.torn().await?.into_iter().collect();
        Ok(Self { whole: store.list().await?, partial: store.partial().await?, torn })
    }
}

/// The tensors that the manifest of a checkpoint or a state names. Empty if the manifest is not here.
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

/// Applies the rule of retention to one run.
pub fn retention(context: &RunContext, node: &Node, blobs: &dyn BlobSource) -> Retention {
    Retention::of(&Record::of(context, node), &|manifest| parts(blobs, manifest))
}

/// The needs of the runs of a home.
#[derive(Debug, Default)]
pub struct Runs {
    /// The verdicts of all runs together.
    pub rule: Retention,
    /// The open window of each run.
    open: BTreeMap<RunId, u64>,
    /// The longest delta or trace that a run may have, in bytes.
    longest: u64,
}

/// Reads all runs of a home, except `except`.
///
/// # Errors
/// A run cannot be read, so it is not known what it needs.
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

/// Lists all blobs of a home's store by hash, each with its verdict, and the snapshots of windows that are closed.
pub fn take(home: &Home, blobs: &dyn BlobSource, stock: &Stock) -> Result<(Vec<Held>, Vec<PathBuf>), InventoryError> {
    let mut runs = runs(home, blobs, None)?;
    let unfinished = list::listed(home)?;
    if !unfinished.is_empty() {
        // A dataset may be whole although its import was killed just before it could say so.
        runs.longest = runs.longest.max(MAX_PAYLOAD_BYTES as u64);
    }
    strays(blobs, stock, &mut runs)?;
    let Runs { mut rule, open, .. } = runs;
    // Last, since a dataset that is whole may have the same shards.
    unfinished.into_iter().for_each(|blob| rule.may_go(Sort::Dataset, blob));
    let judged = |id: &Hash, bytes, whole, named_or: bool| {
        let (sort, stays) = rule.verdict(id).map_or((Sort::Other, named_or), |verdict| (verdict.sort, verdict.stays));
        Held { id: *id, bytes, sort, whole, stays }
    };
    let mut held: Vec<Held> = stock.whole.iter().map(|(id, bytes)| judged(id, *bytes, true, true)).collect();
    // A part serves a run that wants the whole blob, or the repair of a blob that was whole here once.
    held.extend(stock.partial.iter().map(|(id, bytes)| judged(id, *bytes, false, stock.torn.contains(id))));
    held.sort_by_key(|held| held.id);
    Ok((held, stale_snapshots(home, &open)?))
}

/// Judges blobs that no run names by their own bytes. Datasets stay with their shards. Checkpoints and states
/// of these runs may go. Deltas and traces of closed windows may go too, since the cut of their run would name
/// them otherwise.
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
            // A blob that cannot be read names no other blobs.
            Err(ReadError::Corrupt { .. } | ReadError::Torn { .. } | ReadError::NotFound { .. }) => continue,
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
                    rule.stay(Sort::Dataset, std::iter::once(id).chain(dataset.blobs().map(|blob| blob.hash())));
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
    // Last, since a tensor that is shared with something that stays must stay.
    left_over.into_iter().for_each(|(sort, blob)| rule.may_go(sort, blob));
    Ok(())
}

/// The sort of `bytes`, if they are a delta or a trace of a closed window.
fn trained(bytes: &[u8], is_closed: impl Fn(RunId, u64) -> bool) -> Option<Sort> {
    if let Ok((DeltaHeader { run, window, .. }, _)) = templar_delta::inspect(bytes)
        && is_closed(run.into(), window)
    {
        return Some(Sort::Delta);
    }
    let TraceHeader { run, window, .. } = TraceHeader::peek(bytes)?;
    is_closed(run, window.0).then_some(Sort::Trace)
}

/// Deltas and traces of a run's closed windows that `rule` does not know, since no cut names them. A node may
/// call this while it works. A whole [inventory](take) would be wrong then: nothing names the checkpoint and
/// the state of the open window yet, so they would count as left over.
pub fn uncut(
    context: &RunContext,
    node: &Node,
    rule: &Retention,
    blobs: &dyn BlobSource,
    whole: &[(Hash, u64)],
) -> Result<BTreeSet<Hash>, ReadError> {
    let (longest, open) = (longest(context), node.state().window().0);
    // Of windows that the node has forgotten, it does not know what their cuts name.
    let from = node.remembers_from().0;
    let is_closed = |run: RunId, window: u64| run == context.run && (from..open).contains(&window);
    let mut uncut = BTreeSet::new();
    for (id, _) in whole.iter().filter(|(id, bytes)| *bytes <= longest && rule.verdict(id).is_none()) {
        match blobs.read(id, longest) {
            Ok(bytes) if payload::peek(&bytes).is_err() && trained(&bytes, is_closed).is_some() => {
                uncut.insert(*id);
            }
            // Corrupt blobs are left to the scrub.
            Ok(_) | Err(ReadError::Corrupt { .. } | ReadError::Torn { .. } | ReadError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(uncut)
}

/// Snapshots of closed windows, and of runs that are not in this home.
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
