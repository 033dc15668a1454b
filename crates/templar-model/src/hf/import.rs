//! Reading a folder, which may come from anybody.
//!
//! Sizes are settled before anything of their size is allocated: the config is bounded, and the weights must be exactly
//! those of that config before the parameters are.

use std::path::Path;

use serde_json::Value;
use templar_manifest::{ModelSpec, TensorSpec};
use templar_numerics::Kernels;

use super::CONFIG;
use super::config::ReadConfig;
use super::error::ImportError;
use super::json::read_json;
use super::weights::{Expected, Weights};
use crate::layout::{Layout, MAX_SEQUENCE};

/// The longest `config.json` that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Reads `config.json` and the weights of `dir` (`model.safetensors`, or the files of
/// `model.safetensors.index.json`): the specification and the parameters in the order of
/// [`crate::Model::tensors`]. `sequence_length` is the config's `max_position_embeddings`, or the longest sequence
/// that can be trained where that is less; then `position_limit` states the whole context. Weights in bf16 or f16
/// are widened, which is exact.
///
/// A head that is tied may also be there as a copy with the same bits. Tables of the rotary embedding are passed
/// by, because they follow from the config.
///
/// # Errors
/// See [`ImportError`]; all but a failing disk, a weight that is not finite and a copy that differs are found
/// before a tensor is read.
pub fn import(dir: &Path) -> Result<(ModelSpec, Vec<f32>), ImportError> {
    let mut spec = read_config(dir)?.trainable()?.clone();
    if spec.sequence_length > MAX_SEQUENCE {
        spec.position_limit = Some(spec.sequence_length);
        spec.sequence_length = MAX_SEQUENCE;
    }
    let layout = Layout::new(&spec)?;
    let copy = spec.tied_embeddings.then(|| head(&spec));
    let mut weights = Weights::open(dir, &Expected { tensors: &layout.tensors, copy: copy.as_ref() })?;

    let mut params = vec![0.0f32; layout.parameters];
    for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
        read_finite(&mut weights, &tensor.name, &mut params[range.clone()])?;
    }
    if let Some(copy) = copy.filter(|copy| weights.has(&copy.name)) {
        let embedding = &params[layout.embedding.start as usize..layout.embedding.end as usize];
        if let Some(index) = weights.first_difference(&copy.name, embedding)? {
            return Err(ImportError::TiedHeadDiffers { index });
        }
    }
    Ok((spec, params))
}

/// The config of a folder.
pub(super) fn read_config(dir: &Path) -> Result<ReadConfig, ImportError> {
    let path = dir.join(CONFIG);
    let config: Value = read_json(&path, CONFIG, MAX_CONFIG)?;
    ReadConfig::new(&config, |source| ImportError::Parse { path: path.clone(), source })
}

/// The output head, `[vocab, hidden]`.
pub(super) fn head(spec: &ModelSpec) -> TensorSpec {
    TensorSpec::new("lm_head.weight", [u64::from(spec.vocab_size), u64::from(spec.hidden_size)])
}

/// Reads a tensor, every element of which must be finite.
pub(super) fn read_finite(weights: &mut Weights, name: &str, elements: &mut [f32]) -> Result<(), ImportError> {
    weights.read(name, elements)?;
    match Kernels::best().first_non_finite(elements) {
        Some(index) => Err(ImportError::NonFinite { name: name.to_owned(), index }),
        None => Ok(()),
    }
}
