//! The outer step: the aggregated deltas of a window, in record order, give the next checkpoint. A participant
//! that has the deltas merges them and takes the step. A participant that has only the aggregate takes the same
//! step.

use templar_delta::{Aggregate, AggregateError, AggregateHeader, Delta, DeltaHeader, OuterStepError, decode};
use templar_manifest::{Contribution, WindowIndex};

use crate::Recipe;

/// Why an outer step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OuterError {
    /// The aggregate that the record names does not decode.
    #[error("the aggregate of window {window} does not decode")]
    Aggregate {
        /// The window of the record.
        window: WindowIndex,
        /// The decoder's error.
        #[source]
        source: AggregateError,
    },
    /// The step gives a number that is not finite, or the deltas do not fit the model.
    #[error("the outer step of window {window} is invalid")]
    Apply {
        /// The window of the step.
        window: WindowIndex,
        /// The reason.
        #[source]
        source: OuterStepError,
    },
}

impl Recipe {
    /// Decodes the delta of a contribution; its header must name this run, the window and the miner.
    pub fn decode_delta(&self, contribution: &Contribution, bytes: &[u8]) -> Result<Delta, templar_delta::DeltaError> {
        let expected =
            DeltaHeader { run: self.run.hash(), window: contribution.window.0, miner: *contribution.miner.as_bytes() };
        decode(bytes, &self.tensors, &self.compression, &expected)
    }
}

/// Takes the outer step θ ← θ − α · g, where g combines `deltas` in the order of the record (by miner), each tensor
/// clipped to the median norm of the set. Without deltas, and in a null window, θ stays.
///
/// Returns the aggregate, which the record of the window names. `parameters` is a flat vector.
///
/// # Errors
/// A step that gives a number that is not finite; deltas that do not fit the model.
pub fn outer_step(
    recipe: &Recipe,
    window: WindowIndex,
    deltas: &[Delta],
    parameters: &mut [f32],
) -> Result<Aggregate, OuterError> {
    let deltas: Vec<&Delta> = deltas.iter().collect();
    let invalid = |source| OuterError::Apply { window, source };
    let aggregate =
        Aggregate::new(&recipe.tensors, &recipe.compression, recipe.run.hash(), window.0, &deltas).map_err(invalid)?;
    step(recipe, window, &aggregate, parameters)?;
    Ok(aggregate)
}

/// [`outer_step`] without the deltas, from the bytes of the aggregate of `contributors` deltas.
///
/// # Errors
/// The aggregate does not decode, or the step is invalid.
pub fn aggregate_step(
    recipe: &Recipe,
    window: WindowIndex,
    bytes: Vec<u8>,
    contributors: usize,
    parameters: &mut [f32],
) -> Result<(), OuterError> {
    let expected = AggregateHeader { run: recipe.run.hash(), window: window.0, contributors };
    let aggregate = Aggregate::decode(bytes, &recipe.tensors, &recipe.compression, &expected)
        .map_err(|source| OuterError::Aggregate { window, source })?;
    step(recipe, window, &aggregate, parameters)
}

fn step(recipe: &Recipe, window: WindowIndex, aggregate: &Aggregate, parameters: &mut [f32]) -> Result<(), OuterError> {
    if recipe.genesis.is_null(window.0) {
        return Ok(());
    }
    aggregate
        .step(recipe.rule, recipe.outer_learning_rate(window.0), parameters)
        .map(|_| ())
        .map_err(|source| OuterError::Apply { window, source })
}
