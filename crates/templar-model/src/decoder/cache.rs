//! Keys and values of the tokens of a text that have been read.
//!
//! A cache is a beginning, which several texts may have in common and nobody copies, and what the text read after it.

use std::sync::Arc;

/// The keys and values of one head, `[tokens, width]` each.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

/// What one text had read when it began to share it.
#[derive(Debug)]
struct Read {
    tokens: usize,
    /// Layer by layer, and in each the key and value heads in order.
    heads: Vec<HeadCache>,
}

/// A beginning that texts have in common: the first tokens of what one of them had read.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    tokens: usize,
    read: Arc<Read>,
}

/// The keys and values of the tokens of one text that a [`Decoder`](super::Decoder) has read.
#[derive(Debug, Clone, Default)]
pub struct TextCache {
    pub(super) beginning: Option<Beginning>,
    /// Tokens after the beginning.
    pub(super) own_tokens: usize,
    /// Their heads, layer by layer; none where nothing has been read after the beginning.
    pub(super) own: Vec<HeadCache>,
}

impl HeadCache {
    /// Keys and values of the first `tokens` of the `all` tokens that it holds, which are not zero.
    fn first(&self, tokens: usize, all: usize) -> (&[f32], &[f32]) {
        let floats = self.keys.len() / all * tokens;
        (&self.keys[..floats], &self.values[..floats])
    }

    /// The head of these tokens and of the ones before them.
    fn after(&self, (keys, values): (&[f32], &[f32])) -> Self {
        Self { keys: [keys, &self.keys].concat(), values: [values, &self.values].concat() }
    }
}

impl Beginning {
    /// The number of tokens: one or more.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Keys and values of a head, `[tokens, width]` each. Heads are counted over all layers.
    pub(super) fn head(&self, index: usize) -> (&[f32], &[f32]) {
        self.read.heads[index].first(self.tokens, self.read.tokens)
    }

    /// Whether another beginning is this one.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.tokens == other.tokens && Arc::ptr_eq(&self.read, &other.read)
    }
}

impl TextCache {
    /// The number of tokens that have been read.
    pub fn len(&self) -> usize {
        self.beginning.as_ref().map_or(0, Beginning::tokens) + self.own_tokens
    }

    /// Whether no token has been read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cache of the first `tokens` tokens, for another text that begins with them. What [`share`](Self::share) made
    /// common is not copied.
    #[must_use]
    pub fn prefix(&self, tokens: usize) -> Self {
        let of_beginning = |all: &Beginning| Beginning { tokens: all.tokens.min(tokens), read: all.read.clone() };
        let beginning = self.beginning.as_ref().map(of_beginning).filter(|beginning| beginning.tokens > 0);
        let own_tokens = tokens.min(self.len()) - beginning.as_ref().map_or(0, Beginning::tokens);
        let own = match own_tokens {
            0 => Vec::new(),
            _ => self.own.iter().map(|head| head.first(own_tokens, self.own_tokens)).map(HeadCache::from).collect(),
        };
        Self { beginning, own_tokens, own }
    }

    /// Makes all that has been read so far common to this text and its later clones and [prefixes](Self::prefix), which
    /// then do not copy it.
    pub fn share(&mut self) {
        if self.own_tokens == 0 {
            return;
        }
        let tokens = self.len();
        let own = std::mem::take(&mut self.own);
        let heads = match &self.beginning {
            None => own,
            Some(before) => own.iter().enumerate().map(|(index, own)| own.after(before.head(index))).collect(),
        };
        *self = Self {
            beginning: Some(Beginning { tokens, read: Arc::new(Read { tokens, heads }) }),
            own_tokens: 0,
            own: Vec::new(),
        };
    }
}

impl From<(&[f32], &[f32])> for HeadCache {
    fn from((keys, values): (&[f32], &[f32])) -> Self {
        Self { keys: keys.to_vec(), values: values.to_vec() }
    }
}
