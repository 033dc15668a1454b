//! The model as its callers see it: sizes, tensors, first parameters, losses, gradients, logits.
//!
//! Parameters and gradients belong to the caller; a [`Model`] holds the layout, the rotary tables and the buffers of one
//! micro-batch. Every length and token id is checked before any work.

use std::sync::atomic::{AtomicBool, Ordering};

use templar_manifest::{ModelSpec, TensorSpec};
use templar_numerics::RotaryTables;

use crate::activations::{Activations, BatchShape, Gradients, Keep};
use crate::head::{self, HeadGradients, HeadInputs};
use crate::layout::{ConfigError, Layout};
use crate::{backward, forward, init, linear};

/// Why a step cannot be computed, or has no valid result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// A flat vector is not the model's.
    #[error("{what} has {found} elements, the model {expected}")]
    Length {
        /// Which vector.
        what: &'static str,
        /// Parameters of the model.
        expected: usize,
        /// What was passed.
        found: usize,
    },
    /// A micro-batch is empty or not a whole number of sequences.
    #[error("{found} tokens are not one or more sequences of {width}")]
    Batch {
        /// Tokens passed.
        found: usize,
        /// Tokens that a sequence takes: one more than it predicts.
        width: usize,
    },
    /// A sequence is empty or longer than the model's positions.
    #[error("a sequence of {found} tokens, where the model takes 1 to {positions}")]
    Sequence {
        /// Tokens passed.
        found: usize,
        /// The model's positions.
        positions: usize,
    },
    /// A token id is not in the vocabulary.
    #[error("token {token} at {index} is outside the vocabulary of {vocab_size}")]
    Token {
        /// Place in the tokens passed.
        index: usize,
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The activations of a micro-batch cannot be addressed.
    #[error("a micro-batch of {sequences} sequences is more than this machine can address")]
    TooLarge {
        /// Sequences passed.
        sequences: usize,
    },
    /// A loss is NaN or infinite, so the step is invalid.
    #[error("the loss of sequence {sequence} at position {position} is not finite")]
    NonFiniteLoss {
        /// Sequence of the micro-batch.
        sequence: usize,
        /// Position in it.
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
        /// Which one.
        setting: &'static str,
    },
}

/// Whether a model recomputes until it is told otherwise.
static RECOMPUTE: AtomicBool = AtomicBool::new(false);

/// Says for the whole process whether models made from now on start with [`Model::recompute`] on. For whoever configures
/// a program; no result depends on it.
pub fn recompute_by_default(recompute: bool) {
    RECOMPUTE.store(recompute, Ordering::Relaxed);
}

/// What a model leaves for its backward pass.
fn kept(recompute: bool) -> Keep {
    if recompute { Keep::Inputs } else { Keep::Everything }
}

/// A transformer of a given specification, with the buffers to compute it.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    layout: Layout,
    tables: RotaryTables,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    /// What a forward pass that is trained on leaves for the backward pass.
    keep: Keep,
    activations: Activations,
    gradients: Gradients,
}

impl Model {
    /// A model of this specification. Checks it whole; allocates the rotary tables only.
    ///
    /// `sequence_length`, `rope_theta` and `rope_scaling` decide nothing but those tables: a model of another context has
    /// the same tensors and computes over the same parameters.
    pub fn new(spec: &ModelSpec) -> Result<Self, ConfigError> {
        let layout = Layout::new(spec)?;
        let tables = RotaryTables::new(
            layout.sequence_length,
            layout.head_width,
            f64::from(spec.rope_theta),
            layout.rotary_scaling,
        );
        Ok(Self {
            spec: spec.clone(),
            layout,
            tables,
            inputs: Vec::new(),
            targets: Vec::new(),
            keep: kept(RECOMPUTE.load(Ordering::Relaxed)),
            activations: Activations::default(),
            gradients: Gradients::default(),
        })
    }

