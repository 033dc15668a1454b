//! Tries deltas on the pages of a window: the losses before and after a trial step, and the hash of all hidden
//! states on the way.

use std::borrow::Cow;

use templar_delta::Delta;
use templar_device::Buffer;
use templar_manifest::proof::hidden_states;
use templar_manifest::{Hash, Losses};
use templar_model::Model;
use templar_protocol::EvaluationTask;
use templar_train::{evaluate_with_states, trial};

use crate::inputs::{AuditInputs, InputError, chain};

/// Measures contributions of one window, one after the other.
pub(crate) struct Evaluator<'a> {
    inputs: &'a AuditInputs<'a>,
    parameters: &'a [f32],
    /// The model with the parameters before the window; made for the first contribution.
    model: Option<(Model, Buffer)>,
    unassigned: Option<Unassigned>,
}

/// The unassigned pages that were measured last.
struct Unassigned {
    /// Their numbers.
    pages: Vec<u64>,
    /// Their tokens.
    tokens: Vec<Vec<u32>>,
    /// Loss and hash of the hidden states before any trial step.
    before: (u64, Hash),
}

impl<'a> Evaluator<'a> {
    /// An evaluator of contributions to a window that starts from `parameters`.
    pub(crate) fn new(inputs: &'a AuditInputs<'a>, parameters: &'a [f32]) -> Self {
        Self { inputs, parameters, model: None, unassigned: None }
    }

    /// The losses of a delta, and the hash of all hidden states. `None` where the trial step is not finite.
    ///
    /// # Errors
    /// The dataset is not here, or the device fails.
    pub(crate) fn measure(
        &mut self,
        task: &EvaluationTask,
        delta: &Delta,
    ) -> Result<Option<(Losses, Hash)>, InputError> {
        let recipe = self.inputs.recipe;
        let Ok(tried) = trial(recipe, task.window.0, delta, self.parameters) else { return Ok(None) };
        let upload = |values: Cow<'_, [f32]>| {
            recipe.device.upload(values).map_err(|error| InputError::Machine(format!("evaluation: {}", chain(&error))))
        };
        let (model, before) = match &mut self.model {
            Some(known) => known,
            none => none.insert((recipe.model(task.window), upload(self.parameters.into())?)),
        };
        let mut pass = |parameters: &Buffer, pages: &[Vec<u32>]| {
            evaluate_with_states(model, parameters, pages).map_err(|error| InputError::evaluation("evaluation", &error))
        };
        let unassigned = match &mut self.unassigned {
            Some(known) if known.pages == task.unassigned => known,
            other => {
                let tokens = self.inputs.pages(task.window, &task.unassigned)?;
                let before = pass(before, &tokens)?;
                other.insert(Unassigned { pages: task.unassigned.clone(), tokens, before })
            }
        };
        let assigned = self.inputs.pages(task.window, &task.assigned)?;
        let tried = upload(tried.into())?;
        let (assigned_before, assigned_after) = (pass(before, &assigned)?, pass(&tried, &assigned)?);
        let (unassigned_before, unassigned_after) = (unassigned.before, pass(&tried, &unassigned.tokens)?);
        let losses = Losses {
            assigned_before_nanonats: assigned_before.0,
            assigned_after_nanonats: assigned_after.0,
            unassigned_before_nanonats: unassigned_before.0,
            unassigned_after_nanonats: unassigned_after.0,
        };
        let states = hidden_states(&[assigned_before.1, assigned_after.1, unassigned_before.1, unassigned_after.1]);
        Ok(Some((losses, states)))
    }
}
