//! What a recomputation reads from: the recipe, the dataset, and blobs by hash.

use std::collections::{BTreeMap, BTreeSet};

use templar_data::{PageError, PageReader, Split};
use templar_manifest::{
    Checkpoint, CheckpointId, Contribution, Dataset, Hash, MAX_PAYLOAD_BYTES, Payload, PublicKey, Replay, State,
    StateId, WindowIndex, payload,
};
use templar_store::{BlobSource, ReadError};
use templar_train::tensors::{LoadError, check_tensors, read_parameters};
use templar_train::{MinerState, Recipe, TrainError};

/// Why something cannot be recomputed.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It is not here.
    #[error("{what} is missing")]
    Unavailable {
        /// What is missing, with its hash.
        what: String,
    },
    /// It is here and not what its name says, or contradicts what names it.
    #[error("{0}")]
    Broken(String),
}

impl EvidenceError {
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

/// An error with its causes on one line.
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

/// A blob that is here and is no state of this model: a state of that name nobody has.
fn no_state(id: &StateId, error: &dyn std::error::Error) -> EvidenceError {
    EvidenceError::Unavailable { what: format!("state {}: its blob is none: {}", id.short(), chain(error)) }
}

/// Everything that a recomputation of a run reads.
pub struct Evidence<'a> {
    /// What genesis says.
    pub recipe: &'a Recipe,
    /// Blobs by hash.
    pub blobs: &'a dyn BlobSource,
    pages: Vec<Pages<'a>>,
}

/// The pages of one sequence length.
struct Pages<'a> {
    length: u32,
    training: PageReader<'a>,
    validation: PageReader<'a>,
}

impl<'a> Evidence<'a> {
    /// Evidence of the run of `recipe` on `dataset`, from `blobs`. Reads nothing yet.
    pub fn new(recipe: &'a Recipe, dataset: &'a Dataset, blobs: &'a dyn BlobSource) -> Result<Self, EvidenceError> {
        let lengths: BTreeSet<u32> = recipe.genesis.contexts().map(|context| context.sequence_length).collect();
        let pages = |length| {
            let reader = |split| PageReader::new(blobs, dataset, split, length);
            Ok(Pages { length, training: reader(Split::Training)?, validation: reader(Split::Validation)? })
        };
        let pages: Result<_, PageError> = lengths.into_iter().map(pages).collect();
        Ok(Self { recipe, blobs, pages: pages.map_err(|error| EvidenceError::page(&error))? })
    }

