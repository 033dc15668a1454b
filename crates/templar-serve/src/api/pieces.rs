//! Tokens with their probabilities, in the two shapes that clients know.
//!
//! Probabilities are written as 64-bit numbers, which hold every bit of them. So equal ones are written alike, and
//! clients may compare them.

use serde_json::{Map, Value, json};
use templar_data::Tokenizer;

use super::ApiError;
use super::request::Question;
use crate::engine::{Detokenizer, Score};

/// A token of an answer.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Its part of the text. The parts of all tokens are the text.
    pub(super) text: String,
    /// Its probability. The first token of a prompt has none.
    pub(super) score: Option<Score>,
}

/// The tokens of a prompt that the client wrote, with the scores of all but the first.
pub(super) fn prompt(question: &Question, scores: Vec<Score>, tokenizer: &Tokenizer) -> Result<Vec<Piece>, ApiError> {
    let (before, own) = question.tokens.split_at(question.hidden);
    let mut detokenizer = Detokenizer::after(before);
    let scores = std::iter::once(None).chain(scores.into_iter().map(Some));
    let mut pieces = Vec::with_capacity(own.len());
    for (&token, score) in own.iter().zip(scores) {
        let text = detokenizer.push(tokenizer, token).map_err(ApiError::failed)?;
        pieces.push(Piece { text, score });
    }
    if let Some(last) = pieces.last_mut() {
        last.text.push_str(&detokenizer.finish(tokenizer).map_err(ApiError::failed)?);
    }
    Ok(pieces)
}

/// The text of a prompt as an answer repeats it.
pub(super) fn echo(question: &Question, tokenizer: &Tokenizer) -> Result<String, ApiError> {
    match &question.text {
        Some(text) => Ok(text.clone()),
        None => tokenizer.decode(&question.tokens).map_err(ApiError::failed),
    }
}

/// The `logprobs` of a completion. `offset` is where the first piece begins, in characters. After a prompt that fills
/// the context there is no token to tell; clients still find one more entry than the prompt has tokens, an empty one.
pub(super) fn of_completion(pieces: &[Piece], mut offset: usize, is_full: bool, tokenizer: &Tokenizer) -> Value {
    let (mut tokens, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        tokens.push(json!(piece.text));
        logprobs.push(piece.score.as_ref().map_or(Value::Null, |score| number(score.logprob)));
        tops.push(piece.score.as_ref().map_or(Value::Null, |score| alternatives(score, tokenizer)));
        offsets.push(json!(offset));
        offset += piece.text.chars().count();
    }
    if is_full {
        tokens.push(json!(""));
        logprobs.push(Value::Null);
        tops.push(Value::Null);
        offsets.push(json!(offset));
    }
    json!({ "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}

/// The `logprobs` of a chat completion.
pub(super) fn of_chat(pieces: &[Piece], tokenizer: &Tokenizer) -> Value {
    let one = |token: u32, logprob: f32| {
        let name = name(tokenizer, token);
        json!({ "bytes": name.as_bytes(), "token": name, "logprob": number(logprob) })
    };
    let scores = pieces.iter().filter_map(|piece| piece.score.as_ref());
    let content: Vec<Value> = scores
        .map(|score| {
            let mut value = one(score.token, score.logprob);
            value["top_logprobs"] = score.top.iter().map(|&(token, logprob)| one(token, logprob)).collect();
            value
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// The likeliest tokens by name, and the token itself. Of two tokens with one name the likelier is told.
fn alternatives(score: &Score, tokenizer: &Tokenizer) -> Value {
    let mut named = Map::new();
    for &(token, logprob) in score.top.iter().chain([&(score.token, score.logprob)]) {
        named.entry(name(tokenizer, token)).or_insert_with(|| number(logprob));
    }
    Value::Object(named)
}

/// The text of one token, or its name in the vocabulary where it is not a text of its own.
fn name(tokenizer: &Tokenizer, token: u32) -> String {
    match tokenizer.decode(&[token]) {
        Ok(text) if !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) => text,
        _ => tokenizer.token(token).unwrap_or_else(|| format!("token {token}")),
    }
}

fn number(logprob: f32) -> Value {
    json!(f64::from(logprob))
}
