//! Reading a folder, which may come from anybody.
//!
//! Sizes are settled before anything of their size is allocated: the config is bounded, and the weights must be exactly
//! those of that config before the parameters are.

use std::path::Path;

use templar_manifest::ModelSpec;
use templar_numerics::Kernels;

use super::CONFIG;
use super::config::ReadConfig;
use super::error::ImportError;
use super::json::read_json;
use super::weights::Weights;
use crate::layout::Layout;

/// The longest `config.json` that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Reads `config.json` and the weights of `dir` (`model.safetensors`, or the files of
/// `model.safetensors.index.json`): the specification, with `sequence_length` the config's
/// `max_position_embeddings`, and the parameters in the order of [`crate::Model::tensors`]. Weights in bf16 or
/// f16 are widened, which is exact.
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
