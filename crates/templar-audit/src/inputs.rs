//! The inputs of a recomputation: the recipe, the dataset, and blobs by hash.

use std::collections::{BTreeMap, BTreeSet};

use templar_blob::{BlobSource, ReadError};
use templar_data::{PageError, PageReader, Split};
use templar_manifest::{
    Checkpoint, CheckpointId, Contribution, Dataset, Hash, MAX_PAYLOAD_BYTES, Payload, PublicKey, Replay, State,
    StateId, WindowIndex, payload,
};
use templar_train::tensors::{LoadError, check_tensors, read_parameters};
use templar_train::{MinerState, Recipe, StepError, TrainError};

/// A recomputation failed, because an input is missing, damaged or wrong.
///
/// Only [`Broken`](Self::Broken) says something about others. The rest says what this participant does not have or
/// cannot do, and is never a reason to refuse anybody's work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// An input that every participant of the run keeps is not here: the dataset, a checkpoint, an aggregate.
    #[error("{what} is missing")]
    Unavailable {
        /// The name of the missing input, with its hash.
        what: String,
    },
    /// An input that a miner had to publish is not here: its delta, its trace, or the state that it started from. If no
    /// peer gives it in time, the miner has withheld it.
    #[error("{what} is missing")]
    Withheld {
        /// The name of the missing input, with its hash.
        what: String,
    },
    /// This participant had the input, and its own disk does not give the bytes back.
    #[error("damaged here: {what}")]
    Damaged {
        /// The hash of the blob.
        blob: Hash,
        /// The name of the input, and the error of the read.
        what: String,
    },
    /// This machine cannot do the computation. Another one may.
    #[error("this machine cannot compute it: {0}")]
    Machine(String),
    /// The bytes of the input are verified, and they are not what their name says, or they contradict the manifest that
    /// names them.
    #[error("{0}")]
    Broken(String),
}

impl InputError {
    /// The error for an input that every participant keeps.
    pub fn of_run(what: &str, blob: &Hash, error: &ReadError) -> Self {
        match error {
            ReadError::NotFound { .. } => Self::Unavailable { what: format!("{what} {blob}") },
            // A comma is there for the hash, which the error of the read has itself.
            error => {
                let text = format!("{}: {}", what.trim_end_matches(','), chain(error));
                if error.is_damage() { Self::Damaged { blob: *blob, what: text } } else { Self::Broken(text) }
            }
        }
    }

    /// The error for an input that a miner had to publish.
    pub fn of_miner(what: &str, blob: &Hash, error: &ReadError) -> Self {
        match Self::of_run(what, blob, error) {
            Self::Unavailable { what } => Self::Withheld { what },
            error => error,
        }
    }

    /// The name of the missing input, if that is the reason.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Unavailable { what } | Self::Withheld { what } => Some(what),
            Self::Damaged { .. } | Self::Machine(_) | Self::Broken(_) => None,
        }
    }

    fn load(what: &str, error: &LoadError, of: fn(&str, &Hash, &ReadError) -> Self) -> Self {
        match error {
            LoadError::Read { name, blob, source } => of(&format!("{what}, tensor {name},"), &blob.hash(), source),
            error => Self::Broken(format!("{what}: {}", chain(error))),
        }
    }

    pub(crate) fn page(error: &PageError) -> Self {
        match error {
            PageError::Read { blob, source } => Self::of_run("dataset shard", &blob.hash(), source),
            error => Self::Broken(chain(error)),
        }
    }

    pub(crate) fn evaluation(what: &str, error: &StepError) -> Self {
        let text = format!("{what}: {}", chain(error));
        match error {
            StepError::Device(_) => Self::Machine(text),
            _ => Self::Broken(text),
        }
    }
}

