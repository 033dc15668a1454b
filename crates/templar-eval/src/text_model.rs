//! A model with its tokenizer: a prompt in, its continuation out.

use templar_data::{Tokenizer, TokenizerError};
use templar_model::generate::{GenerateError, LanguageModel, Request, Sampling, StopReason};

/// A prompt cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// The tokenizer fails on the prompt, or on the tokens that were generated.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model cannot generate.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

/// A text to continue.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// The beginning of a document. It may be empty.
    pub text: &'a str,
    /// The largest number of tokens to add.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
}

/// The continuation of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The text that follows the prompt. Special tokens are shown by their names.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Why it ended; `None` where the caller ended it.
    pub stop: Option<StopReason>,
}

impl Continuation {
    /// Whether a reader sees anything of the text: it is not empty, and not only blanks and control characters.
    pub fn is_visible(&self) -> bool {
        self.text.chars().any(|character| !character.is_whitespace() && !character.is_control())
    }
}

/// A model that reads and writes text.
#[derive(Debug)]
pub struct TextModel {
    model: LanguageModel,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    /// Of each row of the model, whether the tokenizer has a token for it.
    is_token: Vec<bool>,
}

impl TextModel {
    /// A model with the tokenizer of its training. Texts end with the tokenizer's end token, and with `ends`.
    pub fn new(model: LanguageModel, tokenizer: Tokenizer, mut ends: Vec<u32>) -> Self {
        ends.push(tokenizer.end_token());
        let rows = tokenizer.vocab_size().min(u32::try_from(model.vocab_size()).unwrap_or(u32::MAX));
        let is_token = (0..rows).map(|id| tokenizer.token(id).is_some()).collect();
        Self { model, tokenizer, ends, is_token }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The number of tokens that the model reads at most.
    pub fn positions(&self) -> usize {
        self.model.positions()
    }

    /// Continues a prompt, which is the beginning of a document.
    ///
    /// # Errors
    /// The prompt cannot be tokenised or is too long for the model, a setting of the sampling is out of its range,
    /// or the computation fails.
    pub fn continue_text(&mut self, prompt: &Prompt<'_>) -> Result<Continuation, ContinueError> {
        self.continue_while(prompt, || true)
    }

    /// Continues a prompt as long as `goes_on`, which is asked before each token.
    ///
    /// # Errors
    /// Those of [`continue_text`](Self::continue_text).
    pub fn continue_while(
        &mut self,
        prompt: &Prompt<'_>,
        goes_on: impl Fn() -> bool,
    ) -> Result<Continuation, ContinueError> {
        let beginning = self.tokenizer.beginning(prompt.text)?;
        let mut generation = self.model.generate(Request {
            prompt: &beginning,
            max_tokens: prompt.max_tokens,
            sampling: prompt.sampling,
            ends: &self.ends,
            is_token: &self.is_token,
        })?;
        let mut tokens = Vec::new();
        while goes_on() {
            let Some(token) = generation.next().transpose()? else { break };
            tokens.push(token);
        }
        let stop = generation.stop();
        let text = self.tokenizer.decode_after(&beginning, &tokens)?;
        Ok(Continuation { text, tokens, stop })
    }
}
