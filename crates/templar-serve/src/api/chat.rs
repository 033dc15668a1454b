//! `/v1/chat/completions`: conversations, joined by the tokenizer's own template. Nothing is guessed without one.

use serde_json::{Map, Value, json};
use templar_data::ChatError;

use super::ApiError;
use super::fields::Fields;
use super::request::{Common, Question, Request, Rest, top};
use crate::served::Served;

/// The largest number of turns in a conversation.
const MAX_TURNS: usize = 4096;

impl Request {
    /// Understands the body of a chat completion. `fresh` is the seed of a request that names none.
    ///
    /// # Errors
    /// The reason why it is refused, with the field.
    pub(crate) fn chat(body: &Value, served: &Served, fresh: u64) -> Result<Self, ApiError> {
        let fields = Fields::of(body)?;
        let common = Common::read(&fields, served, fresh)?;
        for name in ["tools", "functions"] {
            fields.neutral(name, |value| value.as_array().is_some_and(Vec::is_empty))?;
        }
        fields.neutral("tool_choice", |value| value == "none" || value == "auto")?;
        fields.neutral("response_format", |format| format["type"] == "text")?;
        fields.neutral("audio", |_| false)?;
        let Some(chat) = served.chat() else {
            let message = "the model has no chat template; /v1/completions continues a text, and \
                `templar serve --chat-template FILE` names a template";
            return Err(ApiError::unsupported("messages", message));
        };
        let tokens = chat.prompt(&turns(&fields)?).map_err(refused)?;
        let (found, positions) = (tokens.len(), served.positions());
        if found > positions || found == 0 {
            return Err(ApiError::context("messages", found, positions));
        }
        let limits = 0..=u64::from(u32::MAX);
        let asked = match fields.whole("max_completion_tokens", limits.clone())? {
            None => fields.whole("max_tokens", limits)?,
            asked => asked,
        };
        // Without a limit an answer may fill the context.
        let max_tokens = asked.map_or(positions + 1 - found, |tokens| tokens as usize);
        let logprobs = match fields.flag("logprobs")? {
            false => None,
            true => Some(top(&fields, "top_logprobs")?.unwrap_or(0)),
        };
        let question = Question { hidden: tokens.len(), tokens, text: None, is_full: false };
        common.request(vec![question], Rest { is_chat: true, max_tokens, logprobs, echo: false })
    }
}

/// The turns as templates take them: each content is one text.
fn turns(fields: &Fields<'_>) -> Result<Vec<Value>, ApiError> {
    let wrong = |message: &str| ApiError::field("messages", message);
    let list = fields.value("messages").and_then(Value::as_array);
    let list = list.filter(|turns| !turns.is_empty()).ok_or_else(|| wrong("messages is not a list of turns"))?;
    if list.len() > MAX_TURNS {
        return Err(wrong(&format!("{} messages, of {MAX_TURNS} at most", list.len())));
    }
    let turn = |turn: &Value| {
        let fields: &Map<String, Value> = turn.as_object().ok_or_else(|| wrong("a message is not an object"))?;
        let role = fields.get("role").and_then(Value::as_str).ok_or_else(|| wrong("a message has no role"))?;
        let content = content(fields.get("content").unwrap_or(&Value::Null))?;
        Ok(json!({ "role": role, "content": content }))
    };
    list.iter().map(turn).collect()
}

/// The text of a content: a text, or a list of parts that are texts.
fn content(content: &Value) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::Array(parts) => {
            let part = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                _ => Err(ApiError::unsupported("messages", "only parts of the type \"text\" are read in a message")),
            };
            parts.iter().map(part).collect()
        }
        _ => Err(ApiError::field("messages", "the content of a message is not a text")),
    }
}

fn refused(error: ChatError) -> ApiError {
    ApiError::field("messages", error.to_string())
}