    /// Whether [`Model::forward_backward`] keeps each layer's input alone and computes the layer again on its way back:
    /// about a third more work, and activations of one layer instead of all. Nothing that it returns changes by a bit, so
    /// it is the choice of whoever computes, not of a run. Off at first, unless [`recompute_by_default`] says otherwise.
    pub fn recompute(&mut self, recompute: bool) {
        let keep = kept(recompute);
        if keep != self.keep {
            self.keep = keep;
            self.activations = Activations::default();
        }
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

    /// Elements of a flat vector.
    pub fn parameter_count(&self) -> usize {
        self.layout.parameters
    }

    /// The first parameters of a run, drawn from its seed: the same bits on every machine.
    pub fn init(&self, seed: &[u8; 32]) -> Vec<f32> {
        init::draw(&self.layout, seed)
    }

    /// Trains on one micro-batch.
    ///
    /// `tokens` is `[sequences, sequence_length + 1]`: each sequence's inputs are all but its last token, its targets all
    /// but its first. Adds the gradient of the summed loss, times `grad_scale`, to `grad`, and returns the sum of the
    /// losses in nats, added in f64 in token order.
    ///
    /// # Errors
    /// Lengths or ids that do not fit the model, before any work; a loss that is not finite, after which `grad` is
    /// meaningless.
    pub fn forward_backward(
        &mut self,
        params: &[f32],
        tokens: &[u32],
        grad_scale: f32,
        grad: &mut [f32],
    ) -> Result<f64, StepError> {
        self.check_length("the gradient", grad.len())?;
        self.forward(params, tokens, self.keep)?;
        let Self { layout, tables, inputs, targets, activations, gradients, .. } = self;
        gradients.resize(layout, activations.shape);
        let weight = &params[layout.output.clone()];
        head::losses_and_gradients(
            HeadInputs { normed: &activations.normed, weight, vocab: layout.vocab, targets },
            grad_scale,
            &mut activations.logits,
            &mut activations.losses,
            HeadGradients { normed: &mut gradients.normed, weight: &mut grad[layout.output.clone()] },
        );
        let loss = sum_of_losses(activations)?;
        backward::run(layout, tables, params, inputs, activations, gradients, grad);
        Ok(loss)
    }

    /// The summed loss of one micro-batch, the same bits as [`Model::forward_backward`]'s.
    ///
    /// # Errors
    /// As there.
    pub fn loss(&mut self, params: &[f32], tokens: &[u32]) -> Result<f64, StepError> {
        self.forward(params, tokens, Keep::Nothing)?;
        let Self { layout, targets, activations, .. } = self;
        let weight = &params[layout.output.clone()];
        head::losses(
            HeadInputs { normed: &activations.normed, weight, vocab: layout.vocab, targets },
            &mut activations.logits,
            &mut activations.losses,
        );
        sum_of_losses(activations)
    }

    /// The logits after each token of one sequence, `[tokens, vocab]`.
    ///
    /// # Errors
    /// A sequence that is empty or longer than `sequence_length`; an id outside the vocabulary.
    pub fn logits(&mut self, params: &[f32], tokens: &[u32]) -> Result<Vec<f32>, StepError> {
        self.check_length("the parameter vector", params.len())?;
        if tokens.is_empty() || tokens.len() > self.layout.sequence_length {
            return Err(StepError::Sequence { found: tokens.len(), positions: self.layout.sequence_length });
        }
        self.check_tokens(tokens)?;
        let shape = BatchShape { sequences: 1, length: tokens.len() };
        self.check_shape(shape)?;
        let Self { layout, tables, activations, .. } = self;
        forward::run(layout, tables, params, tokens, shape, Keep::Nothing, activations);
        let mut logits = vec![0.0; tokens.len() * layout.vocab];
        linear::forward(&activations.normed, &params[layout.output.clone()], &mut logits, tokens.len());
        Ok(logits)
    }

    /// Checks a micro-batch, splits it into inputs and targets, and computes up to the head.
    fn forward(&mut self, params: &[f32], tokens: &[u32], keep: Keep) -> Result<(), StepError> {
        self.check_length("the parameter vector", params.len())?;
        let length = self.layout.sequence_length;
        let width = length + 1;
        if tokens.is_empty() || !tokens.len().is_multiple_of(width) {
            return Err(StepError::Batch { found: tokens.len(), width });
        }
        self.check_tokens(tokens)?;
        let shape = BatchShape { sequences: tokens.len() / width, length };
        self.check_shape(shape)?;
        let Self { layout, tables, inputs, targets, activations, .. } = self;
        inputs.clear();
        targets.clear();
        for sequence in tokens.chunks_exact(width) {
            inputs.extend_from_slice(&sequence[..length]);
            targets.extend_from_slice(&sequence[1..]);
        }
        forward::run(layout, tables, params, inputs, shape, keep, activations);
        Ok(())
    }

    pub(crate) fn check_length(&self, what: &'static str, found: usize) -> Result<(), StepError> {
        let expected = self.layout.parameters;
        if found == expected { Ok(()) } else { Err(StepError::Length { what, expected, found }) }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), StepError> {
        let vocab_size = self.layout.vocab;
        match tokens.iter().position(|&token| token as usize >= vocab_size) {
            Some(index) => Err(StepError::Token { index, token: tokens[index], vocab_size }),
            None => Ok(()),
        }
    }

    /// Refuses a micro-batch whose largest buffer could not be addressed (the layout bounds the widths themselves).
    fn check_shape(&self, shape: BatchShape) -> Result<(), StepError> {
        let widest = self.layout.ffn.max(self.layout.qkv_width()).max(self.layout.hidden);
        let floats = shape.sequences.checked_mul(shape.length).and_then(|rows| rows.checked_mul(widest));
        match floats {
            Some(floats) if floats <= isize::MAX as usize / 8 => Ok(()),
            _ => Err(StepError::TooLarge { sequences: shape.sequences }),
        }
    }
}

/// The losses added in f64 in token order; one that is not finite is named.
fn sum_of_losses(activations: &Activations) -> Result<f64, StepError> {
    let mut sum = 0.0f64;
    for (row, &loss) in activations.losses.iter().enumerate() {
        if !loss.is_finite() {
            let length = activations.shape.length;
            return Err(StepError::NonFiniteLoss { sequence: row / length, position: row % length });
        }
        sum += f64::from(loss);
    }
    Ok(sum)
}
