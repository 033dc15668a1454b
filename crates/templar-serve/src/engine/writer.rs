//! The text of one answer, token by token.

use templar_data::{Tokenizer, TokenizerError};
use templar_model::generate::{GenerateError, Sampler};

use super::job::{Event, Finish, Wanted};
use super::scores::score;
use super::stops::Stops;
use crate::served::Served;

/// The number of tokens of a prompt before which a continuation is decoded. Decoders look at their neighbours.
const CONTEXT: usize = 8;
/// The number of tokens after which a character that is still not complete is told as it is. None takes so many.
const MAX_PENDING: usize = 16;

/// Turns tokens into text as they come: a token that ends within a character adds nothing until the character is
/// complete.
#[derive(Debug, Clone)]
pub(crate) struct Detokenizer {
    tokens: Vec<u32>,
    /// Tokens from here on are decoded together.
    from: usize,
    /// The text of the tokens before here was told.
    told: usize,
}

impl Detokenizer {
    /// Behind the tokens of a prompt.
    pub(crate) fn after(prompt: &[u32]) -> Self {
        let tokens = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        Self { from: 0, told: tokens.len(), tokens }
    }

    /// The text that one more token completes.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String, TokenizerError> {
        self.tokens.push(token);
        let added = self.added(tokenizer)?;
        let is_pending = added.is_empty() || added.ends_with(char::REPLACEMENT_CHARACTER);
        if is_pending && self.tokens.len() - self.told < MAX_PENDING {
            return Ok(String::new());
        }
        (self.from, self.told) = (self.told, self.tokens.len());
        Ok(added)
    }

    /// The text of tokens that completed no character.
    pub(crate) fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        let added = self.added(tokenizer)?;
        (self.from, self.told) = (self.told, self.tokens.len());
        Ok(added)
    }

    fn added(&self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        tokenizer.decode_after(&self.tokens[self.from..self.told], &self.tokens[self.told..])
    }
}

/// Chooses the tokens of a text and writes it.
#[derive(Debug)]
pub(super) struct Writer {
    number: usize,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: Stops,
    written: usize,
}

/// The outcome of a choice.
pub(super) enum Written {
    /// The text goes on with this token.
    Token(u32),
    /// The text has ended.
    Ended,
}

/// A text cannot be continued.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Writer {
    pub(super) fn new(number: usize, sampler: Sampler, prompt: &[u32], wanted: &Wanted) -> Self {
        let stops = Stops::new(wanted.stop.clone());
        Self { number, sampler, detokenizer: Detokenizer::after(prompt), stops, written: 0 }
    }

    /// Chooses the next token from the logits, `[vocab]`. `is_last` tells that the context holds no further one.
    pub(super) fn write(
        &mut self,
        model: &Served,
        wanted: &Wanted,
        logits: &[f32],
        is_last: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Written, WriteError> {
        let token = self.sampler.next(&mut logits.to_vec(), model.is_token())?;
        let score = wanted.logprobs.map(|top| score(logits, token, top));
        self.written += 1;
        let (text, tokenizer) = (self.number, model.tokenizer());
        if model.ends(wanted.is_chat).contains(&token) {
            tell(Event::Token { text, added: String::new(), piece: String::new(), score });
            self.end(tokenizer, Finish::Stop, tell)?;
            return Ok(Written::Ended);
        }
        let piece = self.detokenizer.push(tokenizer, token)?;
        let (added, is_stopped) = self.stops.push(&piece);
        tell(Event::Token { text, added, piece, score });
        if is_stopped {
            tell(Event::End { text, added: String::new(), finish: Finish::Stop });
            return Ok(Written::Ended);
        }
        if self.written >= wanted.max_tokens || is_last {
            self.end(tokenizer, Finish::Length, tell)?;
            return Ok(Written::Ended);
        }
        Ok(Written::Token(token))
    }

    /// Ends the text. What was held back is told, up to a stop sequence that it completes.
    pub(super) fn end(
        &mut self,
        tokenizer: &Tokenizer,
        finish: Finish,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), TokenizerError> {
        let (mut added, is_stopped) = self.stops.push(&self.detokenizer.finish(tokenizer)?);
        if !is_stopped {
            added.push_str(&self.stops.finish());
        }
        let finish = if is_stopped { Finish::Stop } else { finish };
        tell(Event::End { text: self.number, added, finish });
        Ok(())
    }
}
