//! Tokens from parameters, through candle-transformers and its caches of keys and values.
//!
//! This is the edge: the logits come from candle's arithmetic, which may differ in the last bits between machines, so
//! nothing that is signed may depend on what is generated. It deals in tokens; text is the tokenizer's.

mod backend;
mod error;
mod sampler;

use std::fmt;
use std::sync::Arc;

use templar_device::Device;
use templar_manifest::ModelSpec;

use crate::layout::{Layout, MAX_SEQUENCE};
use backend::Backend;
pub(crate) use backend::{Relative, Tensors};
pub use error::GenerateError;
pub use sampler::{Sampler, Sampling};

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose this token, which ends a text.
    EndToken(u32),
    /// As many tokens as were asked for.
    Length,
    /// The model's context is full.
    Context,
}

/// The text that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The tokens to continue.
    pub prompt: &'a [u32],
    /// The largest number of tokens to add.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Tokens that end a text.
    pub ends: &'a [u32],
    /// Of each row of the model, whether the tokenizer has a token for it. Rows behind the last are none.
    pub is_token: &'a [bool],
}

/// A model that is loaded for generation.
pub struct LanguageModel {
    backend: Backend,
    vocab: usize,
    positions: usize,
}

impl LanguageModel {
    /// The model of a specification over its flat vector of parameters. It reads as many tokens as the
    /// specification's [`positions`](ModelSpec::positions) allow.
    ///
    /// # Errors
    /// A specification that is refused, a vector of another length, a failure of candle.
    pub fn new(spec: &ModelSpec, params: &[f32]) -> Result<Self, GenerateError> {
        Self::with(spec, params, Backend::trained)
    }

    /// The same model computed by a device, with this crate's forward pass: every token computes the whole text again,
    /// and its logits have the bits of training. Those of [`LanguageModel::new`] are candle's, and differ in the last
    /// bits.
    ///
    /// # Errors
    /// As there; a device that fails or has no memory.
    pub fn on(device: Arc<dyn Device>, spec: &ModelSpec, params: &[f32]) -> Result<Self, GenerateError> {
        Self::with(spec, params, |spec, _, params| Backend::own(device, spec, params))
    }

    fn with(
        spec: &ModelSpec,
        params: &[f32],
        backend: impl FnOnce(&ModelSpec, &Layout, &[f32]) -> Result<Backend, GenerateError>,
    ) -> Result<Self, GenerateError> {
        let spec = ModelSpec { sequence_length: spec.positions().min(MAX_SEQUENCE), ..spec.clone() };
        let layout = Layout::new(&spec)?;
        if params.len() != layout.parameters {
            return Err(GenerateError::Length { expected: layout.parameters, found: params.len() });
        }
        let backend = backend(&spec, &layout, params)?;
        Ok(Self { backend, vocab: layout.vocab, positions: layout.sequence_length })
    }

    /// A relative of the trained architecture over its tensors, which reads at most `spec.sequence_length` tokens.
    pub(crate) fn relative(kind: Relative, spec: &ModelSpec, tensors: Tensors) -> Result<Self, GenerateError> {
        let backend = Backend::relative(kind, spec, tensors)?;
        Ok(Self { backend, vocab: spec.vocab_size as usize, positions: spec.sequence_length as usize })
    }

    /// Rows of the embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// The number of positions of the model.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The logits after each token of a text, `[tokens, vocab]`.
    ///
    /// # Errors
    /// A text that is empty, too long or has tokens that the model does not know; a failure of candle.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        self.check(tokens)?;
        self.backend.forget()?;
        let mut logits = Vec::with_capacity(tokens.len() * self.vocab);
        for end in 1..=tokens.len() {
            logits.extend(self.backend.logits(&tokens[..end], end - 1)?);
        }
        Ok(logits)
    }

    /// The logits after the last of `tokens`, `[vocab]`. The first `computed` of them are those of the call before
    /// this one, whose keys and values are kept; with 0 a new text begins.
    ///
    /// # Errors
    /// As of [`LanguageModel::logits`].
    pub fn next_logits(&mut self, tokens: &[u32], computed: usize) -> Result<Vec<f32>, GenerateError> {
        self.check(tokens)?;
        if computed == 0 {
            self.backend.forget()?;
        }
        self.backend.logits(tokens, computed)
    }

    /// Begins to continue a prompt.
    ///
    /// # Errors
    /// See [`GenerateError`]; everything but a failing computation is found before any work.
    pub fn generate<'a>(&'a mut self, request: Request<'a>) -> Result<Generation<'a>, GenerateError> {
        let sampler = Sampler::new(request.sampling)?;
        self.check(request.prompt)?;
        if request.prompt.len() >= self.positions {
            return Err(GenerateError::PromptTooLong { found: request.prompt.len(), positions: self.positions });
        }
        self.backend.forget()?;
        let tokens = request.prompt.to_vec();
        Ok(Generation { model: self, request, sampler, tokens, computed: 0, stop: None })
    }

    fn check(&self, tokens: &[u32]) -> Result<(), GenerateError> {
        if tokens.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if tokens.len() > self.positions {
            return Err(GenerateError::PromptTooLong { found: tokens.len(), positions: self.positions });
        }
        match tokens.iter().find(|&&token| token as usize >= self.vocab) {
            Some(&token) => Err(GenerateError::Token { token, vocab_size: self.vocab }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel")
            .field("vocab", &self.vocab)
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}

/// The tokens that follow a prompt, one after the other. The token that ends a text is not among them.
pub struct Generation<'a> {
    model: &'a mut LanguageModel,
    request: Request<'a>,
    sampler: Sampler,
    tokens: Vec<u32>,
    /// How many tokens the model's cache holds.
    computed: usize,
    stop: Option<StopReason>,
}

impl Generation<'_> {
    /// Why the generation ended, once it has.
    pub fn stop(&self) -> Option<StopReason> {
        self.stop
    }

    fn step(&mut self) -> Result<Option<u32>, GenerateError> {
        if self.tokens.len() - self.request.prompt.len() >= self.request.max_tokens {
            self.stop = Some(StopReason::Length);
            return Ok(None);
        }
        // Every token but the last one chosen takes a position, so the last position's logits are still of use.
        if self.tokens.len() > self.model.positions {
            self.stop = Some(StopReason::Context);
            return Ok(None);
        }
        let mut logits = self.model.backend.logits(&self.tokens, self.computed)?;
        self.computed = self.tokens.len();
        let next = self.sampler.next(&mut logits, self.request.is_token)?;
        if self.request.ends.contains(&next) {
            self.stop = Some(StopReason::EndToken(next));
            return Ok(None);
        }
        self.tokens.push(next);
        Ok(Some(next))
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<u32, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.is_some() { None } else { self.step().transpose() }
    }
}
