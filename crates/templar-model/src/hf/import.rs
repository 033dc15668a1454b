//! Reading a folder, which may come from anybody.
//!
//! Sizes are settled before anything of their size is allocated: the config is bounded, the header is bounded and must
//! describe exactly the tensors of that config in f32, and the file must be exactly as long as the header says.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use templar_manifest::ModelSpec;
use templar_numerics::first_non_finite;

use super::config::ReadConfig;
use super::{CONFIG, WEIGHTS};
use crate::layout::{ConfigError, Layout};

/// Longest `config.json`.
const MAX_CONFIG: u64 = 1 << 20;
/// Longest header of a weights file; 72B's has 70 KB.
const MAX_HEADER: u64 = 16 << 20;
/// Bytes read at a time.
const PIECE: usize = 1 << 18;

/// Why a folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file system fails.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or its header is longer than any that is sound.
    #[error("{what} has {found} bytes, more than {limit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length.
        found: u64,
        /// The longest taken.
        limit: u64,
    },
    /// The config is not JSON, or a size in it is missing or not a number that fits.
    #[error("{} does not parse", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The config asks for something that this model does not compute.
    #[error("{what} is not supported: {found}")]
    Unsupported {
        /// The key.
        what: &'static str,
        /// Its value.
        found: String,
    },
    /// The sizes are refused.
    #[error("the sizes in config.json are refused")]
    Config(#[from] ConfigError),
    /// The header of the weights is malformed.
    #[error("the header of model.safetensors is malformed: {reason}")]
    Header {
        /// What is wrong.
        reason: String,
    },
    /// A tensor of the model is not in the file.
    #[error("tensor {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The file has a tensor that the model has not.
    #[error("tensor {name} is not one of the model's")]
    Extra {
        /// Its name.
        name: String,
    },
    /// A tensor is not f32.
    #[error("tensor {name} is {found}, where F32 is taken")]
    Dtype {
        /// Its name.
        name: String,
        /// Its dtype.
        found: String,
    },
    /// A tensor has another shape.
    #[error("tensor {name} has shape {found:?}, the model {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The model's.
        expected: Vec<usize>,
        /// The file's.
        found: Vec<usize>,
    },
    /// The weights file is shorter or longer than its header says.
    #[error("model.safetensors has {found} bytes, its header says {expected}")]
    Truncated {
        /// Bytes that the header implies.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A weight is NaN or infinite.
    #[error("tensor {name} is not finite at element {index}")]
    NonFinite {
        /// Its name.
        name: String,
        /// The first such element.
        index: usize,
    },
}

/// Reads `config.json` and `model.safetensors` of `dir`: the specification (with `sequence_length` the config's
/// `max_position_embeddings`) and the parameters in the order of [`crate::Model::tensors`].
///
/// # Errors
/// See [`ImportError`].
pub fn import(dir: &Path) -> Result<(ModelSpec, Vec<f32>), ImportError> {
    let spec = read_config(&dir.join(CONFIG))?;
    let layout = Layout::new(&spec)?;
    let path = dir.join(WEIGHTS);
    let mut weights = File::open(&path).map_err(|source| ImportError::Io { path: path.clone(), source })?;
    let io = |source| ImportError::Io { path: path.clone(), source };
    let (metadata, body) = read_header(&mut weights, &io)?;
    check_tensors(&layout, &metadata)?;

    let mut params = vec![0.0f32; layout.parameters];
    for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
        let name = &tensor.name;
        let info = metadata.info(name).ok_or_else(|| ImportError::Missing { name: name.clone() })?;
        weights.seek(SeekFrom::Start(body + info.data_offsets.0 as u64)).map_err(io)?;
        let elements = &mut params[range.clone()];
        read_floats(&mut weights, elements).map_err(io)?;
        if let Some(index) = first_non_finite(elements) {
            return Err(ImportError::NonFinite { name: name.clone(), index });
        }
    }
    Ok((spec, params))
}

fn read_config(path: &Path) -> Result<ModelSpec, ImportError> {
    let io = |source| ImportError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let mut text = Vec::new();
    file.take(MAX_CONFIG + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(ImportError::TooLarge { what: CONFIG, found: text.len() as u64, limit: MAX_CONFIG });
    }
    let config: ReadConfig =
        serde_json::from_slice(&text).map_err(|source| ImportError::Parse { path: path.into(), source })?;
    config.spec()
}

/// The header, and where the tensors' bytes start; the file's length is as the header says.
fn read_header(weights: &mut File, io: &impl Fn(io::Error) -> ImportError) -> Result<(Metadata, u64), ImportError> {
    let length = weights.metadata().map_err(io)?.len();
    if length < 8 {
        return Err(ImportError::Truncated { expected: 8, found: length });
    }
    let mut prefix = [0u8; 8];
    weights.read_exact(&mut prefix).map_err(io)?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > MAX_HEADER {
        let what = "the header of model.safetensors";
        return Err(ImportError::TooLarge { what, found: header_length, limit: MAX_HEADER });
    }
    let body = 8 + header_length;
    if body > length {
        return Err(ImportError::Truncated { expected: body, found: length });
    }
    let mut header = vec![0u8; header_length as usize];
    weights.read_exact(&mut header).map_err(io)?;
    let malformed = |reason: String| ImportError::Header { reason };
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
    let expected = body
        .checked_add(metadata.data_len() as u64)
        .ok_or_else(|| malformed("its tensors end beyond any file".into()))?;
    if expected != length {
        return Err(ImportError::Truncated { expected, found: length });
    }
    Ok((metadata, body))
}

/// The header lists exactly the model's tensors, in f32, in their shapes.
fn check_tensors(layout: &Layout, metadata: &Metadata) -> Result<(), ImportError> {
    for tensor in &layout.tensors {
        let name = tensor.name.clone();
        let Some(info) = metadata.info(&name) else { return Err(ImportError::Missing { name }) };
        if info.dtype != Dtype::F32 {
            return Err(ImportError::Dtype { name, found: format!("{:?}", info.dtype) });
        }
        let expected: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        if info.shape != expected {
            return Err(ImportError::Shape { name, expected, found: info.shape.clone() });
        }
    }
    let known: std::collections::BTreeSet<&str> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    match metadata.offset_keys().into_iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => Err(ImportError::Extra { name }),
        None => Ok(()),
    }
}

fn read_floats(file: &mut File, floats: &mut [f32]) -> io::Result<()> {
    let mut bytes = vec![0u8; PIECE.min(floats.len() * 4)];
    for piece in floats.chunks_mut(PIECE / 4) {
        let bytes = &mut bytes[..piece.len() * 4];
        file.read_exact(bytes)?;
        for (float, bytes) in piece.iter_mut().zip(bytes.chunks_exact(4)) {
            *float = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    Ok(())
}
