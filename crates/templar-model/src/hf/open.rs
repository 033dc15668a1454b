//! Opening a folder to generate with it: the architecture that is trained, and its relatives in candle.
//!
//! candle applies a sliding window to a prompt only, and one token too wide. So a model with a window reads no more
//! tokens than its window, where the window changes nothing.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;
use templar_manifest::{ModelSpec, RopeScaling, TensorSpec};

use super::CONFIG;
use super::config::{Family, ReadConfig};
use super::error::ImportError;
use super::import::{head, import, read_config, read_finite};
use super::json::read_json;
use super::weights::{Expected, Weights};
use crate::generate::{GenerateError, LanguageModel, Relative, Tensors};
use crate::layout::{Layout, MAX_SEQUENCE};

/// The longest JSON file that is read, in bytes.
const MAX_JSON: u64 = 1 << 20;
const GENERATION: &str = "generation_config.json";

/// A folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFolderError {
    /// The folder is refused.
    #[error(transparent)]
    Folder(#[from] ImportError),
    /// The model cannot be loaded.
    #[error(transparent)]
    Model(#[from] GenerateError),
}

/// A model that was read from a folder.
#[derive(Debug)]
pub struct OpenedModel {
    /// The model.
    pub model: LanguageModel,
    /// The tokens that end a text, as `generation_config.json` or `config.json` lists them. The first is the main
    /// one.
    pub ends: Vec<u32>,
    /// The token that stands before a text, where the architecture has one and `config.json` names it.
    pub start: Option<u32>,
}

/// The tokens around the texts of a folder's model: those that end a text, and the one that stands before it, as
/// [`OpenedModel`] has them.
///
/// # Errors
/// `config.json` or `generation_config.json` cannot be read, or the architecture is not known.
pub fn ends_and_start(dir: &Path) -> Result<(Vec<u32>, Option<u32>), ImportError> {
    let config = read_config(dir)?;
    Ok((ends(dir)?, start(dir, config.family)?))
}

/// Reads the model of a folder, to generate with it.
///
/// # Errors
/// See [`OpenFolderError`]. A model that cannot be taken is refused before a tensor is read.
pub fn open(dir: &Path) -> Result<OpenedModel, OpenFolderError> {
    let config = read_config(dir)?;
    let (ends, start) = (ends(dir)?, start(dir, config.family)?);
    let relative = match config.family {
        Family::Llama => None,
        Family::Mistral => config.window.map(|_| Relative::Mistral),
        Family::Qwen2 => Some(Relative::Qwen2),
        Family::Qwen3 => Some(Relative::Qwen3),
    };
    let model = match relative {
        None => {
            let (spec, params) = import(dir)?;
            LanguageModel::new(&spec, &params)?
        }
        Some(relative) => self::relative(dir, relative, &config)?,
    };
    Ok(OpenedModel { model, ends, start })
}

/// A scaling of the rotary embedding, as configs write it.
fn scaling_in_words(scaling: &RopeScaling) -> String {
    let factor = |ppm: &u32| f64::from(*ppm) / 1e6;
    match scaling {
        RopeScaling::Linear { factor_ppm } => format!("linear by {}", factor(factor_ppm)),
        RopeScaling::Llama3 { factor_ppm, .. } => format!("llama3 by {}", factor(factor_ppm)),
    }
}

fn relative(dir: &Path, relative: Relative, config: &ReadConfig) -> Result<LanguageModel, OpenFolderError> {
    let mut spec = config.spec.clone();
    spec.sequence_length = spec.sequence_length.min(config.window.unwrap_or(MAX_SEQUENCE)).min(MAX_SEQUENCE);
    let unsupported = |what, found: String| Err(ImportError::Unsupported { what, found }.into());
    if let Some(scaling) = &spec.rope_scaling {
        return unsupported("rope_scaling", format!("{} in this architecture", scaling_in_words(scaling)));
    }
    if relative == Relative::Qwen2
        && let Some(width) = spec.head_size
    {
        return unsupported("head_dim", format!("{width} in this architecture"));
    }
    let expected = tensors(relative, &spec)?;
    let copy = spec.tied_embeddings.then(|| head(&spec));
    let mut weights = Weights::open(dir, &Expected { tensors: &expected, copy: copy.as_ref() })?;
    let mut read = Tensors::new();
    for tensor in &expected {
        let mut elements = vec![0.0f32; tensor.elements()];
        read_finite(&mut weights, &tensor.name, &mut elements)?;
        if let Some(copy) = copy.as_ref().filter(|copy| tensor.name == EMBEDDING && weights.has(&copy.name))
            && let Some(index) = weights.first_difference(&copy.name, &elements)?
        {
            return Err(ImportError::TiedHeadDiffers { index }.into());
        }
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        let tensor_read = Tensor::from_vec(elements, shape, &Device::Cpu).map_err(GenerateError::from)?;
        read.insert(tensor.name.clone(), tensor_read);
    }
    Ok(LanguageModel::relative(relative, &spec, read)?)
}

const EMBEDDING: &str = "model.embed_tokens.weight";

/// The tensors of a relative: those of the trained architecture, and its own.
fn tensors(relative: Relative, spec: &ModelSpec) -> Result<Vec<TensorSpec>, ImportError> {
    let mut tensors = Layout::new(spec)?.tensors;
    let width = u64::from(spec.head_width());
    let (queries, keys) = (u64::from(spec.heads) * width, u64::from(spec.kv_heads) * width);
    let own: &[(&str, u64)] = match relative {
        Relative::Mistral => &[],
        Relative::Qwen2 => &[("q_proj.bias", queries), ("k_proj.bias", keys), ("v_proj.bias", keys)],
        Relative::Qwen3 => &[("q_norm.weight", width), ("k_norm.weight", width)],
    };
    for layer in 0..spec.layers {
        tensors.extend(
            own.iter().map(|(name, size)| TensorSpec::new(format!("model.layers.{layer}.self_attn.{name}"), [*size])),
        );
    }
    Ok(tensors)
}

/// The token that stands before a text: Llama and Mistral have one, and Qwen's `bos_token_id` is never put there.
fn start(dir: &Path, family: Family) -> Result<Option<u32>, ImportError> {
    if !matches!(family, Family::Llama | Family::Mistral) {
        return Ok(None);
    }
    let config: Value = read_json(&dir.join(CONFIG), CONFIG, MAX_JSON)?;
    Ok(config["bos_token_id"].as_u64().and_then(|id| u32::try_from(id).ok()))
}

/// The tokens that end a text: `eos_token_id`, one or a list.
fn ends(dir: &Path) -> Result<Vec<u32>, ImportError> {
    let ids = |value: &Value| -> Vec<u32> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match value {
            Value::Array(list) => list.iter().filter_map(id).collect(),
            one => id(one).into_iter().collect(),
        }
    };
    if dir.join(GENERATION).exists() {
        let generation: Value = read_json(&dir.join(GENERATION), GENERATION, MAX_JSON)?;
        let found = ids(&generation["eos_token_id"]);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let config: Value = read_json(&dir.join(CONFIG), CONFIG, MAX_JSON)?;
    Ok(ids(&config["eos_token_id"]))
}