/// The training of a window failed before it gave a result to compare.
impl From<&TrainError> for InputError {
    fn from(error: &TrainError) -> Self {
        match error {
            TrainError::Page { source, .. } => Self::page(source),
            error if error.is_of_device() => Self::Machine(chain(error)),
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

/// The error for a blob that is here and is no state of this model. It counts as withheld, because no bytes
/// with that hash can be a state: nobody has it.
fn no_state(id: &StateId, error: &dyn std::error::Error) -> InputError {
    InputError::Withheld { what: format!("state {}: its blob is none: {}", id.short(), chain(error)) }
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

    /// The bytes of a blob of at most `max_bytes` bytes that every participant keeps. An error calls it `what`.
    pub fn blob(&self, what: &str, id: &Hash, max_bytes: u64) -> Result<Vec<u8>, InputError> {
        self.blobs.read(id, max_bytes).map(Into::into).map_err(|error| InputError::of_run(what, id, &error))
    }

    /// The same for a blob that a miner had to publish.
    pub fn miner_blob(&self, what: &str, id: &Hash, max_bytes: u64) -> Result<Vec<u8>, InputError> {
        self.blobs.read(id, max_bytes).map(Into::into).map_err(|error| InputError::of_miner(what, id, &error))
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
        read.map_err(|error| InputError::load("first checkpoint", &error, InputError::of_run))
    }

    /// The parameters of a checkpoint, flat.
    pub fn parameters(&self, id: &CheckpointId) -> Result<Vec<f32>, InputError> {
        let checkpoint: Checkpoint = self.manifest(&id.hash())?;
        read_parameters(&self.recipe.tensors, &checkpoint, self.blobs)
            .map_err(|error| InputError::load(&format!("checkpoint {}", id.short()), &error, InputError::of_run))
    }

    /// The state of a miner: the zero state, or one read from its blobs.
    ///
    /// # Errors
    /// [`InputError::Withheld`] also where the blob of that name is no state of this model.
    pub fn state(&self, id: &StateId) -> Result<MinerState, InputError> {
        if *id == MinerState::zero_id(self.recipe.run, &self.recipe.tensors) {
            return Ok(MinerState::zero(self.recipe.parameter_count()));
        }
        let manifest = self.state_manifest(id)?;
        let read = MinerState::read(&self.recipe.tensors, &manifest, self.blobs);
        read.map_err(|error| match error {
            LoadError::Read { source: ReadError::TooLarge { .. }, .. } => no_state(id, &error),
            LoadError::Read { .. } => InputError::load(&format!("state {}", id.short()), &error, InputError::of_miner),
            error => no_state(id, &error),
        })
    }

    fn state_manifest(&self, id: &StateId) -> Result<State, InputError> {
        let bytes = self.miner_blob("state manifest", &id.hash(), MAX_PAYLOAD_BYTES as u64)?;
        let manifest: State = payload::decode(&bytes).map_err(|error| no_state(id, &error))?;
        check_tensors(&self.recipe.tensors, &manifest.tensors).map_err(|error| no_state(id, &error))?;
        Ok(manifest)
    }

    /// Tells whether all blobs are here that a replay of a contribution reads of its miner: the delta, the
    /// trace, and the state before it. All of them are read, because a blob that is damaged here helps nobody. The
    /// state is checked as a replay does it. Otherwise a miner could answer a challenge with bytes that only have the
    /// right name.
    ///
    /// # Errors
    /// A blob is damaged here, so the miner may well have published it.
    pub fn can_replay(&self, contribution: &Contribution) -> Result<bool, InputError> {
        let read = |what: &str, id: &Hash, max_bytes| self.miner_blob(what, id, max_bytes).map(|_| ());
        let all = read("delta", &contribution.delta.hash(), contribution.delta_bytes)
            .and_then(|()| read("trace", &contribution.trace.hash(), contribution.trace_bytes))
            .and_then(|()| self.state(&contribution.state_in).map(|_| ()));
        match all {
            // Bytes of another length than claimed are here, and a replay refuses them.
            Ok(()) | Err(InputError::Broken(_)) => Ok(true),
            Err(InputError::Withheld { .. }) => Ok(false),
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
