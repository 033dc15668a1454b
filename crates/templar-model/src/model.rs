//! The model as its callers see it: sizes, tensors, first parameters, losses, gradients, logits.
//!
//! Parameters and gradients belong to the caller, as buffers of the model's device. A [`Model`] holds the layout, the
//! rotary tables and the buffers of one micro-batch. Every length and token id is checked before any work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use templar_device::{Buffer, Device, DeviceError, RotaryBuffers, RotaryTables};
use templar_manifest::{ModelSpec, TensorSpec};

use crate::activations::{Activations, BatchShape, Gradients, Keep};
use crate::gradient::{Rooms, StepGradient};
use crate::layout::{ConfigError, Layout};
use crate::lm_head::{self, LmHeadGradients, LmHeadInputs, LmHeadOutputs};
use crate::pass::ModelPass;
use crate::{backward, forward, init, linear};

/// Why a step cannot be computed, or has no valid result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// A flat vector is not the model's.
    #[error("{what} has {found} elements, the model {expected}")]
    Length {
        /// The vector whose length is wrong.
        what: &'static str,
        /// Parameters of the model.
        expected: usize,
        /// Elements of the vector that was passed.
        found: usize,
    },
    /// A micro-batch is empty or not a whole number of sequences.
    #[error("{found} tokens are not one or more sequences of {width}")]
    Batch {
        /// Number of tokens passed.
        found: usize,
        /// Tokens that a sequence takes: one more than it predicts.
        width: usize,
    },
    /// A sequence is empty or longer than the model's positions.
    #[error("a sequence of {found} tokens, where the model takes 1 to {positions}")]
    Sequence {
        /// Number of tokens passed.
        found: usize,
        /// The number of positions of the model.
        positions: usize,
    },
    /// A token id is not in the vocabulary.
    #[error("token {token} at {index} is outside the vocabulary of {vocab_size}")]
    Token {
        /// Place in the tokens passed.
        index: usize,
        /// The id that was passed.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The activations of a micro-batch cannot be addressed.
    #[error("a micro-batch of {sequences} sequences is more than this machine can address")]
    TooLarge {
        /// Number of sequences passed.
        sequences: usize,
    },
    /// A loss is NaN or infinite, so the step is invalid.
    #[error("the loss of sequence {sequence} at position {position} is not finite")]
    NonFiniteLoss {
        /// Sequence of the micro-batch.
        sequence: usize,
        /// Position in the sequence, from 0.
        position: usize,
    },
    /// A gradient is NaN or infinite, so the step is invalid.
    #[error("the gradient of {tensor} is not finite at element {index}")]
    NonFiniteGradient {
        /// Name of the first such tensor.
        tensor: String,
        /// Its first such element.
        index: usize,
    },
    /// A setting of the optimizer is out of its range.
    #[error("{setting} is out of range")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
    },
    /// The device fails, or has no memory for the step.
    #[error("the step cannot be computed")]
    Device(#[from] DeviceError),
}

/// Whether a model recomputes until it is told otherwise.
static RECOMPUTE: AtomicBool = AtomicBool::new(false);

/// Sets for the whole process whether models made from now on start with [`Model::recompute`] on. No result
/// depends on it; the program that configures the process calls it.
pub fn recompute_by_default(recompute: bool) {
    RECOMPUTE.store(recompute, Ordering::Relaxed);
}

/// The activations that a model keeps for its backward pass.
fn kept(recompute: bool) -> Keep {
    if recompute { Keep::Inputs } else { Keep::Everything }
}

/// A transformer of a given specification on a device, with the buffers to compute it.
#[derive(Debug)]
pub struct Model {
    device: Arc<dyn Device>,
    spec: ModelSpec,
    layout: Layout,
    /// The rotary tables, once a pass has needed them.
    tables: Option<RotaryBuffers>,
    inputs: Buffer<u32>,
    targets: Buffer<u32>,
    /// The activations that a training step's forward pass keeps.
    keep: Keep,
    activations: Activations,
    gradients: Gradients,
    rooms: Rooms,
}

