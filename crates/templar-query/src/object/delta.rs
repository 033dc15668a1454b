//! A delta: its miner and window, the use of its bytes, and, where the run is known here, the values of every tensor.

use serde::Serialize;
use templar_delta::{DeltaError, DeltaHeader, DeltaSizes, TensorSizes, decode, inspect};
use templar_manifest::{Genesis, Hash, Kind, PublicKey, payload};
use templar_train::Recipe;

use crate::index::HomeIndex;
use crate::manifest_view::{ManifestLink, ObjectKind};

/// The first bytes of every delta.
pub const DELTA_MAGIC: &[u8] = b"TPLDELTA";

/// The bytes of a delta, or of one tensor in it, by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BytesByPurpose {
    /// Fronts: lengths, parameters and levels.
    pub front_bytes: u64,
    /// The positions of the values that are sent; 0 where every value is sent.
    pub index_bytes: u64,
    /// The scales of blocks; 0 where the quantiser has none.
    pub scale_bytes: u64,
    /// The codes of the values.
    pub code_bytes: u64,
}

impl BytesByPurpose {
    fn of(parts: &TensorSizes) -> Self {
        Self {
            front_bytes: parts.front_bytes,
            index_bytes: parts.index_bytes,
            scale_bytes: parts.scale_bytes,
            code_bytes: parts.code_bytes,
        }
    }

    /// The sum of the four.
    pub fn total(&self) -> u64 {
        self.front_bytes + self.index_bytes + self.scale_bytes + self.code_bytes
    }
}

/// The part of a delta that changes one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeltaTensor {
    /// The name of the tensor, as Hugging Face has it.
    pub name: String,
    /// The dimensions of the tensor.
    pub shape: Vec<u64>,
    /// The number of values that are sent.
    pub values: usize,
    /// The Euclidean norm of the values that are sent.
    pub norm: f64,
    /// The bytes of this tensor.
    #[serde(flatten)]
    pub bytes: BytesByPurpose,
}

/// The values of a delta. They are known when the genesis of its run is here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeltaValues {
    /// The number of values that are sent.
    pub values: u64,
    /// The number of parameters of the model.
    pub parameters: usize,
    /// Bits of the delta for each parameter of the model.
    #[serde(skip)]
    pub bits_per_parameter: f64,
    /// The factor by which the delta is smaller than the parameters as 32-bit floats.
    pub ratio_fp32: f64,
    /// The factor by which the delta is smaller than the parameters as 16-bit floats.
    pub ratio_bf16: f64,
    /// The tensors, in the order of the model.
    pub by_tensor: Vec<DeltaTensor>,
}

/// A delta as a person reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeltaView {
    /// The run that the header names.
    pub run: Hash,
    /// The window that the header names.
    pub window: u64,
    /// The miner that the header names.
    pub miner: PublicKey,
    /// The name of the quantiser.
    pub quantiser: String,
    /// The side of a block: a tensor is compressed in blocks of `block_side` x `block_side` values.
    pub block_side: u64,
    /// The number of values that are sent of a full block.
    pub top_k: u64,
    /// The number of tensors.
    pub tensors: usize,
    /// The length of the header in bytes.
    pub header_bytes: u64,
    /// The length of the directory in bytes: one length for each tensor.
    pub directory_bytes: u64,
    /// The bytes of all tensors together.
    #[serde(flatten)]
    pub bytes: BytesByPurpose,
    /// The values; `None` when the genesis of the run is not here.
    #[serde(flatten)]
    pub decoded: Option<DeltaValues>,
}

impl DeltaView {
    /// Reads a delta. When its run is known to the index, the values are decoded too.
    ///
    /// # Errors
    /// The bytes are no delta, or none of this run.
    pub fn of(index: &HomeIndex, raw: &[u8]) -> Result<Self, DeltaError> {
        let (header, parts) = inspect(raw)?;
        let decoded = match recipe(index, &header) {
            Some(recipe) => Some(values(raw, &recipe, &header, &parts)?),
            None => None,
        };
        Ok(Self {
            run: header.run,
            window: header.window,
            miner: PublicKey::from_bytes(header.miner),
            quantiser: parts.quantiser.to_string(),
            block_side: parts.block_side,
            top_k: parts.top_k,
            tensors: parts.tensors.len(),
            header_bytes: parts.header_bytes,
            directory_bytes: parts.directory_bytes,
            bytes: BytesByPurpose::of(&parts.sum()),
            decoded,
        })
    }

    /// The link from the delta to its run.
    pub fn run_link(&self) -> ManifestLink {
        ManifestLink { field: "run".to_owned(), to: self.run, kind: ObjectKind::Manifest(Kind::Genesis) }
    }
}

/// The training configuration of the delta's run, when its genesis is here and usable.
fn recipe(index: &HomeIndex, header: &DeltaHeader) -> Option<Recipe> {
    let genesis: Genesis = payload::decode(index.object(&header.run)?.payload.as_ref()?).ok()?;
    Recipe::new(header.run.into(), genesis).ok()
}

fn values(raw: &[u8], recipe: &Recipe, header: &DeltaHeader, parts: &DeltaSizes) -> Result<DeltaValues, DeltaError> {
    let delta = decode(raw, &recipe.tensors, &recipe.compression, header)?;
    let tensors = recipe.tensors.iter().zip(&parts.tensors).enumerate();
    let by_tensor = tensors.map(|(place, (spec, parts))| DeltaTensor {
        name: spec.name.clone(),
        shape: spec.shape.clone(),
        values: delta.tensor(place).len(),
        norm: delta.norm(place),
        bytes: BytesByPurpose::of(parts),
    });
    let parameters = recipe.parameter_count();
    let bits_per_parameter = raw.len() as f64 * 8.0 / parameters as f64;
    Ok(DeltaValues {
        values: delta.kept(),
        parameters,
        bits_per_parameter,
        ratio_fp32: 32.0 / bits_per_parameter,
        ratio_bf16: 16.0 / bits_per_parameter,
        by_tensor: by_tensor.collect(),
    })
}
