//! An answer that is written as one document.

use serde_json::{Value, json};

use super::pieces::{self, Piece};
use super::{ApiError, Request};
use crate::engine::{Event, Finish, Score};
use crate::served::Served;

/// What stands around an answer.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    /// The name of the answer.
    pub(crate) id: String,
    /// When it was asked for, in seconds since 1970.
    pub(crate) created: u64,
}

/// Collects the answer to a request.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    request: &'a Request,
    served: &'a Served,
    texts: Vec<Text>,
    generated: u64,
}

/// One text of an answer.
#[derive(Debug, Default)]
struct Text {
    text: String,
    pieces: Vec<Piece>,
    finish: Option<Finish>,
}

impl<'a> Answer<'a> {
    /// An answer of which nothing is known yet.
    ///
    /// # Errors
    /// The prompt cannot be repeated.
    pub(crate) fn new(request: &'a Request, served: &'a Served) -> Result<Self, ApiError> {
        let mut texts = Vec::new();
        for question in &request.questions {
            let text = if request.echo { pieces::echo(question, served.tokenizer())? } else { String::new() };
            texts.extend((0..request.n).map(|_| Text { text: text.clone(), ..Text::default() }));
        }
        Ok(Self { request, served, texts, generated: 0 })
    }

    /// Takes a part of the answer.
    ///
    /// # Errors
    /// The computation failed.
    pub(crate) fn take(&mut self, event: Event) -> Result<(), ApiError> {
        match event {
            Event::Prompt { text, scores } => self.prompt(text, scores)?,
            Event::Token { text, added, piece, score } => {
                self.generated += 1;
                let own = &mut self.texts[text];
                own.text.push_str(&added);
                if score.is_some() {
                    own.pieces.push(Piece { text: piece, score });
                }
            }
            Event::End { text, added, finish } => {
                let own = &mut self.texts[text];
                own.text.push_str(&added);
                own.finish = Some(finish);
            }
            Event::Failed(reason) => return Err(ApiError::failed(reason)),
        }
        Ok(())
    }

    /// The scores of a prompt stand at the beginning of every text that continues it.
    fn prompt(&mut self, text: usize, scores: Vec<Score>) -> Result<(), ApiError> {
        let question = text / self.request.n;
        let pieces = pieces::prompt(&self.request.questions[question], scores, self.served.tokenizer())?;
        for own in &mut self.texts[question * self.request.n..(question + 1) * self.request.n] {
            own.pieces.splice(0..0, pieces.iter().cloned());
        }
        Ok(())
    }

    /// Whether every text has ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.texts.iter().all(|text| text.finish.is_some())
    }

    /// The number of tokens that were generated so far.
    pub(crate) fn generated(&self) -> u64 {
        self.generated
    }

    /// The document.
    pub(crate) fn document(&self, label: &Label) -> Value {
        let choices: Vec<Value> = self.texts.iter().enumerate().map(|(index, text)| self.choice(index, text)).collect();
        let kind = if self.request.is_chat { "chat.completion" } else { "text_completion" };
        let mut document = around(label, kind, self.served, choices);
        document["usage"] = usage(self.request, self.generated);
        document
    }

    fn choice(&self, index: usize, text: &Text) -> Value {
        let tokenizer = self.served.tokenizer();
        let finish = finish_reason(text.finish);
        let is_full = self.request.questions[index / self.request.n].is_full;
        let scores = |write: &dyn Fn() -> Value| self.request.logprobs.map_or(Value::Null, |_| write());
        if self.request.is_chat {
            let message = json!({ "role": "assistant", "content": text.text, "refusal": null });
            let logprobs = scores(&|| pieces::of_chat(&text.pieces, tokenizer));
            json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": finish })
        } else {
            let has_more = is_full && self.request.max_tokens > 0;
            let logprobs = scores(&|| pieces::of_completion(&text.pieces, 0, has_more, tokenizer));
            json!({ "index": index, "text": text.text, "logprobs": logprobs, "finish_reason": finish })
        }
    }
}

/// A document with these choices.
pub(super) fn around(label: &Label, kind: &str, served: &Served, choices: Vec<Value>) -> Value {
    let about = served.about();
    json!({
        "id": label.id,
        "object": kind,
        "created": label.created,
        "model": about.name,
        "system_fingerprint": about.checkpoint,
        "choices": choices,
    })
}

/// The numbers of tokens. Tokens that stand before a text are counted, since the model reads them.
pub(super) fn usage(request: &Request, generated: u64) -> Value {
    let prompted = request.prompted();
    json!({ "prompt_tokens": prompted, "completion_tokens": generated, "total_tokens": prompted + generated })
}

/// The end of a text in the words of the interface.
pub(super) fn finish_reason(finish: Option<Finish>) -> Option<&'static str> {
    finish.map(|finish| match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    })
}
