//! Conversations into tokens: the chat template joins the turns, and the special tokens that it writes are tokens.
//!
//! This is the one place where the name of a special token in a text becomes that token, because the template
//! asks for it. A turn that itself names one is refused: it would end its own turn and speak for somebody else.

use aho_corasick::AhoCorasick;
use minijinja::Value;
use minijinja::value::{Serde, ValueKind};
use serde::Serialize;

use super::choice::special_tokens;
use super::template::{ChatTemplate, ChatTemplateError, ParsedTemplate, TemplateTokens};
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
    /// The names of the special tokens.
    special: AhoCorasick,
    template: ParsedTemplate,
    tokens: TemplateTokens,
}

impl ChatTokenizer {
    /// Reads conversations by `template` with the vocabulary of `tokenizer`.
    ///
    /// # Errors
    /// [`ChatError::Template`] where the template does not parse.
    pub fn new(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<Self, ChatError> {
        let mut inner = tokenizer.inner.clone();
        inner.set_encode_special_tokens(false);
        let names = special_tokens(&inner).into_iter().map(|(_, name)| name).filter(|name| !name.is_empty());
        let special = AhoCorasick::new(names).map_err(|error| TokenizerError::Parse(error.to_string()))?;
        let (vocab_size, ends, tokens) = (tokenizer.vocab_size, tokenizer.ends, tokenizer.template_tokens());
        Ok(Self { vocab_size, ends, special, tokens, inner, template: template.parsed()? })
    }

    /// The tokens of a conversation as one document. `turns` is a list of objects with `role` and `content`, and the
    /// template sees their fields in the order in which they are serialised. Where the template writes the start and
    /// the end token itself, they are not added a second time.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn document<T: Serialize + ?Sized>(&self, turns: &T) -> Result<Vec<u32>, ChatError> {
        let mut tokens = self.started(turns, false)?;
        if tokens.last() != Some(&self.ends.end) {
            tokens.push(self.ends.end);
        }
        Ok(tokens)
    }

    /// The tokens of a conversation that the model is to continue with a turn of its own: the template is asked for the
    /// beginning of that turn (`add_generation_prompt`), and no end token follows.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn prompt<T: Serialize + ?Sized>(&self, turns: &T) -> Result<Vec<u32>, ChatError> {
        self.started(turns, true)
    }

    /// The tokens of the rendered conversation, with the start token before them.
    fn started<T: Serialize + ?Sized>(&self, turns: &T, asks: bool) -> Result<Vec<u32>, ChatError> {
        let turns = Value::from(Serde(turns));
        self.refuse_special_tokens(&turns)?;
        let text = self.template.render(turns, &self.tokens, asks)?;
        let mut tokens = encode(&self.inner, &text, self.vocab_size)?;
        match self.ends.start {
            Some(start) if tokens.first() != Some(&start) => tokens.insert(0, start),
            _ => {}
        }
        Ok(tokens)
    }

    /// Looks for names of special tokens in every text of the turns.
    fn refuse_special_tokens(&self, turns: &Value) -> Result<(), ChatError> {
        let failed = |error: minijinja::Error| ChatTemplateError::Render(error.to_string());
        match turns.kind() {
            ValueKind::String => {
                let text = turns.as_str().unwrap_or_default();
                match self.special.find(text) {
                    Some(found) => Err(ChatError::SpecialToken { name: text[found.range()].to_owned() }),
                    None => Ok(()),
                }
            }
            ValueKind::Seq => turns.try_iter().map_err(failed)?.try_for_each(|part| self.refuse_special_tokens(&part)),
            ValueKind::Map => turns
                .try_iter()
                .map_err(failed)?
                .try_for_each(|name| self.refuse_special_tokens(&turns.get_item(&name).map_err(failed)?)),
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
