//! The outer step of a window, from the deltas that the record aggregates, or from the one blob that they are merged to.

use templar_manifest::{
    BlobId, Checkpoint, Contribution, Outcome, Signed, Verdict, WindowIndex, WindowRecord, payload,
};
use templar_protocol::Stepped;
use templar_train::tensors::checkpoint_of;
use templar_train::{aggregate_step, evaluate, outer_step};

use crate::evidence::{Evidence, EvidenceError, chain};

/// The outer step of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The parameters after it, flat.
    pub parameters: Vec<f32>,
    /// Their manifest.
    pub checkpoint: Checkpoint,
    /// The aggregated deltas, merged: the blob that the record names.
    pub aggregate: Vec<u8>,
    /// What the record says of it.
    pub stepped: Stepped,
}

/// Mean loss of `parameters` on the held-out pages, in 1e-9 nats, in the context of a window.
pub fn held_out_loss(evidence: &Evidence<'_>, window: WindowIndex, parameters: &[f32]) -> Result<u64, EvidenceError> {
    let pages = evidence.held_out_pages(window)?;
    evaluate(&mut evidence.recipe.model(window), parameters, &pages)
        .map_err(|error| EvidenceError::Broken(format!("held-out loss: {}", chain(&error))))
}

/// Decodes the aggregated deltas in the order of the record, and takes the outer step from `parameters`.
pub fn apply(
    evidence: &Evidence<'_>,
    window: WindowIndex,
    outcomes: &[Outcome],
    contributions: &[Signed<Contribution>],
    mut parameters: Vec<f32>,
) -> Result<Applied, EvidenceError> {
    let recipe = evidence.recipe;
    let mut deltas = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated) {
        let contribution = contributions
            .iter()
            .find(|contribution| contribution.id() == outcome.contribution.hash())
            .ok_or_else(|| EvidenceError::Unavailable { what: format!("contribution {}", outcome.contribution) })?
            .payload();
        let bytes = evidence.blob("delta", &contribution.delta.hash(), contribution.delta_bytes)?;
        let delta = recipe
            .decode_delta(contribution, &bytes)
            .map_err(|error| EvidenceError::Broken(format!("delta {}: {}", contribution.delta, chain(&error))))?;
        deltas.push(delta);
    }
    let aggregate = outer_step(recipe, window, &deltas, &mut parameters)
        .map_err(|error| EvidenceError::Broken(format!("outer step: {}", chain(&error))))?
        .into_bytes();
    let checkpoint = checkpoint_of(recipe.run, window.next(), &recipe.tensors, &parameters);
    let stepped = Stepped {
        aggregate: BlobId::of(&aggregate),
        aggregate_bytes: aggregate.len() as u64,
        checkpoint: payload::id_of(&checkpoint).into(),
        held_out_loss_nanonats: held_out_loss(evidence, window, &parameters)?,
    };
    Ok(Applied { parameters, checkpoint, aggregate, stepped })
}

/// The model after a closed window by its aggregate alone: neither contributions nor deltas are needed, and no loss is
/// measured. Whoever asks compares the id with the record's checkpoint.
pub fn apply_aggregate(
    evidence: &Evidence<'_>,
    record: &WindowRecord,
    mut parameters: Vec<f32>,
) -> Result<(Vec<f32>, Checkpoint), EvidenceError> {
    let recipe = evidence.recipe;
    let bytes = evidence.blob("aggregate", &record.aggregate.hash(), record.aggregate_bytes)?;
    aggregate_step(recipe, record.window, bytes, record.aggregated(), &mut parameters)
        .map_err(|error| EvidenceError::Broken(chain(&error)))?;
    let checkpoint = checkpoint_of(recipe.run, record.window.next(), &recipe.tensors, &parameters);
    Ok((parameters, checkpoint))
}
