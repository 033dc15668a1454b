//! A Hugging Face folder from which a run starts: its model, its weights, and the tokenizer that its dataset
//! must have.
//!
//! Each tensor becomes one blob, bit for bit, and the genesis names these blobs. Participants fetch and verify
//! them like any other blob, and nobody needs the folder again.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use templar_blob::BlobSource;
use templar_data::{MAX_TOKENIZER_BYTES, is_lfs_pointer, is_same_tokenizer};
use templar_manifest::{BlobId, Dataset, ModelSpec, TensorSpec, WindowIndex};
use templar_model::{ConfigError, hf};
use templar_store::PutError;
use templar_train::tensors;

use crate::configure::Origin;
use crate::context::Put;

/// The longest training sequence that a run takes from a folder, in tokens. Many models name a far longer
/// context than they are trained on; the run keeps it as their position limit.
const MAX_SEQUENCE_LENGTH: u32 = 2048;

/// A run cannot start from a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The model cannot be read.
    #[error(transparent)]
    Model(#[from] hf::ImportError),
    /// The tensors cannot be laid out.
    #[error(transparent)]
    Layout(#[from] ConfigError),
    /// The tokenizer cannot be read.
    #[error("the tokenizer {} cannot be read", path.display())]
    Tokenizer {
        /// The path of the tokenizer.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The tokenizer is longer than any may be.
    #[error("the tokenizer {} has more than {MAX_TOKENIZER_BYTES} bytes", .0.display())]
    TokenizerTooLong(PathBuf),
    /// The tokenizer is a pointer of Git LFS, which stands where the file was not downloaded.
    #[error("the tokenizer {} is a Git LFS pointer, not the file itself", .0.display())]
    LfsPointer(PathBuf),
    /// The dataset was tokenised with another tokenizer.
    #[error("the dataset was tokenised with {dataset}, the folder's tokenizer is {folder}")]
    OtherTokenizer {
        /// The hash of the dataset's tokenizer.
        dataset: BlobId,
        /// The hash of the folder's tokenizer.
        folder: BlobId,
    },
}

/// A folder whose model and tokenizer have been read and fit a dataset.
#[derive(Debug, Clone)]
pub struct Folder {
    model: ModelSpec,
    specs: Vec<TensorSpec>,
    parameters: Vec<f32>,
}

impl Folder {
    /// Reads `config.json`, `model.safetensors` and `tokenizer.json` of `dir` for a run on `dataset`, whose tokenizer
    /// is among `blobs`.
    ///
    /// # Errors
    /// A file is missing or malformed, or the dataset was tokenised with a tokenizer that gives other tokens.
    pub fn read(dir: &Path, dataset: &Dataset, blobs: &dyn BlobSource) -> Result<Self, FolderError> {
        let json = tokenizer(dir)?;
        let folder = BlobId::of(&json);
        if folder != dataset.tokenizer {
            let known = blobs.read(&dataset.tokenizer.hash(), MAX_TOKENIZER_BYTES as u64);
            if !known.is_ok_and(|known| is_same_tokenizer(&known, &json)) {
                return Err(FolderError::OtherTokenizer { dataset: dataset.tokenizer, folder });
            }
        }
        let (mut model, parameters) = hf::import(dir)?;
        if model.sequence_length > MAX_SEQUENCE_LENGTH {
            model.position_limit = Some(model.positions());
            model.sequence_length = MAX_SEQUENCE_LENGTH;
        }
        Ok(Self { specs: templar_model::tensors(&model)?, model, parameters })
    }

    /// The model for the plan of a run that starts from this folder.
    pub fn origin(&self) -> Origin {
        let named = tensors::checkpoint_of(Default::default(), WindowIndex(0), &self.specs, &self.parameters);
        let tensors = named.tensors.into_iter().map(|tensor| tensor.blob).collect();
        Origin::Trained { model: self.model.clone(), tensors }
    }

    /// Keeps the blobs that [`Folder::origin`] names, one per tensor.
    pub fn keep(&self, put: Put<'_>) -> Result<(), PutError> {
        let keep = |bytes| put(bytes).map(|_| ());
        tensors::checkpoint(Default::default(), WindowIndex(0), &self.specs, &self.parameters, keep).map(|_| ())
    }
}

/// The bytes of the folder's tokenizer.
fn tokenizer(dir: &Path) -> Result<Vec<u8>, FolderError> {
    let path = dir.join("tokenizer.json");
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_TOKENIZER_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if is_lfs_pointer(&bytes) => Err(FolderError::LfsPointer(path)),
        Ok(length) if length <= MAX_TOKENIZER_BYTES => Ok(bytes),
        Ok(_) => Err(FolderError::TokenizerTooLong(path)),
        Err(source) => Err(FolderError::Tokenizer { path, source }),
    }
}
