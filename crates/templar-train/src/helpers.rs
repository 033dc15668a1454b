//! Further devices of a node, which compute micro-batches of a step while the first device computes its own.
//!
//! The gradient of each micro-batch begins at +0, and the step's gradient is their sum in order. So it does not matter
//! which device computes which of them, only that the first device adds them in their order.

use std::sync::Arc;

use templar_device::{Buffer, Device, DeviceError};
use templar_model::{Model, StepError};

/// A device with a copy of the parameters and room for the gradient of one micro-batch.
#[derive(Debug)]
pub(crate) struct FurtherDevice {
    model: Model,
    parameters: Buffer,
    gradient: Buffer,
    /// The gradient of the last micro-batch, on the host.
    found: Vec<f32>,
}

impl FurtherDevice {
    /// A helper without parameters.
    ///
    /// # Errors
    /// The device fails, or has no memory.
    pub(crate) fn new(model: Model) -> Result<Self, DeviceError> {
        let device = Arc::clone(model.device());
        let [parameters, gradient] =
            [device.zeros(model.parameter_count() as u64)?, device.zeros(model.parameter_count() as u64)?];
        Ok(Self { parameters, gradient, found: Vec::new(), model })
    }

    /// Computes the gradient of a micro-batch into `found`, and gives the sum of its losses.
    pub(crate) fn micro_batch(&mut self, tokens: &[u32], grad_scale: f32) -> Result<f64, StepError> {
        let loss = self.model.forward_backward(&self.parameters, tokens, grad_scale, &mut self.gradient)?;
        self.found.resize(self.gradient.len() as usize, 0.0);
        self.model.device().read(self.gradient.all(), &mut self.found)?;
        Ok(loss)
    }
}

/// All helpers of a window.
#[derive(Debug, Default)]
pub(crate) struct FurtherDevices {
    all: Vec<FurtherDevice>,
    /// Where a helper's gradient lies on the first device, to be added.
    arrived: Buffer,
    /// Whether the helpers have the parameters as they are now.
    are_current: bool,
}

impl FurtherDevices {
    /// A helper for each model, beside `first`.
    ///
    /// # Errors
    /// A device fails, or has no memory.
    pub(crate) fn new(first: &dyn Device, models: Vec<Model>) -> Result<Self, DeviceError> {
        let parameters = models.first().map_or(0, Model::parameter_count);
        let arrived = if parameters == 0 { Buffer::default() } else { first.zeros(parameters as u64)? };
        let all = models.into_iter().map(FurtherDevice::new).collect::<Result<_, _>>()?;
        Ok(Self { all, arrived, are_current: false })
    }

    /// No helper, but the room for what one sends.
    pub(crate) fn waiting(arrived: Buffer) -> Self {
        Self { arrived, ..Self::default() }
    }

    /// Says that the parameters have changed.
    pub(crate) fn outdate(&mut self) {
        self.are_current = false;
    }

    /// Gives every helper the parameters of the first device.
    fn update(&mut self, first: &dyn Device, parameters: &Buffer) -> Result<(), DeviceError> {
        if self.all.is_empty() || self.are_current {
            return Ok(());
        }
        let mut values = vec![0.0; parameters.len() as usize];
        first.read(parameters.all(), &mut values)?;
        for helper in &mut self.all {
            helper.model.device().write(&values, helper.parameters.all_mut())?;
        }
        self.are_current = true;
        Ok(())
    }

    /// Has the helpers compute the gradients of `micro_batches`, one each, while `own` runs here.
    fn beside<T>(
        &mut self,
        micro_batches: &[Vec<u32>],
        grad_scale: f32,
        own: impl FnOnce() -> T,
    ) -> (T, Vec<Result<f64, StepError>>) {
        let mut losses: Vec<Option<Result<f64, StepError>>> = micro_batches.iter().map(|_| None).collect();
        let own = rayon::in_place_scope(|scope| {
            for ((helper, tokens), loss) in self.all.iter_mut().zip(micro_batches).zip(&mut losses) {
                scope.spawn(move |_| *loss = Some(helper.micro_batch(tokens, grad_scale)));
            }
            own()
        });
        (own, losses.into_iter().map(|loss| loss.expect("the scope waits for every helper")).collect())
    }

    /// Gathers the gradient of a step in `gradient`, a buffer of the model's device, and gives the sum of the losses.
    ///
    /// # Errors
    /// The first micro-batch, in their order, that has no valid result; a device that fails.
    pub(crate) fn gather(
        &mut self,
        (model, parameters): (&mut Model, &Buffer),
        micro_batches: &[Vec<u32>],
        grad_scale: f32,
        gradient: &mut Buffer,
    ) -> Result<f64, StepError> {
        let device = Arc::clone(model.device());
        self.update(&*device, parameters)?;
        let mut sum = 0.0;
        for (round, batches) in micro_batches.chunks(1 + self.all.len()).enumerate() {
            let own = || match round {
                0 => model.forward_backward(parameters, &batches[0], grad_scale, gradient),
                _ => model.forward_backward_accumulate(parameters, &batches[0], grad_scale, gradient),
            };
            let (own, others) = self.beside(&batches[1..], grad_scale, own);
            sum += own?;
            for (helper, loss) in self.all.iter().zip(others) {
                sum += loss?;
                device.write(&helper.found, self.arrived.all_mut())?;
                device.add(gradient.all_mut(), self.arrived.all());
            }
        }
        Ok(sum)
    }
}
