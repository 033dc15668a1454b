//! The reasons for which nothing is generated.

use templar_device::DeviceError;

use crate::layout::ConfigError;
use crate::model::StepError;

/// Why nothing could be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model's specification is refused.
    #[error("the model's specification is refused")]
    Config(#[from] ConfigError),
    /// The parameter vector has another length than the model's.
    #[error("{found} parameters, the model has {expected}")]
    Length {
        /// Parameters of the model.
        expected: usize,
        /// Parameters that were passed.
        found: usize,
    },
    /// A prompt without a token.
    #[error("the prompt has no token to continue")]
    EmptyPrompt,
    /// A token of the prompt has no row in the embedding.
    #[error("token {token} of the prompt is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The prompt leaves no room for a token.
    #[error("the prompt has {found} tokens, the model takes fewer than {positions}")]
    PromptTooLong {
        /// Tokens of the prompt.
        found: usize,
        /// The number of positions of the model.
        positions: usize,
    },
    /// A temperature that is not positive and finite.
    #[error("the temperature is not positive")]
    Temperature,
    /// A share of the probability that is not above 0 and at most 1.
    #[error("top-p is not above 0 and at most 1")]
    TopP,
    /// No row of the model is a token of the tokenizer.
    #[error("the model has no row for any token")]
    NoTokens,
    /// The logits are not finite: the parameters are unusable.
    #[error("the model's logits are not finite")]
    NonFinite,
    /// The computation in candle failed.
    #[error("candle fails")]
    Candle(#[from] candle_core::Error),
    /// The computation in this crate failed.
    #[error("the logits cannot be computed")]
    Step(#[from] StepError),
    /// The device fails.
    #[error("the device fails")]
    Device(#[from] DeviceError),
}
