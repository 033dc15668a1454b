//! Losses as integers, the form in which validators measure them and records state them.

use templar_delta::{Delta, OuterStepError, apply_trial};
use templar_device::Buffer;
use templar_manifest::Hash;
use templar_model::{Model, StepError};

use crate::Recipe;
use crate::recheck::page_again;

/// A loss in nats as an integer of 1e-9 nats: rounded half away from zero, 0 below zero, `u64::MAX` for what is not a
/// number or too large.
pub fn nanonats(loss: f64) -> u64 {
    // `as` saturates; NaN would become 0, the best loss of all.
    if loss.is_nan() { u64::MAX } else { (loss * 1e9).round() as u64 }
}

/// Such an integer in nats, to be shown. Nothing that is decided goes this way back.
pub fn nats(nanonats: u64) -> f64 {
    nanonats as f64 / 1e9
}

/// Mean loss of `parameters` over whole pages, in 1e-9 nats: the f64 sum of the tokens' losses in order,
/// divided once. Pages go through the model one at a time, so the result does not depend on how they are
/// grouped. `parameters` are in the memory of the model's device.
///
/// # Errors
/// Pages that do not fit the model, a loss that is not finite, a device that fails or differs from the CPU.
pub fn evaluate(model: &mut Model, parameters: &Buffer, pages: &[Vec<u32>]) -> Result<u64, StepError> {
    evaluate_each(model, parameters, pages, |_| Ok(()))
}

/// The loss of [`evaluate`], and the BLAKE3 hash of the final hidden states of every page in order, as
/// little-endian f32. Only who puts the pages through the model knows it.
///
/// # Errors
/// As of [`evaluate`].
pub fn evaluate_with_states(
    model: &mut Model,
    parameters: &Buffer,
    pages: &[Vec<u32>],
) -> Result<(u64, Hash), StepError> {
    let mut hasher = blake3::Hasher::new();
    let loss = evaluate_each(model, parameters, pages, |model| {
        let bytes: Vec<u8> = model.hidden_states()?.into_iter().flat_map(f32::to_le_bytes).collect();
        hasher.update(&bytes);
        Ok(())
    })?;
    Ok((loss, hasher.finalize().into()))
}

fn evaluate_each(
    model: &mut Model,
    parameters: &Buffer,
    pages: &[Vec<u32>],
    mut seen: impl FnMut(&Model) -> Result<(), StepError>,
) -> Result<u64, StepError> {
    let mut sum = 0.0;
    let mut tokens = 0u64;
    for page in pages {
        let loss = model.loss(parameters, page)?;
        page_again(model, parameters, page, loss)?;
        sum += loss;
        tokens += page.len() as u64 - 1;
        seen(model)?;
    }
    Ok(nanonats(if tokens == 0 { 0.0 } else { sum / tokens as f64 }))
}

/// The parameters after a trial step on one delta: a fraction of the window's outer step.
///
/// # Errors
/// Where the step gives a number that is not finite; the tensor is named.
pub fn trial(recipe: &Recipe, window: u64, delta: &Delta, parameters: &[f32]) -> Result<Vec<f32>, OuterStepError> {
    let fraction = f64::from(recipe.genesis.gauntlet.trial_step_ppm) / 1e6;
    let step = (f64::from(recipe.genesis.outer_learning_rate_ppm(window)) / 1e6 * fraction) as f32;
    let mut parameters = parameters.to_vec();
    apply_trial(&recipe.tensors, delta, step, &mut parameters)?;
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::nanonats;

    #[test]
    fn losses_become_integers() {
        assert_eq!(nanonats(7.624_618_986_159_4), 7_624_618_986);
        assert_eq!(nanonats(0.0), 0);
        assert_eq!(nanonats(-1.0), 0);
        assert_eq!(nanonats(f64::NAN), u64::MAX);
        assert_eq!(nanonats(f64::INFINITY), u64::MAX);
    }
}
