//! Conversations into tokens: the chat template joins the turns, and the special tokens that it writes are tokens.
//!
//! This is the one place where the name of a special token in a text becomes that token, because the template
//! asks for it. A turn that itself names one is refused: it would end its own turn and speak for somebody else.

use serde_json::Value;

use super::choice::special_tokens;
use super::template::{ChatTemplate, ChatTemplateError, TemplateTokens};
use super::{Ends, Tokenizer, TokenizerError, encode};

/// A conversation cannot be turned into tokens.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The template does not parse, or refuses the conversation.
    #[error(transparent)]
    Template(#[from] ChatTemplateError),
    /// A turn contains the name of a special token.
    #[error("a turn contains the special token {name:?}")]
    SpecialToken {
        /// The name of the token.
        name: String,
    },
    /// The text of the conversation cannot be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Turns conversations into tokens by a chat template.
#[derive(Debug)]
pub struct ChatTokenizer {
    /// The tokenizer, in which names of special tokens are tokens.
    inner: tokenizers::Tokenizer,
    vocab_size: u32,
    ends: Ends,
    special: Vec<String>,
    template: ChatTemplate,
    tokens: TemplateTokens,
}

impl ChatTokenizer {
    /// Reads conversations by `template` with the vocabulary of `tokenizer`.
    pub fn new(tokenizer: &Tokenizer, template: ChatTemplate) -> Self {
        let mut inner = tokenizer.inner.clone();
        inner.set_encode_special_tokens(false);
        Self {
            vocab_size: tokenizer.vocab_size,
            ends: tokenizer.ends,
            special: special_tokens(&inner).into_iter().map(|(_, name)| name).collect(),
            tokens: tokenizer.template_tokens(),
            inner,
            template,
        }
    }

    /// The tokens of a conversation as one document. `turns` is a list of objects with `role` and `content`. Where
    /// the template writes the start and the end token itself, they are not added a second time.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn document(&self, turns: &Value) -> Result<Vec<u32>, ChatError> {
        self.refuse_special_tokens(turns)?;
        let mut tokens = encode(&self.inner, &self.template.render(turns, &self.tokens)?, self.vocab_size)?;
        if tokens.last() != Some(&self.ends.end) {
            tokens.push(self.ends.end);
        }
        match self.ends.start {
            Some(start) if tokens.first() != Some(&start) => tokens.insert(0, start),
            _ => {}
        }
        Ok(tokens)
    }

    /// Looks for names of special tokens in every text of the turns.
    fn refuse_special_tokens(&self, turns: &Value) -> Result<(), ChatError> {
        match turns {
            Value::String(text) => match self.special.iter().find(|name| text.contains(name.as_str())) {
                Some(name) => Err(ChatError::SpecialToken { name: name.clone() }),
                None => Ok(()),
            },
            Value::Array(parts) => parts.iter().try_for_each(|part| self.refuse_special_tokens(part)),
            Value::Object(parts) => parts.values().try_for_each(|part| self.refuse_special_tokens(part)),
            _ => Ok(()),
        }
    }
}

impl Tokenizer {
    /// The names that templates use for the tokens around a text. `bos_token` is the start token, or without one
    /// the token that the file's own template puts first; `eos_token` is the end token.
    pub(super) fn template_tokens(&self) -> TemplateTokens {
        let start = self.ends.start.and_then(|start| self.token(start));
        TemplateTokens {
            bos: start.or_else(|| self.saved.before.first().cloned()),
            eos: self.token(self.ends.end).unwrap_or_default(),
        }
    }
}
