//! Reading a folder, which may come from anybody.
//!
//! Sizes are settled before anything of their size is allocated: the config is bounded, and the weights must be exactly
//! those of that config before the parameters are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use templar_manifest::ModelSpec;
use templar_numerics::Kernels;

use super::CONFIG;
use super::config::ReadConfig;
use super::weights::Weights;
use crate::layout::{ConfigError, Layout};

/// The longest `config.json` that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Why a folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file that was read.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A file or its header is longer than any that is sound.
    #[error("{what} has {found} bytes, more than {limit}")]
    TooLarge {
        /// The part that is too long.
        what: &'static str,
        /// The length of that part, in bytes.
        found: u64,
        /// The longest that is taken, in bytes.
        limit: u64,
    },
    /// The config or the index is not JSON, or a size in it is missing or not a number that fits.
    #[error("{} does not parse", path.display())]
    Parse {
        /// The file that was read.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The config asks for something that this model does not compute.
    #[error("{what} is not supported: {found}")]
    Unsupported {
        /// The key of the config.
        what: &'static str,
        /// The value of that key.
        found: String,
    },
    /// The sizes are refused.
    #[error("the sizes in config.json are refused")]
    Config(#[from] ConfigError),
    /// The index names a file that does not lie in the folder.
    #[error("the index of the weights names {name:?}, which is no plain file name")]
    FileName {
        /// The file name in the index.
        name: String,
    },
    /// The header of a weights file is malformed.
    #[error("the header of {} is malformed: {reason}", path.display())]
    Header {
        /// The file that was read.
        path: PathBuf,
        /// The rule that the header breaks.
        reason: String,
    },
    /// A tensor of the model is not in its file.
    #[error("tensor {name} is missing")]
    Missing {
        /// The name of the tensor.
        name: String,
    },
    /// A file has a tensor that the model has not, or that the index puts elsewhere.
    #[error("tensor {name} is not one of the model's")]
    Extra {
        /// The name of the tensor.
        name: String,
    },
    /// A tensor's elements are neither f32 nor of a kind whose every value is an f32.
    #[error("tensor {name} is {found}, where F32, BF16 and F16 are taken")]
    Dtype {
        /// The name of the tensor.
        name: String,
        /// The dtype in the file.
        found: String,
    },
    /// A tensor has another shape.
    #[error("tensor {name} has shape {found:?}, the model {expected:?}")]
    Shape {
        /// The name of the tensor.
        name: String,
        /// The shape in the model.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A weights file is shorter or longer than its header says.
    #[error("{} has {found} bytes, its header says {expected}", path.display())]
    Truncated {
        /// The file that was read.
        path: PathBuf,
        /// Bytes that the header implies.
        expected: u64,
        /// Bytes that the file has.
        found: u64,
    },
    /// A weight is NaN or infinite.
    #[error("tensor {name} is not finite at element {index}")]
    NonFinite {
        /// The name of the tensor.
        name: String,
        /// The first such element.
        index: usize,
    },
}

/// Reads `config.json` and the weights of `dir` (`model.safetensors`, or the files of `model.safetensors.index.json`): the
/// specification, with `sequence_length` the config's `max_position_embeddings`, and the parameters in the order of
/// [`crate::Model::tensors`]. Weights in bf16 or f16 are widened, which is exact.
///
/// # Errors
/// See [`ImportError`]; all but a failing disk and a weight that is not finite are found before a tensor is read.
pub fn import(dir: &Path) -> Result<(ModelSpec, Vec<f32>), ImportError> {
    let config: ReadConfig = read_json(&dir.join(CONFIG), CONFIG, MAX_CONFIG)?;
    let spec = config.spec()?;
    let layout = Layout::new(&spec)?;
    let mut weights = Weights::open(dir, &layout)?;

    let mut params = vec![0.0f32; layout.parameters];
    for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
        let elements = &mut params[range.clone()];
        weights.read(&tensor.name, elements)?;
        if let Some(index) = Kernels::best().first_non_finite(elements) {
            return Err(ImportError::NonFinite { name: tensor.name.clone(), index });
        }
    }
    Ok((spec, params))
}

/// Reads a file of at most `limit` bytes as JSON.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str, limit: u64) -> Result<T, ImportError> {
    let io = |source| ImportError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(ImportError::TooLarge { what, found: text.len() as u64, limit });
    }
    serde_json::from_slice(&text).map_err(|source| ImportError::Parse { path: path.into(), source })
}
