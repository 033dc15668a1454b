//! The outer step of a window, from the deltas that the record aggregates.

use templar_manifest::{Checkpoint, CheckpointId, Contribution, Outcome, Signed, Verdict, WindowIndex, payload};
use templar_train::tensors::checkpoint_of;
use templar_train::{evaluate, outer_step};

use crate::evidence::{Evidence, EvidenceError, chain};

/// The model after a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Its parameters, flat.
    pub parameters: Vec<f32>,
    /// Its manifest.
    pub checkpoint: Checkpoint,
    /// Its id.
    pub id: CheckpointId,
    /// Its mean loss on the held-out pages, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
}

/// Mean loss of `parameters` on the held-out pages, in 1e-9 nats.
pub fn held_out_loss(evidence: &Evidence<'_>, parameters: &[f32]) -> Result<u64, EvidenceError> {
    let pages = evidence.held_out_pages()?;
    evaluate(&mut evidence.recipe.model(), parameters, &pages)
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
    outer_step(recipe, window, &deltas, &mut parameters)
        .map_err(|error| EvidenceError::Broken(format!("outer step: {}", chain(&error))))?;
    let checkpoint = checkpoint_of(recipe.run, window.next(), &recipe.tensors, &parameters);
    let id = payload::id_of(&checkpoint).into();
    let held_out_loss_nanonats = held_out_loss(evidence, &parameters)?;
    Ok(Applied { parameters, checkpoint, id, held_out_loss_nanonats })
}
