//! A text that is under way: what of it has been read, what its logits are used for, and when it has ended.

use std::sync::Arc;

use templar_model::decoder::{Reading, TextCache};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::job::{Asker, Event, Finish, Job, Wanted};
use super::scores::{Score, score};
use super::writer::{WriteError, Writer, Written};
use crate::served::Served;

/// A prompt and what continues it so far.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) asker: Asker,
    pub(super) model: Arc<Served>,
    /// The prompt, and then the tokens that were chosen.
    pub(super) tokens: Vec<u32>,
    pub(super) cache: TextCache,
    /// How many tokens have been read.
    pub(super) read: usize,
    pub(super) has_ended: bool,
    prompt: usize,
    wanted: Arc<Wanted>,
    number: usize,
    writer: Writer,
    /// Further texts that continue the same prompt. They begin when it has been read.
    others: Vec<(usize, Writer)>,
    scores: Vec<Score>,
    events: UnboundedSender<Event>,
    places: Arc<Option<OwnedSemaphorePermit>>,
}

impl Text {
    /// The text of a job. `kept` is what is known of its beginning.
    pub(super) fn new(job: Job, kept: TextCache) -> Self {
        let Job { asker, model, prompt, wanted, texts, events, places } = job;
        let writer = |(number, sampler)| (number, Writer::new(number, sampler, &prompt, &wanted));
        let mut writers: Vec<(usize, Writer)> = texts.into_iter().map(writer).collect();
        let (number, writer) = writers.remove(0);
        Self {
            asker,
            read: kept.len(),
            cache: kept,
            prompt: prompt.len(),
            tokens: prompt,
            has_ended: false,
            model,
            wanted: Arc::new(wanted),
            number,
            writer,
            others: writers,
            scores: Vec::new(),
            events,
            places: Arc::new(places),
        }
    }

    /// How many texts it is or becomes.
    pub(super) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.events.is_closed()
    }

    /// The number of tokens that are still to be read before the next choice, or before the end.
    pub(super) fn pending(&self) -> usize {
        let needed = match (self.wanted.max_tokens, self.wanted.score_prompt_from) {
            (0, None) => 0,
            // The last token of the prompt is scored, and nothing follows it.
            (0, Some(_)) => self.prompt - 1,
            _ => self.tokens.len(),
        };
        needed.saturating_sub(self.read)
    }

    /// The next tokens, up to the place `to`.
    pub(super) fn reading(&mut self, to: usize) -> Reading<'_> {
        let wanted = (self.read..to).find(|&place| self.wants(place)).map_or(0, |first| to - first);
        Reading { cache: &mut self.cache, tokens: &self.tokens[self.read..to], wanted }
    }

    /// Whether the logits after the token at `place` are of use.
    pub(super) fn wants(&self, place: usize) -> bool {
        let is_scored = self.wanted.score_prompt_from.is_some_and(|from| place >= from) && place + 1 < self.prompt;
        is_scored || (self.wanted.max_tokens > 0 && place + 1 == self.tokens.len())
    }

    /// Uses the logits after the token at `place`, which was wanted. Returns the texts that begin here.
    ///
    /// # Errors
    /// The text cannot be continued.
    pub(super) fn use_logits(&mut self, place: usize, logits: &[f32]) -> Result<Vec<Text>, WriteError> {
        if place + 1 < self.prompt {
            let token = self.tokens[place + 1];
            self.scores.push(score(logits, token, self.wanted.logprobs.unwrap_or(0)));
            return Ok(Vec::new());
        }
        self.tell_scores();
        let is_last = self.tokens.len() >= self.model.positions();
        let mut begun = Vec::new();
        if !self.others.is_empty() {
            // All of them read the prompt's keys and values where they are.
            self.cache.share();
        }
        for (number, mut writer) in std::mem::take(&mut self.others) {
            if let Written::Token(token) = write(&self.model, &self.wanted, &mut writer, logits, is_last, &self.events)?
            {
                begun.push(self.other(number, writer, token));
            }
        }
        match write(&self.model, &self.wanted, &mut self.writer, logits, is_last, &self.events)? {
            Written::Token(token) => self.tokens.push(token),
            Written::Ended => self.has_ended = true,
        }
        Ok(begun)
    }

    /// Ends a text of which no token is wanted, once its prompt has been read as far as is needed.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub(super) fn end_unwritten(&mut self) -> Result<(), WriteError> {
        if self.wanted.max_tokens > 0 || self.pending() > 0 || self.has_ended {
            return Ok(());
        }
        self.tell_scores();
        let (tokenizer, events) = (self.model.tokenizer(), &self.events);
        let mut tell = |event| drop(events.send(event));
        for (_, writer) in &mut self.others {
            writer.end(tokenizer, Finish::Length, &mut tell)?;
        }
        self.writer.end(tokenizer, Finish::Length, &mut tell)?;
        self.has_ended = true;
        Ok(())
    }

    /// Tells that the computation failed.
    pub(super) fn fail(&mut self, reason: impl std::fmt::Display) {
        drop(self.events.send(Event::Failed(reason.to_string())));
        self.has_ended = true;
    }

    /// The probabilities of the prompt, once.
    fn tell_scores(&mut self) {
        if self.wanted.score_prompt_from.is_some() && self.tokens.len() == self.prompt {
            let scores = std::mem::take(&mut self.scores);
            drop(self.events.send(Event::Prompt { text: self.number, scores }));
        }
    }

    /// Another text that continues the same prompt, with its first token.
    fn other(&self, number: usize, writer: Writer, token: u32) -> Self {
        Self {
            asker: self.asker.clone(),
            model: self.model.clone(),
            tokens: [&self.tokens[..], &[token]].concat(),
            cache: self.cache.clone(),
            read: self.read,
            has_ended: false,
            prompt: self.prompt,
            wanted: self.wanted.clone(),
            number,
            writer,
            others: Vec::new(),
            scores: Vec::new(),
            events: self.events.clone(),
            places: self.places.clone(),
        }
    }
}

/// One choice. A receiver that is gone is noticed at the next step.
fn write(
    model: &Served,
    wanted: &Wanted,
    writer: &mut Writer,
    logits: &[f32],
    is_last: bool,
    events: &UnboundedSender<Event>,
) -> Result<Written, WriteError> {
    writer.write(model, wanted, logits, is_last, &mut |event| drop(events.send(event)))
}
