//! A run as a node holds it: genesis, dataset and recipe, and the blobs behind them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use templar_manifest::{
    CheckpointId, Dataset, Genesis, Hash, Initial, MAX_PAYLOAD_BYTES, Payload, PublicKey, RunId, StateId, WindowIndex,
    payload,
};
use templar_protocol::{Entry, GenesisError, Input, Node, Output, RunState};
use templar_store::{BlobSource, PutError, ReadError, SyncError};
use templar_train::tensors::LoadError;
use templar_train::{MinerState, Recipe, RecipeError, tensors};

use crate::configure::{self, ConfigureError};
use crate::home::{Home, HomeError, Privacy, at, read_small, sync_dir, write_whole};

/// Why a run cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This home has no such run.
    #[error("run {0} is not in this home")]
    Unknown(RunId),
    /// This home has no run at all.
    #[error("this home has no run")]
    None,
    /// A manifest is not in the store.
    #[error("the {kind} manifest {id} cannot be read")]
    Read {
        /// Its kind.
        kind: &'static str,
        /// Its id.
        id: Hash,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A manifest is not what it should be.
    #[error("manifest {id} cannot be used")]
    Decode {
        /// Its id.
        id: Hash,
        /// Why.
        #[source]
        source: templar_manifest::PayloadError,
    },
    /// The journal holds an entry that the rules refuse.
    #[error("entry {index} of the journal of run {run} is refused: {reason}")]
    Journal {
        /// The run.
        run: RunId,
        /// Which entry, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The store.
    #[error("a blob cannot be kept")]
    Put(#[from] PutError),
    /// The store, again.
    #[error("a blob that the run needs is not safe on the disk")]
    Sync(#[from] SyncError),
    /// The tensors that genesis starts from.
    #[error("the model that the run starts from cannot be loaded")]
    Load(#[from] LoadError),
    /// Genesis cannot be trained.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Genesis does not fit its dataset.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The rules refuse genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What follows from genesis alone and is costly to compute: kept beside the journal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Start {
    checkpoint: CheckpointId,
    zero_state: StateId,
}

/// Keeps a blob and gives its name.
pub type Put<'a> = &'a (dyn Fn(Vec<u8>) -> Result<Hash, PutError> + Sync);

/// Returns once blobs would survive a power cut.
pub type Durable<'a> = &'a dyn Fn(&[Hash]) -> Result<(), SyncError>;

/// Everything about a run that does not change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// The run.
    pub run: RunId,
    /// Its genesis.
    pub genesis: Arc<Genesis>,
    /// The dataset that genesis names.
    pub dataset: Arc<Dataset>,
    /// What genesis says about training.
    pub recipe: Arc<Recipe>,
    start: Start,
}

/// A manifest by its id.
pub fn read_manifest<T: Payload>(blobs: &dyn BlobSource, id: &Hash) -> Result<T, RunError> {
    let bytes = blobs.read(id, MAX_PAYLOAD_BYTES as u64).map_err(|source| RunError::Read {
        kind: T::KIND.name(),
        id: *id,
        source,
    })?;
    payload::decode(&bytes).map_err(|source| RunError::Decode { id: *id, source })
}

impl RunContext {
    /// Sets up a run whose genesis and dataset manifest can be read, and the tensors that genesis starts from if it names
    /// any: the first checkpoint is made and kept, and the home gets a place for the journal. All that is on the disk before
    /// the home says that it has the run.
    pub fn create(
        home: &Home,
        blobs: &dyn BlobSource,
        put: Put<'_>,
        durable: Durable<'_>,
        run: RunId,
    ) -> Result<Self, RunError> {
        let genesis: Genesis = read_manifest(blobs, &run.hash())?;
        let dataset: Dataset = read_manifest(blobs, &genesis.dataset.hash())?;
        configure::check(&genesis, &dataset)?;
        let recipe = Recipe::new(run, genesis)?;
        let parameters = recipe.initial_parameters(blobs)?;
        // Those that genesis names are here, or they would not have been read.
        let drawn = matches!(recipe.genesis.initial, Initial::Seed(_));
        let keep = |bytes| if drawn { put(bytes).map(|_| ()) } else { Ok(()) };
        let checkpoint = tensors::checkpoint(run, WindowIndex(0), &recipe.tensors, &parameters, keep)?;
        let start = Start {
            checkpoint: put(payload::encode(&checkpoint))?.into(),
            zero_state: MinerState::zero_id(run, &recipe.tensors),
        };
        let mut needed = vec![run.hash(), recipe.genesis.dataset.hash(), start.checkpoint.hash()];
        needed.extend(checkpoint.tensors.iter().map(|tensor| tensor.blob.hash()));
        needed.extend(common_blobs(&dataset).iter().map(|(id, _)| *id));
        needed.retain(|id| blobs.contains(id));
        durable(&needed)?;
        let dir = home.run_dir(&run);
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        sync_dir(dir.parent().unwrap_or(&dir))?;
        let text = serde_json::to_string_pretty(&start).unwrap_or_default();
        write_whole(&dir.join("start.json"), text.as_bytes(), Privacy::Everybody)?;
        Self::open(home, blobs, run)
    }

    /// A run of this home.
    pub fn open(home: &Home, blobs: &dyn BlobSource, run: RunId) -> Result<Self, RunError> {
        let path = home.run_dir(&run).join("start.json");
        if !path.exists() {
            return Err(RunError::Unknown(run));
        }
        let text = read_small(&path)?;
        let start: Start =
            serde_json::from_str(&text).map_err(|error| HomeError::Parse { path, reason: error.to_string() })?;
        let genesis: Genesis = read_manifest(blobs, &run.hash())?;
        let dataset: Dataset = read_manifest(blobs, &genesis.dataset.hash())?;
        let recipe = Arc::new(Recipe::new(run, genesis.clone())?);
        Ok(Self { run, genesis: Arc::new(genesis), dataset: Arc::new(dataset), recipe, start })
    }

    /// The state before the first window.
    pub fn first_state(&self) -> Result<RunState, RunError> {
        let tokens = self.dataset.training_tokens();
        Ok(RunState::new(self.genesis.clone(), self.start.checkpoint, self.start.zero_state, tokens)?)
    }

    /// The protocol's node, folded from the entries of a journal. `me` is the key it acts with.
    pub fn fold(&self, me: Option<PublicKey>, records: &[Vec<u8>]) -> Result<Node, RunError> {
        self.fold_and_watch(me, records, |_, _| {})
    }

    /// The same; `watch` hears what each entry came to, with its index.
    pub(crate) fn fold_and_watch(
        &self,
        me: Option<PublicKey>,
        records: &[Vec<u8>],
        mut watch: impl FnMut(usize, &[Output]),
    ) -> Result<Node, RunError> {
        let mut node = Node::new(self.first_state()?, me);
        for (index, record) in records.iter().enumerate() {
            let damaged = |reason: String| RunError::Journal { run: self.run, index, reason };
            let entry = Entry::decode(record).map_err(|error| damaged(error.to_string()))?;
            let outputs = node.step(Input::Entry(entry)).map_err(|error| damaged(error.to_string()))?;
            watch(index, &outputs);
        }
        Ok(node)
    }

    /// The checkpoint that the run starts from.
    pub fn first_checkpoint(&self) -> CheckpointId {
        self.start.checkpoint
    }

    /// The state that every miner joins with.
    pub fn zero_state(&self) -> StateId {
        self.start.zero_state
    }

    /// The tokenizer's `tokenizer.json`.
    pub fn tokenizer(&self, blobs: &dyn BlobSource) -> Result<Vec<u8>, RunError> {
        let id = self.genesis.tokenizer.hash();
        let read = blobs.read(&id, templar_data::MAX_TOKENIZER_BYTES as u64);
        read.map(Into::into).map_err(|source| RunError::Read { kind: "tokenizer", id, source })
    }
}

/// The blobs that everybody in a run needs besides the manifests, with the most bytes that each may have: tokenizer and
/// dataset shards.
pub fn common_blobs(dataset: &Dataset) -> Vec<(Hash, u64)> {
    let mut blobs = vec![(dataset.tokenizer.hash(), templar_data::MAX_TOKENIZER_BYTES as u64)];
    for shard in dataset.training.iter().chain(&dataset.validation) {
        let bytes = shard.tokens.saturating_mul(dataset.token_bytes.into());
        blobs.push((shard.blob.hash(), bytes.min(templar_data::MAX_SHARD_BYTES)));
    }
    blobs
}
