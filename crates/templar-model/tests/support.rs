//! Small models and tokens that the tests share.

use std::ops::Deref;
use std::sync::Arc;

use templar_device::{Buffer, Cpu, Device};
use templar_manifest::{ModelSpec, RopeScaling};
use templar_model::{AdamWSettings, Asked, ConfigError, Likelihood, Model, Moments, OptimizerStep, StepError};

/// A model whose parameters and gradients are vectors of the test: each call takes them to the device and back.
pub(crate) struct HostModel(Model);

impl Deref for HostModel {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0
    }
}

impl HostModel {
    /// A model on the best instruction set.
    pub(crate) fn new(spec: &ModelSpec) -> Result<Self, ConfigError> {
        Self::on(spec, Arc::new(Cpu::best()))
    }

    /// A model on a device.
    pub(crate) fn on(spec: &ModelSpec, device: Arc<dyn Device>) -> Result<Self, ConfigError> {
        Model::new(spec, device).map(Self)
    }

    fn upload(&self, values: &[f32]) -> Buffer {
        self.device().upload(values.into()).unwrap()
    }

    fn download(&self, buffer: Buffer, values: &mut [f32]) {
        values.copy_from_slice(&self.device().download(buffer).unwrap());
    }

    /// [`Model::forward_backward`].
    pub(crate) fn forward_backward(
        &mut self,
        params: &[f32],
        tokens: &[u32],
        grad_scale: f32,
        grad: &mut [f32],
    ) -> Result<f64, StepError> {
        let (params, mut buffer) = (self.upload(params), self.upload(grad));
        let loss = self.0.forward_backward(&params, tokens, grad_scale, &mut buffer);
        self.download(buffer, grad);
        loss
    }

    /// [`Model::forward_backward_accumulate`].
    pub(crate) fn forward_backward_accumulate(
        &mut self,
        params: &[f32],
        tokens: &[u32],
        grad_scale: f32,
        grad: &mut [f32],
    ) -> Result<f64, StepError> {
        let (params, mut buffer) = (self.upload(params), self.upload(grad));
        let loss = self.0.forward_backward_accumulate(&params, tokens, grad_scale, &mut buffer);
        self.download(buffer, grad);
        loss
    }

    /// [`Model::loss`].
    pub(crate) fn loss(&mut self, params: &[f32], tokens: &[u32]) -> Result<f64, StepError> {
        let params = self.upload(params);
        self.0.loss(&params, tokens)
    }

    /// [`Model::logits`].
    pub(crate) fn logits(&mut self, params: &[f32], tokens: &[u32]) -> Result<Vec<f32>, StepError> {
        let params = self.upload(params);
        self.0.logits(&params, tokens)
    }

    /// [`Model::likelihoods`].
    pub(crate) fn likelihoods(
        &mut self,
        params: &[f32],
        tokens: &[u32],
        length: usize,
        asked: &[Asked],
    ) -> Result<Vec<Likelihood>, StepError> {
        let params = self.upload(params);
        self.0.likelihoods(&params, (tokens, length), asked)
    }

    /// [`templar_model::step`] with the number `t`; `state` is parameters, gradient, first and second moments.
    pub(crate) fn step(
        &self,
        settings: &AdamWSettings,
        learning_rate: f32,
        t: u64,
        state: [&mut [f32]; 4],
    ) -> Result<f64, StepError> {
        let [params, grad, m, v] = state;
        let (mut on_params, mut on_grad) = (self.upload(params), self.upload(grad));
        let mut moments = Moments { first: self.upload(m), second: self.upload(v) };
        let at = OptimizerStep { settings, learning_rate, number: t };
        let norm = templar_model::step(self, at, &mut on_params, &mut on_grad, &mut moments);
        for (buffer, values) in [(on_params, params), (on_grad, grad), (moments.first, m), (moments.second, v)] {
            self.download(buffer, values);
        }
        norm
    }
}

/// Grouped queries, odd sizes, and sequences long enough to need a second block of attention rows.
pub(crate) fn small_spec(tied: bool) -> ModelSpec {
    ModelSpec {
        vocab_size: 53,
        hidden_size: 24,
        layers: 2,
        heads: 4,
        head_size: None,
        kv_heads: 2,
        ffn_size: 40,
        rope_theta: 10_000,
        rope_scaling: None,
        norm_eps_bits: 1e-5f32.to_bits(),
        tied_embeddings: tied,
        sequence_length: 70,
        position_limit: None,
    }
}

/// Llama 3's scaling so that of a [`small_spec`]'s three frequencies one is kept, one blended and one divided.
pub(crate) const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor_ppm: 8_000_000,
    low_freq_factor_ppm: 1_000_000,
    high_freq_factor_ppm: 4_000_000,
    original_positions: 200,
};

/// All frequencies at half.
pub(crate) const LINEAR: RopeScaling = RopeScaling::Linear { factor_ppm: 2_000_000 };

/// Tokens that look arbitrary and never change.
pub(crate) fn tokens(spec: &ModelSpec, sequences: usize, salt: u32) -> Vec<u32> {
    let count = sequences * (spec.sequence_length as usize + 1);
    let mut state = salt.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % spec.vocab_size
    };
    (0..count).map(|_| next()).collect()
}

/// First parameters made six times larger and norms that are not all one, so that no gradient is negligible.
pub(crate) fn lively_params(model: &HostModel) -> Vec<f32> {
    let mut params = model.init(&[3; 32]);
    for (tensor, range) in model.tensors().iter().zip(model.ranges()) {
        for (index, value) in params[range.clone()].iter_mut().enumerate() {
            *value = if tensor.shape.len() == 2 { *value * 6.0 } else { 0.75 + (index % 7) as f32 * 0.1 };
        }
    }
    params
}