    /// The pages of a window's sequence length.
    fn of(&self, window: WindowIndex) -> &Pages<'a> {
        let length = self.recipe.genesis.context_at(window.0).sequence_length;
        self.pages.iter().find(|pages| pages.length == length).expect("every length of the run has its pages")
    }

    /// A page to train on in a window.
    pub fn page(&self, window: WindowIndex, page: u64) -> Result<Vec<u32>, PageError> {
        self.of(window).training.read(page)
    }

    /// Pages to train on in a window.
    pub fn pages(&self, window: WindowIndex, pages: &[u64]) -> Result<Vec<Vec<u32>>, EvidenceError> {
        pages.iter().map(|&page| self.page(window, page).map_err(|error| EvidenceError::page(&error))).collect()
    }

    /// The held-out pages on which the record of a window states the loss: the first ones, as many as genesis says or there
    /// are.
    pub fn held_out_pages(&self, window: WindowIndex) -> Result<Vec<Vec<u32>>, EvidenceError> {
        let pages = &self.of(window).validation;
        let count = u64::from(self.recipe.genesis.gauntlet.held_out_pages).min(pages.page_count());
        (0..count).map(|page| pages.read(page).map_err(|error| EvidenceError::page(&error))).collect()
    }

    /// The bytes of a blob that is named as `what`.
    pub fn blob(&self, what: &str, id: &Hash, max_bytes: u64) -> Result<Vec<u8>, EvidenceError> {
        self.blobs.read(id, max_bytes).map(Into::into).map_err(|error| EvidenceError::read(what, &error))
    }

    /// A manifest by its id.
    pub fn manifest<T: Payload>(&self, id: &Hash) -> Result<T, EvidenceError> {
        let what = format!("{} manifest", T::KIND);
        let bytes = self.blob(&what, id, MAX_PAYLOAD_BYTES as u64)?;
        payload::decode(&bytes).map_err(|error| EvidenceError::Broken(format!("{what} {id}: {error}")))
    }

    /// The parameters that the run starts from, as genesis says.
    pub fn initial_parameters(&self) -> Result<Vec<f32>, EvidenceError> {
        let read = self.recipe.initial_parameters(self.blobs);
        read.map_err(|error| EvidenceError::load("first checkpoint", &error))
    }

    /// The parameters of a checkpoint.
    pub fn parameters(&self, id: &CheckpointId) -> Result<Vec<f32>, EvidenceError> {
        let checkpoint: Checkpoint = self.manifest(&id.hash())?;
        read_parameters(&self.recipe.tensors, &checkpoint, self.blobs)
            .map_err(|error| EvidenceError::load(&format!("checkpoint {}", id.short()), &error))
    }

    /// A miner's state: zero, or from its blobs. Where the blob of that name is no state of this model, there is none.
    pub fn state(&self, id: &StateId) -> Result<MinerState, EvidenceError> {
        if *id == MinerState::zero_id(self.recipe.run, &self.recipe.tensors) {
            return Ok(MinerState::zero(self.recipe.parameter_count()));
        }
        let manifest = self.state_manifest(id)?;
        let read = MinerState::read(&self.recipe.tensors, &manifest, self.blobs);
        read.map_err(|error| match error {
            LoadError::Read { source: ReadError::TooLarge { .. }, .. } => no_state(id, &error),
            LoadError::Read { .. } => EvidenceError::load(&format!("state {}", id.short()), &error),
            error => no_state(id, &error),
        })
    }

    fn state_manifest(&self, id: &StateId) -> Result<State, EvidenceError> {
        let bytes = self.blob("state manifest", &id.hash(), MAX_PAYLOAD_BYTES as u64)?;
        let manifest: State = payload::decode(&bytes).map_err(|error| no_state(id, &error))?;
        check_tensors(&self.recipe.tensors, &manifest.tensors).map_err(|error| no_state(id, &error))?;
        Ok(manifest)
    }

    /// Whether everything is here that a replay of a contribution reads of its miner: delta, trace and the state before it. The state
    /// is read as a replay reads it: where that finds none, there is none, or whoever makes one up would answer a challenge with it.
    pub fn can_replay(&self, contribution: &Contribution) -> Result<bool, EvidenceError> {
        let here = |id: &Hash| self.blobs.contains(id);
        if !here(&contribution.delta.hash()) || !here(&contribution.trace.hash()) {
            return Ok(false);
        }
        match self.state(&contribution.state_in) {
            Ok(_) => Ok(true),
            Err(EvidenceError::Unavailable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// States that replays gave, so that an audit of many windows needs no state blobs: each follows from the one before.
#[derive(Debug, Default)]
pub struct States {
    known: BTreeMap<StateId, MinerState>,
    /// What replays of closed windows gave of which verdicts still count: the verdict, and the claims of all who were drawn.
    replayed: BTreeMap<(WindowIndex, PublicKey), (Replay, Vec<Hash>)>,
}

impl States {
    /// The state from here, or from the blobs of `evidence`.
    pub fn get(&self, evidence: &Evidence<'_>, id: &StateId) -> Result<MinerState, EvidenceError> {
        self.known(id).cloned().map_or_else(|| evidence.state(id), Ok)
    }

    /// The state, if it is here.
    pub fn known(&self, id: &StateId) -> Option<&MinerState> {
        self.known.get(id)
    }

    /// Keeps a state.
    pub fn insert(&mut self, id: StateId, state: MinerState) {
        self.known.insert(id, state);
    }

    /// Remembers what the replay of a contribution gave.
    pub(crate) fn remember(&mut self, window: WindowIndex, miner: PublicKey, replay: Replay, claims: Vec<Hash>) {
        self.replayed.insert((window, miner), (replay, claims));
    }

    /// What the replay of a contribution gave, if it is remembered.
    pub(crate) fn replayed(&self, window: WindowIndex, miner: &PublicKey) -> Option<&(Replay, Vec<Hash>)> {
        self.replayed.get(&(window, *miner))
    }

    /// Forgets what replays of windows before this one gave.
    pub(crate) fn forget_before(&mut self, window: WindowIndex) {
        self.replayed = self.replayed.split_off(&(window, PublicKey::from_bytes([0; 32])));
    }

    /// Forgets all states but those that `wanted` names.
    pub fn retain(&mut self, wanted: impl Fn(&StateId) -> bool) {
        self.known.retain(|id, _| wanted(id));
    }
}
