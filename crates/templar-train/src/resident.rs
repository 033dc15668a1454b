//! The state that the inner steps of a window change, in the memory of a device: parameters, gradient and moments.

use std::borrow::Cow;
use std::ops::Range;

use templar_device::{Buffer, Device, DeviceError};
use templar_manifest::proof::ProofDraw;
use templar_manifest::{Hash, WindowIndex};
use templar_model::{Model, Moments, OptimizerStep, StepError};

use crate::helpers::FurtherDevices;
use crate::schedule::learning_rate;
use crate::{Recipe, tensors};

/// The state of a window on its device. It is loaded once, and comes back to the host at the window's end or,
/// piece by piece, into a snapshot.
#[derive(Debug)]
pub(crate) struct Resident {
    model: Model,
    /// The parameters now, flat.
    parameters: Buffer,
    /// The gradient of the step under way, flat.
    gradient: Buffer,
    moments: Moments,
    /// The other devices, which compute micro-batches.
    helpers: FurtherDevices,
}

/// The inputs of an inner step, beside the state that it changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepInputs {
    /// The inner step, from 1.
    pub(crate) step: u32,
    /// The number of inner steps of the run before this one.
    pub(crate) run_step: u64,
    /// The number of the AdamW step, from 1.
    pub(crate) optimizer_step: u64,
    /// The tokens of each micro-batch, in their order.
    pub(crate) micro_batches: Vec<Vec<u32>>,
}

/// The figures of an inner step that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Taken {
    /// Mean loss in nats.
    pub(crate) loss: f64,
    /// Global norm of the gradient before clipping.
    pub(crate) norm: f64,
    /// Learning rate of the step.
    pub(crate) learning_rate: f32,
}

/// The flat vectors that come back from the device at the end of a window.
pub(crate) struct Returned {
    /// θ_start − θ_end: the direction in which the outer step descends is positive.
    pub(crate) pseudo_gradient: Vec<f32>,
    /// First moments after the last step.
    pub(crate) first: Vec<f32>,
    /// Second moments after the last step.
    pub(crate) second: Vec<f32>,
}

impl Resident {
    /// Loads parameters and moments for a window onto the devices of a recipe.
    ///
    /// # Errors
    /// A device fails, or has no memory.
    pub(crate) fn load(
        recipe: &Recipe,
        window: WindowIndex,
        parameters: Cow<'_, [f32]>,
        moments: [Vec<f32>; 2],
    ) -> Result<Self, DeviceError> {
        let model = recipe.model(window);
        let device = model.device();
        let [first, second] = moments;
        let gradient = device.zeros(parameters.len() as u64)?;
        let parameters = device.upload(parameters)?;
        let moments = Moments { first: device.upload(first.into())?, second: device.upload(second.into())? };
        let helpers = FurtherDevices::new(&**device, recipe.helper_models(window))?;
        Ok(Self { parameters, gradient, moments, helpers, model })
    }

    /// A state of zeros, with room for what helpers send if there are any.
    ///
    /// # Errors
    /// The device fails, or has no memory.
    pub(crate) fn blank(model: Model, has_helpers: bool) -> Result<Self, DeviceError> {
        let device = model.device();
        let zeros = || device.zeros(model.parameter_count() as u64);
        let (parameters, gradient) = (zeros()?, zeros()?);
        let moments = Moments { first: zeros()?, second: zeros()? };
        let helpers = if has_helpers { FurtherDevices::waiting(zeros()?) } else { FurtherDevices::default() };
        Ok(Self { parameters, gradient, moments, helpers, model })
    }

    /// Replaces parameters and moments by those of a snapshot.
    pub(crate) fn reload(&mut self, vectors: [Vec<f32>; 3]) -> Result<(), DeviceError> {
        let device = self.model.device();
        let [parameters, first, second] = vectors;
        self.parameters = device.upload(parameters.into())?;
        self.moments = Moments { first: device.upload(first.into())?, second: device.upload(second.into())? };
        self.helpers.outdate();
        Ok(())
    }

    fn device(&self) -> &dyn Device {
        &**self.model.device()
    }

