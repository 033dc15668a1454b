//! The inputs of a recomputation: the recipe, the dataset, and blobs by hash.

use std::collections::{BTreeMap, BTreeSet};

use templar_blob::{BlobSource, ReadError};
use templar_data::{PageError, PageReader, Split};
use templar_manifest::{
    Checkpoint, CheckpointId, Contribution, Dataset, Hash, MAX_PAYLOAD_BYTES, Payload, PublicKey, Replay, State,
    StateId, WindowIndex, payload,
};
use templar_train::tensors::{LoadError, check_tensors, read_parameters};
use templar_train::{MinerState, Recipe, TrainError};

/// A recomputation failed, because an input is missing or broken.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The input is not here.
    #[error("{what} is missing")]
    Unavailable {
        /// The name of the missing input, with its hash.
        what: String,
    },
    /// The input is here, but it is not what its name says, or it contradicts the manifest that names it.
    #[error("{0}")]
    Broken(String),
}

impl InputError {
    pub(crate) fn read(what: &str, error: &ReadError) -> Self {
        match error {
            ReadError::NotFound { id } => Self::Unavailable { what: format!("{what} {id}") },
            error => Self::Broken(format!("{what}: {}", chain(error))),
        }
    }

    pub(crate) fn load(what: &str, error: &LoadError) -> Self {
        match error {
            LoadError::Read { name, source } => Self::read(&format!("{what}, tensor {name},"), source),
            error => Self::Broken(format!("{what}: {}", chain(error))),
        }
    }

    pub(crate) fn page(error: &PageError) -> Self {
        match error {
            PageError::Read { source, .. } => Self::read("dataset shard", source),
            error => Self::Broken(chain(error)),
        }
    }

    pub(crate) fn train(error: &TrainError) -> Self {
        match error {
            TrainError::Page { source, .. } => Self::page(source),
            error => Self::Broken(chain(error)),
        }
    }
}

/// Writes an error and its causes on one line, joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The error for a blob that is here and is no state of this model. It counts as unavailable, because no bytes
/// with that hash can be a state: nobody has it.
fn no_state(id: &StateId, error: &dyn std::error::Error) -> InputError {
    InputError::Unavailable { what: format!("state {}: its blob is none: {}", id.short(), chain(error)) }
}

/// Everything that a recomputation of a run reads: its recipe, its dataset, and blobs by hash.
pub struct AuditInputs<'a> {
    /// The recipe that genesis fixes: model, optimizer, schedule and compression.
    pub recipe: &'a Recipe,
    /// The source of all blobs, such as an open store or memory.
    pub blobs: &'a dyn BlobSource,
    pages: Vec<PageReaders<'a>>,
}

/// The readers of both parts of the dataset, for one sequence length.
struct PageReaders<'a> {
    length: u32,
    training: PageReader<'a>,
    validation: PageReader<'a>,
}

impl<'a> AuditInputs<'a> {
    /// The inputs of the run of `recipe` on `dataset`, from `blobs`. It reads no blob yet.
    ///
    /// # Errors
    /// [`InputError::Broken`] where the manifest of the dataset contradicts itself.
    pub fn new(recipe: &'a Recipe, dataset: &'a Dataset, blobs: &'a dyn BlobSource) -> Result<Self, InputError> {
        let lengths: BTreeSet<u32> = recipe.genesis.contexts().map(|context| context.sequence_length).collect();
        let pages = |length| {
            let reader = |split| PageReader::new(blobs, dataset, split, length);
            Ok(PageReaders { length, training: reader(Split::Training)?, validation: reader(Split::Validation)? })
        };
        let pages: Result<_, PageError> = lengths.into_iter().map(pages).collect();
        Ok(Self { recipe, blobs, pages: pages.map_err(|error| InputError::page(&error))? })
    }

