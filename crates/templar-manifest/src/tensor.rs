//! The name and shape of a tensor, as the model lays it out, the delta compresses it and a checkpoint lists it.

use serde::{Deserialize, Serialize};

/// A named tensor of 32-bit floats, row-major. The order of a list of them is the order of the flat parameter vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// The Hugging Face name, for example `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Sizes of the dimensions, outermost first; one or two of them, none zero.
    pub shape: Vec<u64>,
}

impl TensorSpec {
    /// A tensor of the given name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<u64>>) -> Self {
        Self { name: name.into(), shape: shape.into() }
    }

    /// How many elements the tensor has, or `None` where the product does not fit.
    pub fn checked_elements(&self) -> Option<usize> {
        let mut product = 1u64;
        for &dimension in &self.shape {
            product = product.checked_mul(dimension)?;
        }
        usize::try_from(product).ok()
    }

    /// How many elements the tensor has.
    ///
    /// # Panics
    /// When the product of the dimensions does not fit; shapes from a peer are checked with
    /// [`TensorSpec::checked_elements`] first.
    pub fn elements(&self) -> usize {
        self.checked_elements().expect("the shape of a tensor was checked when it was decoded")
    }
}
