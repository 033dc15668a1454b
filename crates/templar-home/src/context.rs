//! A run as a home holds it: its genesis, dataset and recipe, and the blobs behind them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use templar_blob::{BlobSource, ReadError};
use templar_data::{ChatTemplate, Tokenizer, TokenizerError};
use templar_manifest::{
    BenchmarkSpec, CheckpointId, Dataset, Genesis, Hash, Initial, MAX_BENCHMARK_BYTES, MAX_PAYLOAD_BYTES, Payload,
    PublicKey, RunId, StateId, WindowIndex, payload,
};
use templar_protocol::{Entry, GenesisError, Input, Node, Output, RunState};
use templar_store::{PutError, SyncError};
use templar_train::tensors::LoadError;
use templar_train::{MinerState, Recipe, RecipeError, tensors};

use crate::configure::{self, ConfigureError};
use crate::error::HomeError;
use crate::files::{Privacy, at, read_small, sync_dir, write_whole};
use crate::home::Home;

/// A run cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This home has no such run.
    #[error("run {0} is not in this home")]
    Unknown(RunId),
    /// This home has no current run.
    #[error("this home has no run")]
    None,
    /// A manifest cannot be read from the store.
    #[error("the {kind} manifest {id} cannot be read")]
    Read {
        /// The kind of the manifest.
        kind: &'static str,
        /// The id of the manifest.
        id: Hash,
        /// The error of the store.
        #[source]
        source: ReadError,
    },
    /// A manifest does not decode, or has another kind.
    #[error("manifest {id} cannot be used")]
    Decode {
        /// The id of the manifest.
        id: Hash,
        /// The error of the decoder.
        #[source]
        source: templar_manifest::PayloadError,
    },
    /// The journal holds an entry that the rules refuse.
    #[error("entry {index} of the journal of run {run} is refused: {reason}")]
    Journal {
        /// The run of the journal.
        run: RunId,
        /// The index of the entry, from 0.
        index: usize,
        /// The reason of the rules, for people.
        reason: String,
    },
    /// The journal folds, and lacks the last record that this home remembers. The text says which.
    #[error("the journal has lost its end: {0}")]
    Forgotten(String),
    /// The store cannot keep a blob.
    #[error("a blob cannot be kept")]
    Put(#[from] PutError),
    /// A blob is kept, but would not survive a power cut.
    #[error("a blob that the run needs is not safe on the disk")]
    Sync(#[from] SyncError),
    /// The tensors from which the genesis starts cannot be read.
    #[error("the model that the run starts from cannot be loaded")]
    Load(#[from] LoadError),
    /// Training is impossible with this genesis.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The genesis does not fit its dataset.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The protocol's rules refuse the genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The file with what follows from the genesis is gone or damaged.
    #[error("{path} cannot be used: {reason}")]
    Start {
        /// The path of the file.
        path: PathBuf,
        /// The reason, for people.
        reason: String,
    },
    /// The run's tokenizer is not what the dataset says of it.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A file of the home cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// A fault of the file with what follows from the genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFault {
    /// The file is gone, or does not parse.
    Damaged(String),
    /// The file says something else than the genesis gives.
    Differs(String),
}

/// Ids that follow from the genesis and cost much to compute: kept beside the journal, in `start.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct RunStart {
    checkpoint: CheckpointId,
    zero_state: StateId,
}

impl RunStart {
    fn path(home: &Home, run: &RunId) -> PathBuf {
        home.run_dir(run).join("start.json")
    }

    /// Reads the file of a home. The inner error is the reason why the file is of no use.
    fn read(home: &Home, run: &RunId) -> Result<Result<Self, String>, HomeError> {
        match read_small(&Self::path(home, run)) {
            Ok(text) => Ok(serde_json::from_str(&text).map_err(|error| error.to_string())),
            Err(HomeError::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
            {
                Ok(Err(source.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, home: &Home, run: &RunId) -> Result<(), HomeError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        write_whole(&Self::path(home, run), text.as_bytes(), Privacy::Everybody)
    }
}

/// A function that keeps a blob and gives its hash.
pub type Put<'a> = &'a (dyn Fn(Vec<u8>) -> Result<Hash, PutError> + Sync);

/// A function that returns once these blobs would survive a power cut.
pub type Durable<'a> = &'a dyn Fn(&[Hash]) -> Result<(), SyncError>;

/// The parts of a run that never change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// The run's id, the hash of its genesis.
    pub run: RunId,
    /// The genesis: every rule and number of the run.
    pub genesis: Arc<Genesis>,
    /// The dataset that genesis names.
    pub dataset: Arc<Dataset>,
    /// The recipe: model, optimisers and compressor, derived from the genesis.
    pub recipe: Arc<Recipe>,
    start: RunStart,
}

/// Reads and decodes the manifest `id`.
///
/// # Errors
/// The blob is missing or corrupt, or is no manifest of this kind.
pub fn read_manifest<T: Payload>(blobs: &dyn BlobSource, id: &Hash) -> Result<T, RunError> {
    let bytes = blobs.read(id, MAX_PAYLOAD_BYTES as u64).map_err(|source| RunError::Read {
        kind: T::KIND.name(),
        id: *id,
        source,
    })?;
    payload::decode(&bytes).map_err(|source| RunError::Decode { id: *id, source })
}

impl RunContext {
    /// The run of these manifests, with what `start` makes of its recipe.
    fn with<T>(
        blobs: &dyn BlobSource,
        run: RunId,
        start: impl FnOnce(&Recipe) -> Result<(RunStart, T), RunError>,
    ) -> Result<(Self, T), RunError> {
        let genesis: Genesis = read_manifest(blobs, &run.hash())?;
        let dataset: Dataset = read_manifest(blobs, &genesis.dataset.hash())?;
        let recipe = Arc::new(Recipe::new(run, genesis.clone())?);
        let (start, more) = start(&recipe)?;
        Ok((Self { run, genesis: Arc::new(genesis), dataset: Arc::new(dataset), recipe, start }, more))
    }

    /// Sets up a run in a home. `blobs` must have the genesis, the dataset's manifest, and the tensors from
    /// which the genesis starts if it names any. The first checkpoint is made and kept, and the home gets a
    /// place for the journal. All of that is durable before the home lists the run.
    ///
    /// # Errors
    /// A blob is missing, the genesis is refused, or the disk takes nothing more.
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
        // Tensors that the genesis names are in the store already: they were just read from there.
        let drawn = matches!(recipe.genesis.initial, Initial::Seed(_));
        let keep = |bytes| if drawn { put(bytes).map(|_| ()) } else { Ok(()) };
        let checkpoint = tensors::checkpoint(run, WindowIndex(0), &recipe.tensors, &parameters, keep)?;
        let start = RunStart {
            checkpoint: put(payload::encode(&checkpoint))?.into(),
            zero_state: MinerState::zero_id(run, &recipe.tensors),
        };
        let mut needed = vec![run.hash(), recipe.genesis.dataset.hash(), start.checkpoint.hash()];
        needed.extend(checkpoint.tensors.iter().map(|tensor| tensor.blob.hash()));
        needed.extend(common_blobs(&recipe.genesis, &dataset).iter().map(|(id, _)| *id));
        needed.retain(|id| blobs.contains(id));
        durable(&needed)?;
        let dir = home.run_dir(&run);
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        sync_dir(dir.parent().unwrap_or(&dir))?;
        start.write(home, &run)?;
        Self::open(home, blobs, run)
    }

    /// Opens a run of this home.
    ///
    /// # Errors
    /// The home does not have the run, or its manifests or the file with what follows from them cannot be read.
    pub fn open(home: &Home, blobs: &dyn BlobSource, run: RunId) -> Result<Self, RunError> {
        if !home.run_dir(&run).exists() {
            return Err(RunError::Unknown(run));
        }
        let path = RunStart::path(home, &run);
        let start = RunStart::read(home, &run)?.map_err(|reason| RunError::Start { path, reason })?;
        Self::with(blobs, run, |_| Ok((start, ()))).map(|(context, ())| context)
    }

    /// The run as its genesis alone gives it, without the file of a home, and its first parameters. This draws or
    /// reads all parameters, so it takes longer than [`open`](Self::open).
    ///
    /// # Errors
    /// The manifests of the run, or the tensors that the genesis names, cannot be read.
    pub fn of_genesis(blobs: &dyn BlobSource, run: RunId) -> Result<(Self, Vec<f32>), RunError> {
        Self::with(blobs, run, |recipe| {
            let parameters = recipe.initial_parameters(blobs)?;
            let checkpoint = tensors::checkpoint_of(run, WindowIndex(0), &recipe.tensors, &parameters);
            let zero_state = MinerState::zero_id(run, &recipe.tensors);
            Ok((RunStart { checkpoint: payload::id_of(&checkpoint).into(), zero_state }, parameters))
        })
    }

    /// Compares the file of a home with this context, which came [from the genesis](Self::of_genesis).
    ///
    /// # Errors
    /// The file system gives an error.
    pub fn start_fault(&self, home: &Home) -> Result<Option<StartFault>, HomeError> {
        let RunStart { checkpoint, zero_state } = self.start;
        Ok(match RunStart::read(home, &self.run)? {
            Err(reason) => Some(StartFault::Damaged(reason)),
            Ok(found) if found.checkpoint != checkpoint => Some(StartFault::Differs(format!(
                "the first checkpoint is recorded as {}, genesis gives {checkpoint}",
                found.checkpoint
            ))),
            Ok(found) if found.zero_state != zero_state => Some(StartFault::Differs(format!(
                "the zero state is recorded as {}, genesis gives {zero_state}",
                found.zero_state
            ))),
            Ok(_) => None,
        })
    }

    /// Writes the file of a home with what follows from the genesis.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_start(&self, home: &Home) -> Result<(), HomeError> {
        self.start.write(home, &self.run)
    }

    /// The protocol's state before the first window.
    pub fn first_state(&self) -> Result<RunState, RunError> {
        let tokens = self.dataset.training_tokens();
        Ok(RunState::new(self.genesis.clone(), self.start.checkpoint, self.start.zero_state, tokens)?)
    }

    /// The protocol's node, folded from the entries of a journal. `me` is the key with which it acts, if any.
    ///
    /// # Errors
    /// The rules refuse an entry: the journal is damaged, or another program wrote it.
    pub fn fold(&self, me: Option<PublicKey>, records: &[Vec<u8>]) -> Result<Node, RunError> {
        let mut node = Node::new(self.first_state()?, me);
        self.fold_into(&mut node, 0, records, |_, _, _| {})?;
        Ok(node)
    }

    /// Takes more entries of a journal into a node; the first of them is entry `first` of the journal. `watch` is
    /// called with the node after each entry, the entry, and its outputs.
    ///
    /// # Errors
    /// As of [`RunContext::fold`].
    pub(crate) fn fold_into(
        &self,
        node: &mut Node,
        first: u64,
        records: &[Vec<u8>],
        mut watch: impl FnMut(&mut Node, &[u8], &[Output]),
    ) -> Result<(), RunError> {
        for (index, record) in (first..).zip(records) {
            let damaged = |reason: String| RunError::Journal { run: self.run, index: index as usize, reason };
            let entry = Entry::decode(record).map_err(|error| damaged(error.to_string()))?;
            let outputs = node.step(Input::Entry(entry)).map_err(|error| damaged(error.to_string()))?;
            watch(node, record, &outputs);
        }
        Ok(())
    }

    /// The checkpoint from which the run starts.
    pub fn first_checkpoint(&self) -> CheckpointId {
        self.start.checkpoint
    }

    /// The state with which every miner joins: no error feedback, no optimiser moments.
    pub fn zero_state(&self) -> StateId {
        self.start.zero_state
    }

    /// The run's tokenizer, as the dataset was imported with it.
    ///
    /// # Errors
    /// Its blob cannot be read, or is not what the dataset says of it.
    pub fn tokenizer(&self, blobs: &dyn BlobSource) -> Result<Tokenizer, RunError> {
        let id = self.dataset.tokenizer.hash();
        let read = blobs.read(&id, templar_data::MAX_TOKENIZER_BYTES as u64);
        let json = read.map_err(|source| RunError::Read { kind: "tokenizer", id, source })?;
        Ok(Tokenizer::for_dataset(json, &self.dataset)?)
    }

    /// The chat template that came with the tokenizer, if one did.
    ///
    /// # Errors
    /// Its blob cannot be read, or is no text.
    pub fn chat_template(&self, blobs: &dyn BlobSource) -> Result<Option<ChatTemplate>, RunError> {
        let Some(blob) = self.dataset.chat_template else { return Ok(None) };
        let id = blob.hash();
        let read = blobs.read(&id, templar_data::MAX_CHAT_TEMPLATE_BYTES as u64);
        let text = read.map_err(|source| RunError::Read { kind: "chat template", id, source })?;
        Ok(Some(ChatTemplate::new(String::from_utf8_lossy(&text))))
    }
}

/// The blobs that every participant needs besides the manifests, each with its greatest possible length in bytes: the
/// tokenizer, the chat template if there is one, the dataset's shards, and the files that models are measured on.
pub fn common_blobs(genesis: &Genesis, dataset: &Dataset) -> Vec<(Hash, u64)> {
    let mut blobs = vec![(dataset.tokenizer.hash(), templar_data::MAX_TOKENIZER_BYTES as u64)];
    blobs.extend(dataset.chat_template.map(|blob| (blob.hash(), templar_data::MAX_CHAT_TEMPLATE_BYTES as u64)));
    for shard in dataset.training.iter().chain(&dataset.validation) {
        let bytes = shard.tokens.saturating_mul(dataset.token_bytes.into());
        blobs.push((shard.blob.hash(), bytes.min(templar_data::MAX_SHARD_BYTES)));
    }
    let measured = genesis.benchmarks.iter().flat_map(BenchmarkSpec::files);
    blobs.extend(measured.map(|file| (file.hash(), MAX_BENCHMARK_BYTES)));
    blobs
}