impl Model {
    /// A model of this specification, computed by `device`. Checks the specification whole and allocates nothing.
    ///
    /// `sequence_length`, `rope_theta` and `rope_scaling` decide nothing but the rotary tables: a model of
    /// another context has the same tensors and computes over the same parameters.
    ///
    /// # Errors
    /// A specification that is refused.
    pub fn new(spec: &ModelSpec, device: Arc<dyn Device>) -> Result<Self, ConfigError> {
        Ok(Self {
            device,
            spec: spec.clone(),
            layout: Layout::new(spec)?,
            tables: None,
            inputs: Buffer::default(),
            targets: Buffer::default(),
            keep: kept(RECOMPUTE.load(Ordering::Relaxed)),
            activations: Activations::default(),
            gradients: Gradients::default(),
            rooms: Rooms::default(),
        })
    }

    /// The device that computes.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Whether [`Model::forward_backward`] keeps each layer's input alone and computes the layer again on its
    /// way back: about a third more work, and activations of one layer instead of all. No result changes by a
    /// bit, so each participant may choose it alone. It is off at first, unless [`recompute_by_default`] set
    /// it.
    pub fn recompute(&mut self, recompute: bool) {
        let keep = kept(recompute);
        if keep != self.keep {
            self.keep = keep;
            self.activations = Activations::default();
        }
    }

    /// Whether [`Model::recompute`] is on.
    pub fn is_recomputing(&self) -> bool {
        self.keep == kept(true)
    }

