//! The outer step of a window: from the deltas that the record aggregates, or from the aggregate, the one blob
//! into which they are merged.

use templar_manifest::{
    BlobId, Checkpoint, Contribution, Outcome, Signed, Verdict, WindowIndex, WindowRecord, payload,
};
use templar_protocol::Stepped;
use templar_train::tensors::checkpoint_of;
use templar_train::{aggregate_step, evaluate, outer_step};

use crate::inputs::{AuditInputs, InputError, chain};

/// The result of the outer step of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The parameters after the step, flat.
    pub parameters: Vec<f32>,
    /// The manifest of these parameters.
    pub checkpoint: Checkpoint,
    /// The aggregate: the blob into which the deltas are merged, and which the record names.
    pub aggregate: Vec<u8>,
    /// The numbers of the step that the record states.
    pub stepped: Stepped,
}

/// Mean loss of `parameters` on the held-out pages, in 1e-9 nats. The window decides the sequence length.
pub fn held_out_loss(inputs: &AuditInputs<'_>, window: WindowIndex, parameters: &[f32]) -> Result<u64, InputError> {
    let pages = inputs.held_out_pages(window)?;
    let mut model = inputs.recipe.model(window);
    let uploaded = inputs.recipe.device.upload(parameters.into());
    let parameters = uploaded.map_err(|error| InputError::Machine(format!("held-out loss: {}", chain(&error))))?;
    evaluate(&mut model, &parameters, &pages).map_err(|error| InputError::evaluation("held-out loss", &error))
}

/// Decodes the deltas that the record aggregates, in its order, and takes the outer step from `parameters`.
///
/// # Errors
/// [`InputError`] where a delta is missing, damaged or does not decode, or the step is invalid.
pub fn apply(
    inputs: &AuditInputs<'_>,
    window: WindowIndex,
    outcomes: &[Outcome],
    contributions: &[Signed<Contribution>],
    mut parameters: Vec<f32>,
) -> Result<Applied, InputError> {
    let recipe = inputs.recipe;
    let mut deltas = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated) {
        let contribution = contributions
            .iter()
            .find(|contribution| contribution.id() == outcome.contribution.hash())
            .ok_or_else(|| InputError::Unavailable { what: format!("contribution {}", outcome.contribution) })?
            .payload();
        let bytes = inputs.miner_blob("delta", &contribution.delta.hash(), contribution.delta_bytes)?;
        let delta = recipe
            .decode_delta(contribution, &bytes)
            .map_err(|error| InputError::Broken(format!("delta {}: {}", contribution.delta, chain(&error))))?;
        deltas.push(delta);
    }
    let aggregate = outer_step(recipe, window, &deltas, &mut parameters)
        .map_err(|error| InputError::Broken(format!("outer step: {}", chain(&error))))?
        .into_bytes();
    let checkpoint = checkpoint_of(recipe.run, window.next(), &recipe.tensors, &parameters);
    let stepped = Stepped {
        aggregate: BlobId::of(&aggregate),
        aggregate_bytes: aggregate.len() as u64,
        checkpoint: payload::id_of(&checkpoint).into(),
        held_out_loss_nanonats: held_out_loss(inputs, window, &parameters)?,
    };
    Ok(Applied { parameters, checkpoint, aggregate, stepped })
}

/// Computes the model after a closed window from its aggregate alone. It needs neither contributions nor deltas, and
/// measures no loss. The caller compares the id of the checkpoint with the one in the record.
///
/// # Errors
/// [`InputError`] where the aggregate is missing, damaged or does not decode, or the step is invalid.
pub fn apply_aggregate(
    inputs: &AuditInputs<'_>,
    record: &WindowRecord,
    mut parameters: Vec<f32>,
) -> Result<(Vec<f32>, Checkpoint), InputError> {
    let (recipe, record) = (inputs.recipe, &record.body);
    let bytes = inputs.blob("aggregate", &record.aggregate.hash(), record.aggregate_bytes)?;
    aggregate_step(recipe, record.window, bytes, record.aggregated(), &mut parameters)
        .map_err(|error| InputError::Broken(chain(&error)))?;
    let checkpoint = checkpoint_of(recipe.run, record.window.next(), &recipe.tensors, &parameters);
    Ok((parameters, checkpoint))
}
