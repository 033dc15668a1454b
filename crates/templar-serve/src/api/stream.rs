//! An answer that is written as events while it is computed.
//!
//! Each event is one line `data: JSON` and an empty line, and the last is `data: [DONE]`. No event has a name, since
//! clients take named ones for parts of the answer.

use serde_json::{Value, json};

use super::answer::{around, finish_reason, usage};
use super::pieces::{self, Piece};
use super::request::StreamOptions;
use super::{ApiError, Label, Request};
use crate::engine::{Event, Score};
use crate::served::Served;

/// The last event.
const DONE: &str = "data: [DONE]\n\n";

/// A document as an event.
pub(crate) fn event(document: &Value) -> String {
    format!("data: {document}\n\n")
}

/// Writes the events of one answer.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    pub(crate) request: &'a Request,
    pub(crate) served: &'a Served,
    pub(crate) label: &'a Label,
}

/// One part of one text.
struct Part<'a> {
    index: usize,
    added: &'a str,
    pieces: &'a [Piece],
    finish: Option<&'static str>,
}

impl Stream<'_> {
    /// The events before anything is computed: the roles of a conversation, or prompts that are repeated.
    ///
    /// # Errors
    /// The prompt cannot be repeated.
    pub(crate) fn begin(&self) -> Result<String, ApiError> {
        let mut events = String::new();
        for index in 0..self.request.texts() {
            if self.request.is_chat {
                let delta = json!({ "role": "assistant", "content": "", "refusal": null });
                events.push_str(&self.chunk(json!({ "index": index, "delta": delta, "finish_reason": null })));
            } else if self.request.echo && !self.request.scores_prompt() {
                let question = &self.request.questions[index / self.request.n];
                let added = pieces::echo(question, self.served.tokenizer())?;
                events.push_str(&self.part(Part { index, added: &added, pieces: &[], finish: None }));
            }
        }
        Ok(events)
    }

    /// The events of a part of the answer. There may be none.
    ///
    /// # Errors
    /// The computation failed.
    pub(crate) fn take(&self, event: Event) -> Result<String, ApiError> {
        match event {
            Event::Prompt { text, scores } => self.prompt(text, scores),
            Event::Token { text, added, piece, score } => {
                let pieces: Vec<Piece> =
                    score.map(|score| Piece { text: piece, score: Some(score) }).into_iter().collect();
                if added.is_empty() && pieces.is_empty() {
                    return Ok(String::new());
                }
                Ok(self.part(Part { index: text, added: &added, pieces: &pieces, finish: None }))
            }
            Event::End { text, added, finish } => {
                let finish = finish_reason(Some(finish));
                Ok(self.part(Part { index: text, added: &added, pieces: &[], finish }))
            }
            Event::Failed(reason) => Err(ApiError::failed(reason)),
        }
    }

    /// The events behind the last part.
    pub(crate) fn end(&self, generated: u64) -> String {
        let mut events = String::new();
        if self.request.stream == Some(StreamOptions { include_usage: true }) {
            let mut document = around(self.label, self.kind(), self.served, Vec::new());
            document["usage"] = usage(self.request, generated);
            events.push_str(&event(&document));
        }
        events.push_str(DONE);
        events
    }

    fn prompt(&self, text: usize, scores: Vec<Score>) -> Result<String, ApiError> {
        let question = &self.request.questions[text / self.request.n];
        let tokenizer = self.served.tokenizer();
        let (added, pieces) = (pieces::echo(question, tokenizer)?, pieces::prompt(question, scores, tokenizer)?);
        let first = text / self.request.n * self.request.n;
        let part = |index| self.part(Part { index, added: &added, pieces: &pieces, finish: None });
        Ok((first..first + self.request.n).map(part).collect())
    }

    fn part(&self, part: Part<'_>) -> String {
        let Part { index, added, pieces, finish } = part;
        let tokenizer = self.served.tokenizer();
        let is_scored = self.request.logprobs.is_some() && !pieces.is_empty();
        if self.request.is_chat {
            let delta = if added.is_empty() { json!({}) } else { json!({ "content": added }) };
            let logprobs = if is_scored { pieces::of_chat(pieces, tokenizer) } else { Value::Null };
            self.chunk(json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish }))
        } else {
            let logprobs = if is_scored { pieces::of_completion(pieces, 0, false, tokenizer) } else { Value::Null };
            self.chunk(json!({ "index": index, "text": added, "logprobs": logprobs, "finish_reason": finish }))
        }
    }

    fn chunk(&self, choice: Value) -> String {
        let mut document = around(self.label, self.kind(), self.served, vec![choice]);
        if self.request.stream == Some(StreamOptions { include_usage: true }) {
            document["usage"] = Value::Null;
        }
        event(&document)
    }

    fn kind(&self) -> &'static str {
        if self.request.is_chat { "chat.completion.chunk" } else { "text_completion" }
    }
}