    /// The readers for the sequence length of a window.
    fn of(&self, window: WindowIndex) -> &PageReaders<'a> {
        let length = self.recipe.genesis.context_at(window.0).sequence_length;
        self.pages.iter().find(|pages| pages.length == length).expect("every length of the run has its pages")
    }

    /// A page to train on in a window: `sequence_length + 1` tokens.
    pub fn page(&self, window: WindowIndex, page: u64) -> Result<Vec<u32>, PageError> {
        self.of(window).training.read(page)
    }

    /// Pages to train on in a window, in the order of `pages`.
    pub fn pages(&self, window: WindowIndex, pages: &[u64]) -> Result<Vec<Vec<u32>>, InputError> {
        pages.iter().map(|&page| self.page(window, page).map_err(|error| InputError::page(&error))).collect()
    }

    /// The held-out pages on which the record of a window states the loss. They are the first pages of the
    /// held-out part, as many as genesis asks for or as there are.
    pub fn held_out_pages(&self, window: WindowIndex) -> Result<Vec<Vec<u32>>, InputError> {
        let pages = &self.of(window).validation;
        let count = u64::from(self.recipe.genesis.gauntlet.held_out_pages).min(pages.page_count());
        (0..count).map(|page| pages.read(page).map_err(|error| InputError::page(&error))).collect()
    }

    /// The bytes of a blob of at most `max_bytes` bytes. An error calls it `what`.
    pub fn blob(&self, what: &str, id: &Hash, max_bytes: u64) -> Result<Vec<u8>, InputError> {
        self.blobs.read(id, max_bytes).map(Into::into).map_err(|error| InputError::read(what, &error))
    }

    /// A manifest by its id, decoded and checked.
    pub fn manifest<T: Payload>(&self, id: &Hash) -> Result<T, InputError> {
        let what = format!("{} manifest", T::KIND);
        let bytes = self.blob(&what, id, MAX_PAYLOAD_BYTES as u64)?;
        payload::decode(&bytes).map_err(|error| InputError::Broken(format!("{what} {id}: {error}")))
    }

    /// The parameters that the run starts from, flat: drawn from the seed in genesis, or read from the checkpoint that
    /// genesis names.
    pub fn initial_parameters(&self) -> Result<Vec<f32>, InputError> {
        let read = self.recipe.initial_parameters(self.blobs);
        read.map_err(|error| InputError::load("first checkpoint", &error))
    }

    /// The parameters of a checkpoint, flat.
    pub fn parameters(&self, id: &CheckpointId) -> Result<Vec<f32>, InputError> {
        let checkpoint: Checkpoint = self.manifest(&id.hash())?;
        read_parameters(&self.recipe.tensors, &checkpoint, self.blobs)
            .map_err(|error| InputError::load(&format!("checkpoint {}", id.short()), &error))
    }

    /// The state of a miner: the zero state, or one read from its blobs.
    ///
    /// # Errors
    /// [`InputError::Unavailable`] also where the blob of that name is no state of this model.
    pub fn state(&self, id: &StateId) -> Result<MinerState, InputError> {
        if *id == MinerState::zero_id(self.recipe.run, &self.recipe.tensors) {
            return Ok(MinerState::zero(self.recipe.parameter_count()));
        }
        let manifest = self.state_manifest(id)?;
        let read = MinerState::read(&self.recipe.tensors, &manifest, self.blobs);
        read.map_err(|error| match error {
            LoadError::Read { source: ReadError::TooLarge { .. }, .. } => no_state(id, &error),
            LoadError::Read { .. } => InputError::load(&format!("state {}", id.short()), &error),
            error => no_state(id, &error),
        })
    }

    fn state_manifest(&self, id: &StateId) -> Result<State, InputError> {
        let bytes = self.blob("state manifest", &id.hash(), MAX_PAYLOAD_BYTES as u64)?;
        let manifest: State = payload::decode(&bytes).map_err(|error| no_state(id, &error))?;
        check_tensors(&self.recipe.tensors, &manifest.tensors).map_err(|error| no_state(id, &error))?;
        Ok(manifest)
    }

    /// Tells whether all blobs are here that a replay of a contribution reads of its miner: the delta, the
    /// trace, and the state before it. The state is read and checked as a replay does it. Otherwise a miner
    /// could answer a challenge with bytes that only have the right name.
    pub fn can_replay(&self, contribution: &Contribution) -> Result<bool, InputError> {
        let here = |id: &Hash| self.blobs.contains(id);
        if !here(&contribution.delta.hash()) || !here(&contribution.trace.hash()) {
            return Ok(false);
        }
        match self.state(&contribution.state_in) {
            Ok(_) => Ok(true),
            Err(InputError::Unavailable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// States that replays gave. Each state follows from the one before, so an audit of many windows needs no state blobs.
#[derive(Debug, Default)]
pub struct States {
    known: BTreeMap<StateId, MinerState>,
    /// The results of replays of closed windows on which verdicts still count: the verdict, and the claims of
    /// all validators that were drawn.
    replayed: BTreeMap<(WindowIndex, PublicKey), (Replay, Vec<Hash>)>,
}

impl States {
    /// The state of this id, from memory or else from the blobs of `inputs`.
    pub fn get(&self, inputs: &AuditInputs<'_>, id: &StateId) -> Result<MinerState, InputError> {
        self.known(id).cloned().map_or_else(|| inputs.state(id), Ok)
    }

    /// The state of this id, if a replay gave it.
    pub fn known(&self, id: &StateId) -> Option<&MinerState> {
        self.known.get(id)
    }

    /// Keeps a state for later windows.
    pub fn insert(&mut self, id: StateId, state: MinerState) {
        self.known.insert(id, state);
    }

    /// Remembers the result of the replay of a contribution.
    pub(crate) fn remember(&mut self, window: WindowIndex, miner: PublicKey, replay: Replay, claims: Vec<Hash>) {
        self.replayed.insert((window, miner), (replay, claims));
    }

    /// The result of the replay of a contribution, if it is remembered.
    pub(crate) fn replayed(&self, window: WindowIndex, miner: &PublicKey) -> Option<&(Replay, Vec<Hash>)> {
        self.replayed.get(&(window, *miner))
    }

    /// Forgets the results of replays of windows before this one.
    pub(crate) fn forget_before(&mut self, window: WindowIndex) {
        self.replayed = self.replayed.split_off(&(window, PublicKey::from_bytes([0; 32])));
    }

    /// Forgets all states except those for which `wanted` is true.
    pub fn retain(&mut self, wanted: impl Fn(&StateId) -> bool) {
        self.known.retain(|id, _| wanted(id));
    }
}
