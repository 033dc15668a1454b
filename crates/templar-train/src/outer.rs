//! The outer step: aggregated deltas, in record order, into the next checkpoint.

use templar_delta::{ApplyError, Delta, Header, apply, decode};
use templar_manifest::{Contribution, PublicKey, WindowIndex};

use crate::Recipe;

/// Why an outer step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OuterError {
    /// A delta that the record aggregates does not decode.
    #[error("delta of miner {miner} does not decode")]
    Decode {
        /// The miner.
        miner: PublicKey,
        /// Why.
        #[source]
        source: templar_delta::DecodeError,
    },
    /// The step itself.
    #[error("the outer step of window {window} is invalid")]
    Apply {
        /// The window.
        window: WindowIndex,
        /// Why.
        #[source]
        source: ApplyError,
    },
}

impl Recipe {
    /// Decodes the delta of a contribution; its header must name this run, the window and the miner.
    pub fn decode_delta(&self, contribution: &Contribution, bytes: &[u8]) -> Result<Delta, templar_delta::DecodeError> {
        let expected =
            Header { run: self.run.hash(), window: contribution.window.0, miner: *contribution.miner.as_bytes() };
        decode(bytes, &self.tensors, &self.compression, &expected)
    }
}

/// θ ← θ − α · aggregate(deltas), with each tensor of a delta clipped to the median norm of the set. `deltas` are in the
/// order of the record (by miner); without any, θ stays.
pub fn outer_step(
    recipe: &Recipe,
    window: WindowIndex,
    deltas: &[Delta],
    parameters: &mut [f32],
) -> Result<(), OuterError> {
    let deltas: Vec<&Delta> = deltas.iter().collect();
    apply(&recipe.tensors, &deltas, recipe.rule, recipe.outer_learning_rate(window.0), parameters)
        .map(|_| ())
        .map_err(|source| OuterError::Apply { window, source })
}