    /// Takes an inner step of a window: the gradient of its micro-batches, then AdamW.
    ///
    /// # Errors
    /// A number that is not finite, a token outside the vocabulary, a device that fails.
    pub(crate) fn take(
        &mut self,
        recipe: &Recipe,
        window: WindowIndex,
        inputs: &StepInputs,
    ) -> Result<Taken, StepError> {
        let tokens = recipe.step_tokens(window) as f64;
        let Self { model, parameters, gradient, moments, helpers } = self;
        let losses = helpers.gather((model, parameters), &inputs.micro_batches, (1.0 / tokens) as f32, gradient)?;
        let learning_rate = learning_rate(&recipe.genesis.inner.schedule, inputs.run_step);
        let at = OptimizerStep { settings: &recipe.adamw, learning_rate, number: inputs.optimizer_step };
        let norm = templar_model::step(model, at, parameters, gradient, moments)?;
        helpers.outdate();
        Ok(Taken { loss: losses / tokens, norm, learning_rate })
    }

    /// Parameters, first moments and second moments as they are now.
    pub(crate) fn vectors_on_host(&self) -> Result<[Vec<f32>; 3], DeviceError> {
        let mut copies = [(); 3].map(|()| vec![0.0; self.model.parameter_count()]);
        for (vector, copy) in self.vectors().into_iter().zip(&mut copies) {
            self.device().read(vector.all(), copy)?;
        }
        Ok(copies)
    }

    /// The vectors that a leaf of the trace hashes, in its order: parameters, first moments, second moments.
    fn vectors(&self) -> [&Buffer; 3] {
        [&self.parameters, &self.moments.first, &self.moments.second]
    }

    /// For each tensor the hash of its elements and moments: a leaf of the trace.
    pub(crate) fn hashes(&self) -> Result<Vec<Hash>, DeviceError> {
        let hashes = self.device().hash(&self.vectors(), self.model.places(), None)?;
        Ok(hashes.into_iter().map(Hash::from_bytes).collect())
    }

    /// The keyed hash of the tensor that was drawn.
    pub(crate) fn claim(&self, draw: &ProofDraw) -> Result<Hash, DeviceError> {
        let places = self.model.places();
        let place = &places[draw.tensor(places.len())];
        let hashes = self.device().hash(&self.vectors(), std::slice::from_ref(place), Some(draw.key().as_bytes()))?;
        Ok(Hash::from_bytes(hashes[0]))
    }

    /// The bytes that a claim or a leaf has the hash of, for the tensor at `place`.
    fn bytes(&self, place: &Range<u64>) -> Result<Vec<u8>, DeviceError> {
        let mut values = vec![0.0; (place.end - place.start) as usize];
        let mut bytes = Vec::with_capacity(values.len() * 12);
        for vector in self.vectors() {
            self.device().read(vector.view(place.clone()), &mut values)?;
            tensors::append_bytes(&mut bytes, &values);
        }
        Ok(bytes)
    }

    /// Of each tensor the bytes that its leaf has the hash of.
    pub(crate) fn tensor_states(&self) -> Result<Vec<Vec<u8>>, DeviceError> {
        self.model.places().iter().map(|place| self.bytes(place)).collect()
    }

    /// Gives parameters, first moments and second moments, in pieces and in order, to `each`.
    pub(crate) fn read_back<E: From<DeviceError>>(
        &self,
        mut each: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        const PIECE: u64 = 16 << 10;
        let mut values = vec![0.0; PIECE as usize];
        for vector in self.vectors() {
            for start in (0..vector.len()).step_by(PIECE as usize) {
                let end = vector.len().min(start + PIECE);
                let piece = &mut values[..(end - start) as usize];
                self.device().read(vector.view(start..end), piece)?;
                each(piece)?;
            }
        }
        Ok(())
    }

    /// Ends the window: gives its change since `start`, and the moments. The device's memory is free when this
    /// returns.
    pub(crate) fn finish(self, start: &[f32]) -> Result<Returned, DeviceError> {
        let Self { model, parameters, mut gradient, moments, helpers } = self;
        let device = std::sync::Arc::clone(model.device());
        // In place of the gradient, which is not needed any more.
        device.write(start, gradient.all_mut())?;
        device.subtract(gradient.all_mut(), parameters.all());
        drop((model, parameters, helpers));
        Ok(Returned {
            pseudo_gradient: device.download(gradient)?,
            first: device.download(moments.first)?,
            second: device.download(moments.second)?,
        })
    }
}
