//! `/v1/completions`: prompts as text or as tokens.
//!
//! A text is read as the beginning of a document, as `templar generate` reads it. The token that stands before
//! documents is read first and told nowhere: the places in an answer are those of the client's own tokens. Prompts of
//! tokens are read as they are. A prompt without a token is the beginning of a document.

use serde_json::Value;

use super::ApiError;
use super::fields::Fields;
use super::request::{Common, MAX_PROMPTS, Question, Request, Rest, top};
use crate::served::Served;

/// The number of tokens that are added where the request names none.
const MAX_TOKENS: u64 = 16;

impl Request {
    /// Understands the body of a completion. `fresh` is the seed of a request that names none.
    ///
    /// # Errors
    /// The reason why it is refused, with the field.
    pub(crate) fn completion(body: &Value, served: &Served, fresh: u64) -> Result<Self, ApiError> {
        let fields = Fields::of(body)?;
        let common = Common::read(&fields, served, fresh)?;
        fields.neutral("suffix", |value| value.as_str() == Some(""))?;
        fields.neutral("best_of", |best| best.as_u64() == Some(1) || Some(best) == fields.value("n"))?;
        let (echo, logprobs) = (fields.flag("echo")?, top(&fields, "logprobs")?);
        let max_tokens = fields.whole("max_tokens", 0..=u64::from(u32::MAX))?.unwrap_or(MAX_TOKENS) as usize;
        let reader = Reader { served, scores: echo && logprobs.is_some() };
        let questions = reader.prompts(fields.value("prompt").unwrap_or(&Value::Null))?;
        common.request(questions, Rest { is_chat: false, max_tokens, logprobs, echo })
    }
}

/// Reads prompts for a model.
struct Reader<'a> {
    served: &'a Served,
    /// Whether the probabilities of the prompt are wanted. Then its last token need not be read.
    scores: bool,
}

impl Reader<'_> {
    /// A text, some tokens, or a list of either.
    fn prompts(&self, prompt: &Value) -> Result<Vec<Question>, ApiError> {
        let questions = match prompt {
            Value::Null => vec![self.text("")?],
            Value::String(text) => vec![self.text(text)?],
            Value::Array(list) if list.first().is_none_or(Value::is_number) => vec![self.tokens(list)?],
            Value::Array(list) if list.len() > MAX_PROMPTS => {
                return Err(wrong(format!("{} prompts in one request, of {MAX_PROMPTS} at most", list.len())));
            }
            Value::Array(list) => list.iter().map(|one| self.prompt(one)).collect::<Result<_, _>>()?,
            _ => return Err(wrong("prompt is not a text, a list of tokens, or a list of these")),
        };
        Ok(questions)
    }

    fn prompt(&self, prompt: &Value) -> Result<Question, ApiError> {
        match prompt {
            Value::String(text) => self.text(text),
            Value::Array(list) => self.tokens(list),
            _ => Err(wrong("prompt mixes texts, tokens and other values")),
        }
    }

    fn text(&self, text: &str) -> Result<Question, ApiError> {
        let tokenizer = self.served.tokenizer();
        let own = tokenizer.encode(text).map_err(|error| wrong(error.to_string()))?;
        let opening = tokenizer.beginning("").map_err(|error| wrong(error.to_string()))?;
        let question = Question {
            hidden: opening.len(),
            tokens: [opening, own].concat(),
            text: Some(text.to_owned()),
            is_full: false,
        };
        self.fit(question)
    }

    fn tokens(&self, list: &[Value]) -> Result<Question, ApiError> {
        if list.is_empty() {
            return self.text("");
        }
        let vocab = self.served.is_token().len();
        let token = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < vocab);
            id.ok_or_else(|| wrong(format!("{value} in a prompt is not a token below {vocab}")))
        };
        let tokens = list.iter().map(token).collect::<Result<Vec<u32>, _>>()?;
        self.fit(Question { tokens, hidden: 0, text: None, is_full: false })
    }

    /// Whether the model can read the prompt. One token more than its context has fits where the prompt is scored: the
    /// last token is told, and nothing is read after it.
    fn fit(&self, question: Question) -> Result<Question, ApiError> {
        let (found, positions) = (question.tokens.len(), self.served.positions());
        match found {
            _ if found <= positions => Ok(question),
            _ if found == positions + 1 && self.scores => Ok(Question { is_full: true, ..question }),
            _ => Err(ApiError::context("prompt", found, positions)),
        }
    }
}

fn wrong(message: impl Into<String>) -> ApiError {
    ApiError::field("prompt", message)
}
