//! From texts to tokens: which of them are given, and which are scored.
//!
//! The rule is that of lm-evaluation-harness for causal models: white space at the end of a context belongs to the
//! continuation; context and continuation are encoded as one text, which is cut where the context alone would end; and
//! what does not fit the model is left out at the front.

use templar_data::{Tokenizer, TokenizerError};

use crate::task::{Ask, split_trailing_space};

/// Tokens whose likelihood is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The given tokens and then the scored ones: at most one more than the model has positions.
    pub tokens: Vec<u32>,
    /// The number of tokens at the end that are scored: at least one, and not all.
    pub scored: usize,
}

/// A continuation cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The tokenizer fails.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The continuation has no token of its own.
    #[error("the continuation {0:?} has no token of its own")]
    NoToken(String),
    /// The continuation alone is longer than the model's context.
    #[error("the continuation has {tokens} tokens, and the model reads {positions}")]
    TooLong {
        /// Tokens of the continuation.
        tokens: usize,
        /// Positions of the model.
        positions: usize,
    },
}

/// Encodes texts for one model.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    before: Vec<u32>,
    alone: u32,
    positions: usize,
    /// The last context and its number of tokens: the answers of a question share it.
    last: Option<(String, usize)>,
    /// The requests whose beginning was left out.
    shortened: u64,
}

impl<'a> Encoder<'a> {
    /// An encoder for a model of so many positions. `before` stands before every text, and `alone` is what a text
    /// follows that has nothing before it.
    pub fn new(tokenizer: &'a Tokenizer, before: Vec<u32>, alone: u32, positions: usize) -> Self {
        Self { tokenizer, before, alone, positions, last: None, shortened: 0 }
    }

    /// The tokens that stand before every text.
    pub fn before(&self) -> &[u32] {
        &self.before
    }

    /// The token that the first token of a text follows, where nothing else is before it.
    pub fn alone(&self) -> u32 {
        self.alone
    }

    /// The number of requests so far whose context did not fit the model, so that its beginning was left out.
    pub fn shortened(&self) -> u64 {
        self.shortened
    }

    /// The tokens of a continuation and its context.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn ask(&mut self, ask: &Ask) -> Result<Request, EncodeError> {
        let (context, trailing) = split_trailing_space(&ask.context);
        let continuation = format!("{trailing}{}", ask.continuation);
        if context.is_empty() {
            return self.after_nothing(&continuation);
        }
        let given = self.tokens_of(context)?;
        let whole = self.tokenizer.encode(&format!("{context}{continuation}"))?;
        let scored = whole.len().saturating_sub(given);
        let tokens = self.before.iter().copied().chain(whole).collect();
        self.request(tokens, scored, &continuation)
    }

    fn after_nothing(&mut self, continuation: &str) -> Result<Request, EncodeError> {
        let tokens = self.tokenizer.encode(continuation)?;
        let scored = tokens.len();
        // A text that begins with this token has it once.
        if tokens.first() == Some(&self.alone) {
            return self.request(tokens, scored - 1, continuation);
        }
        self.request([vec![self.alone], tokens].concat(), scored, continuation)
    }

    /// The number of tokens of a context.
    fn tokens_of(&mut self, context: &str) -> Result<usize, EncodeError> {
        if let Some((last, count)) = &self.last
            && last == context
        {
            return Ok(*count);
        }
        let count = self.tokenizer.encode(context)?.len();
        self.last = Some((context.to_owned(), count));
        Ok(count)
    }

    fn request(&mut self, mut tokens: Vec<u32>, scored: usize, continuation: &str) -> Result<Request, EncodeError> {
        if scored == 0 {
            return Err(EncodeError::NoToken(continuation.to_owned()));
        }
        if scored > self.positions {
            return Err(EncodeError::TooLong { tokens: scored, positions: self.positions });
        }
        let excess = tokens.len().saturating_sub(self.positions + 1);
        self.shortened += u64::from(excess > 0);
        tokens.drain(..excess);
        Ok(Request { tokens, scored })
    }

    /// A whole text, every token of which is scored once. It is cut into windows of the model's context. The first
    /// token follows [`alone`](Self::alone); the first of another window follows the token before it, and the last
    /// window begins early enough to be full.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn text(&self, text: &str) -> Result<Vec<Request>, EncodeError> {
        let tokens: Vec<u32> = std::iter::once(self.alone).chain(self.tokenizer.encode(text)?).collect();
        let mut requests = Vec::new();
        let mut end = 1;
        while end < tokens.len() {
            let scored = self.positions.min(tokens.len() - end);
            end += scored;
            let start = end.saturating_sub(self.positions + 1);
            requests.push(Request { tokens: tokens[start..end].to_vec(), scored });
        }
        Ok(requests)
    }
}