    /// The specification it was made from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Names and shapes in the order of the flat vectors: Hugging Face's, `model.embed_tokens.weight` first, and
    /// `lm_head.weight` last where it is not tied. A projection is `[out, in]`.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.layout.tensors
    }

    /// Where each of [`Model::tensors`] lies in a flat vector.
    pub fn ranges(&self) -> &[std::ops::Range<usize>] {
        &self.layout.ranges
    }

    /// The same places in a buffer of the device.
    pub fn places(&self) -> &[std::ops::Range<u64>] {
        &self.layout.places
    }

    /// Elements of a flat vector.
    pub fn parameter_count(&self) -> usize {
        self.layout.parameters
    }

    /// The first parameters of a run, drawn from its seed: the same bits on every machine.
    pub fn init(&self, seed: &[u8; 32]) -> Vec<f32> {
        init::draw(&self.layout, seed)
    }

    /// Trains on a micro-batch, the only one or the first one of its step.
    ///
    /// `params` and `grad` are flat vectors, `[parameter_count]`. `tokens` is
    /// `[sequences, sequence_length + 1]`: each sequence's inputs are all but its last token, its targets all
    /// but its first. Overwrites `grad` with the gradient of the summed loss, times `grad_scale`, and returns the
    /// sum of the losses in nats, added in f64 in token order.
    ///
    /// # Errors
    /// Lengths or ids that do not fit the model, before any work; a device that fails, or a loss that is not
    /// finite, after which `grad` is meaningless.
    pub fn forward_backward(
        &mut self,
        params: &Buffer,
        tokens: &[u32],
        grad_scale: f32,
        grad: &mut Buffer,
    ) -> Result<f64, StepError> {
        self.micro_batch(params, tokens, grad_scale, grad, false)
    }

    /// Trains on a later micro-batch of a step: adds to `grad` what [`Model::forward_backward`] would put there,
    /// one addition an element.
    ///
    /// # Errors
    /// As there.
    pub fn forward_backward_accumulate(
        &mut self,
        params: &Buffer,
        tokens: &[u32],
        grad_scale: f32,
        grad: &mut Buffer,
    ) -> Result<f64, StepError> {
        self.micro_batch(params, tokens, grad_scale, grad, true)
    }

    fn micro_batch(
        &mut self,
        params: &Buffer,
        tokens: &[u32],
        grad_scale: f32,
        grad: &mut Buffer,
        accumulate: bool,
    ) -> Result<f64, StepError> {
        self.check_length("the gradient", grad.len())?;
        self.forward(params, tokens, self.keep)?;
        let Self { device, layout, tables, inputs, targets, activations, gradients, rooms, .. } = self;
        let (device, shape) = (&**device, activations.shape);
        gradients.resize(device, layout, shape)?;
        if accumulate {
            rooms.resize(device, layout)?;
        }
        let mut flat = StepGradient::new(device, grad, accumulate.then_some(rooms));
        lm_head::losses_and_gradients(
            device,
            &lm_head_inputs(layout, params, &activations.normed, targets),
            grad_scale,
            LmHeadOutputs { logits: &mut activations.logits, losses: &mut activations.losses },
            LmHeadGradients { normed: &mut gradients.normed, weight: flat.vocabulary(&layout.output) },
        )?;
        if layout.output != layout.embedding {
            flat.add_vocabulary(&layout.output);
        }
        let loss = sum_of_losses(device, activations)?;
        let pass = ModelPass { device, layout, tables: uploaded(tables), params, shape };
        backward::run(pass, inputs.all(), activations, gradients, flat);
        Ok(loss)
    }

    /// The summed loss of one micro-batch, the same bits as [`Model::forward_backward`]'s.
    ///
    /// # Errors
    /// As there.
    pub fn loss(&mut self, params: &Buffer, tokens: &[u32]) -> Result<f64, StepError> {
        self.forward(params, tokens, Keep::Nothing)?;
        let Self { device, layout, targets, activations, .. } = self;
        lm_head::losses(
            &**device,
            &lm_head_inputs(layout, params, &activations.normed, targets),
            LmHeadOutputs { logits: &mut activations.logits, losses: &mut activations.losses },
        )?;
        sum_of_losses(&**device, activations)
    }

    /// The final hidden states of the last forward pass, after the last norm: the input of the output head,
    /// `[tokens, hidden]`. They are whole after [`Model::loss`], whose pass keeps nothing else.
    ///
    /// # Errors
    /// A device that fails.
    pub fn hidden_states(&self) -> Result<Vec<f32>, StepError> {
        let Self { device, activations, layout, .. } = self;
        let elements = activations.shape.rows() * layout.hidden as u64;
        let mut states = vec![0.0; elements as usize];
        device.read(activations.normed.view(0..elements), &mut states)?;
        Ok(states)
    }

    /// The logits after each token of one sequence, `[tokens, vocab]`.
    ///
    /// # Errors
    /// A sequence that is empty or longer than `sequence_length`; an id outside the vocabulary; a device that fails.
    pub fn logits(&mut self, params: &Buffer, tokens: &[u32]) -> Result<Vec<f32>, StepError> {
        self.logits_from(params, tokens, 0)
    }

    /// The logits after the last token of one sequence, `[vocab]`: the last row of [`Model::logits`].
    ///
    /// # Errors
    /// As there.
    pub fn next_logits(&mut self, params: &Buffer, tokens: &[u32]) -> Result<Vec<f32>, StepError> {
        self.logits_from(params, tokens, tokens.len().saturating_sub(1))
    }

    /// The logits after the tokens from place `first` on.
    fn logits_from(&mut self, params: &Buffer, tokens: &[u32], first: usize) -> Result<Vec<f32>, StepError> {
        self.check_length("the parameter vector", params.len())?;
        if tokens.is_empty() || tokens.len() > self.layout.sequence_length {
            return Err(StepError::Sequence { found: tokens.len(), positions: self.layout.sequence_length });
        }
        self.check_tokens(tokens)?;
        let shape = BatchShape { sequences: 1, length: tokens.len() };
        self.check_shape(shape)?;
        self.run(params, tokens, shape, Keep::Nothing)?;
        let Self { device, layout, activations, .. } = self;
        let rows = (tokens.len() - first) as u64;
        let mut logits = device.zeros(rows * layout.vocab as u64)?;
        let weight = params.view(layout.output.clone());
        let (start, hidden) = (first as u64, layout.hidden as u64);
        let normed = activations.normed.view(start * hidden..shape.rows() * hidden);
        linear::forward(&**device, normed, weight, logits.all_mut(), rows);
        Ok(device.download(logits)?)
    }

    /// The logits of some rows of the last forward pass, `[rows, vocab]`.
    pub(crate) fn logits_of_rows(&self, params: &Buffer, rows: &[u32]) -> Result<Vec<f32>, StepError> {
        let Self { device, layout, activations, .. } = self;
        let hidden = layout.hidden as u64;
        let normed = activations.normed.view(0..activations.shape.rows() * hidden);
        let weight = params.view(layout.output.clone());
        Ok(lm_head::logits_of_rows(&**device, normed, weight, hidden, rows)?)
    }

    /// Checks a micro-batch, splits it into inputs and targets, and computes up to the output head.
    fn forward(&mut self, params: &Buffer, tokens: &[u32], keep: Keep) -> Result<(), StepError> {
        self.check_length("the parameter vector", params.len())?;
        let length = self.layout.sequence_length;
        let width = length + 1;
        if tokens.is_empty() || !tokens.len().is_multiple_of(width) {
            return Err(StepError::Batch { found: tokens.len(), width });
        }
        self.check_tokens(tokens)?;
        let shape = BatchShape { sequences: tokens.len() / width, length };
        self.check_shape(shape)?;
        let gather = |part: std::ops::Range<usize>| -> Vec<u32> {
            tokens.chunks_exact(width).flat_map(|sequence| &sequence[part.clone()]).copied().collect()
        };
        self.device.upload_ids(&gather(1..width), &mut self.targets)?;
        self.run(params, &gather(0..length), shape, keep)
    }

    /// Computes up to the output head from checked ids.
    pub(crate) fn run(&mut self, params: &Buffer, ids: &[u32], shape: BatchShape, keep: Keep) -> Result<(), StepError> {
        self.upload(ids)?;
        let Self { device, layout, tables, inputs, activations, .. } = self;
        let pass = ModelPass { device: &**device, layout, tables: uploaded(tables), params, shape };
        Ok(forward::run(pass, inputs.all(), keep, activations)?)
    }

    /// Brings ids to the device, and before the first pass the rotary tables.
    fn upload(&mut self, ids: &[u32]) -> Result<(), StepError> {
        let Self { device, spec, layout, tables, inputs, .. } = self;
        device.upload_ids(ids, inputs)?;
        if tables.is_none() {
            let theta = f64::from(spec.rope_theta);
            let host = RotaryTables::new(layout.sequence_length, layout.head_width, theta, layout.rotary_scaling);
            *tables = Some(device.upload_tables(host)?);
        }
        Ok(())
    }

    pub(crate) fn check_length(&self, what: &'static str, found: u64) -> Result<(), StepError> {
        let (expected, found) = (self.layout.parameters, found as usize);
        if found == expected { Ok(()) } else { Err(StepError::Length { what, expected, found }) }
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), StepError> {
        let vocab_size = self.layout.vocab;
        match tokens.iter().position(|&token| token as usize >= vocab_size) {
            Some(index) => Err(StepError::Token { index, token: tokens[index], vocab_size }),
            None => Ok(()),
        }
    }

    /// Refuses a micro-batch whose largest buffer could not be addressed (the layout bounds the widths themselves).
    pub(crate) fn check_shape(&self, shape: BatchShape) -> Result<(), StepError> {
        let widest = self.layout.ffn.max(self.layout.qkv_width()).max(self.layout.hidden);
        let floats = shape.sequences.checked_mul(shape.length).and_then(|rows| rows.checked_mul(widest));
        match floats {
            Some(floats) if floats <= isize::MAX as usize / 8 => Ok(()),
            _ => Err(StepError::TooLarge { sequences: shape.sequences }),
        }
    }
}

/// The tables that every forward pass begins with.
fn uploaded(tables: &Option<RotaryBuffers>) -> &RotaryBuffers {
    tables.as_ref().expect("a forward pass came before")
}

/// The inputs of the output head.
fn lm_head_inputs<'a>(
    layout: &Layout,
    params: &'a Buffer,
    normed: &'a Buffer,
    targets: &'a Buffer<u32>,
) -> LmHeadInputs<'a> {
    LmHeadInputs::new(normed.all(), params.view(layout.output.clone()), layout.vocab as u64, targets.all())
}

/// The losses added in f64 in token order; one that is not finite is named.
fn sum_of_losses(device: &dyn Device, activations: &Activations) -> Result<f64, StepError> {
    let mut losses = vec![0.0; activations.losses.len() as usize];
    device.read(activations.losses.all(), &mut losses)?;
    let mut sum = 0.0f64;
    for (row, &loss) in losses.iter().enumerate() {
        if !loss.is_finite() {
            let length = activations.shape.length;
            return Err(StepError::NonFiniteLoss { sequence: row / length, position: row % length });
        }
        sum += f64::from(loss);
    }
    Ok(sum)
}
