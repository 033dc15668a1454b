//! Which tokens are computed in a step.
//!
//! A text that is being continued gets one row in every step. Prompts share the rest of a step's rows in the order in
//! which they came, so a long one does not stop the others. The division can be seen in the time that an answer takes,
//! and nowhere else.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use templar_model::decoder::{Decoder, Reading, TextCache};
use templar_model::generate::LanguageModel;

use super::job::Job;
use super::prefixes::Prefixes;
use super::text::Text;
use super::writer::WriteError;
use crate::metrics::ServeMetrics;
use crate::served::{Computation, Served};

/// Rows that the whole pass takes together. A prompt is divided at multiples of it.
const BLOCK: usize = 64;
/// Logits that are held at a time: 16 MiB of them, but at least so many rows.
const LOGITS: usize = 1 << 22;
const LEAST_ROWS: usize = 32;

/// How much is computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// The largest number of texts under way at the same time. Further ones wait.
    pub texts: usize,
    /// The largest number of rows of prompts in one step.
    pub rows: usize,
    /// The largest number of tokens whose keys and values are kept for later texts.
    pub kept_tokens: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { texts: 16, rows: 256, kept_tokens: 16_384 }
    }
}

/// All texts that are under way or wait.
#[derive(Debug)]
pub(super) struct Scheduler {
    batching: Batching,
    waiting: VecDeque<Job>,
    active: Vec<Text>,
    prefixes: Prefixes,
    metrics: Arc<ServeMetrics>,
}

/// The next tokens of a text: up to the place `to`.
struct Part {
    /// Its place among the active texts.
    index: usize,
    from: usize,
    to: usize,
}

impl Scheduler {
    pub(super) fn new(batching: Batching, metrics: Arc<ServeMetrics>) -> Self {
        let prefixes = Prefixes::new(batching.kept_tokens);
        Self { batching, waiting: VecDeque::new(), active: Vec::new(), prefixes, metrics }
    }

    /// Takes a job, which waits for its turn.
    pub(super) fn submit(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Whether there is nothing to compute.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty()
    }

    /// Computes the next tokens of all texts that are under way.
    pub(super) fn step(&mut self) {
        self.active.retain(|text| !text.is_unwanted());
        self.waiting.retain(|job| !job.events.is_closed());
        self.admit();
        let mut models: Vec<Arc<Served>> = Vec::new();
        for text in &self.active {
            if !models.iter().any(|known| Arc::ptr_eq(known, &text.model)) {
                models.push(text.model.clone());
            }
        }
        for model in models {
            match model.computation() {
                Computation::Exact(decoder) => self.step_exact(&model, decoder),
                Computation::Foreign(foreign) => self.step_foreign(&model, foreign),
            }
        }
        self.end();
        self.metrics.texts_active.set(self.active.iter().map(Text::count).sum::<usize>() as i64);
        self.metrics.texts_waiting.set(self.waiting.iter().map(|job| job.texts.len()).sum::<usize>() as i64);
    }

    /// Begins with waiting jobs while there is room. A job that asks for several texts may exceed it.
    fn admit(&mut self) {
        while self.active.iter().map(Text::count).sum::<usize>() < self.batching.texts {
            let Some(job) = self.waiting.pop_front() else { return };
            if job.model.is_exact() {
                // The last token is always computed, since the choice after it is. So is every token that is scored.
                let last = job.prompt.len() - 1;
                let reusable = job.wanted.score_prompt_from.map_or(last, |from| from.min(last));
                let kept = self.prefixes.find(&job.model, &job.prompt[..reusable]);
                self.active.push(Text::new(job, kept));
            } else {
                self.active.extend(each_alone(job));
            }
        }
    }

    /// The parts of a model's texts for one step.
    fn parts(&self, model: &Arc<Served>) -> Vec<Part> {
        let mut budget = self.batching.rows.max(BLOCK);
        let own = self.active.iter().enumerate().filter(|(_, text)| Arc::ptr_eq(&text.model, model));
        let part = |(index, text): (usize, &Text)| {
            let (from, pending) = (text.read, text.pending());
            let mut rows = pending;
            if pending > 1 {
                rows = pending.min(budget);
                let aligned = ((from + rows) / BLOCK * BLOCK).saturating_sub(from);
                if rows < pending && aligned > 0 {
                    rows = aligned;
                }
                budget -= rows;
            }
            Part { index, from, to: from + rows }
        };
        own.map(part).filter(|part| part.to > part.from).collect()
    }

    fn step_exact(&mut self, model: &Arc<Served>, decoder: &Decoder) {
        let parts = self.parts(model);
        let mut readings: Vec<Reading<'_>> = Vec::with_capacity(parts.len());
        let mut next = parts.iter().peekable();
        for (index, text) in self.active.iter_mut().enumerate() {
            if let Some(part) = next.next_if(|part| part.index == index) {
                readings.push(text.reading(part.to));
            }
        }
        let counts: Vec<usize> = readings.iter().map(|reading| reading.wanted).collect();
        let states = decoder.read(&mut readings);
        let states = match states {
            Ok(states) => states,
            Err(error) => return parts.iter().for_each(|part| self.active[part.index].fail(&error)),
        };
        self.metrics.tokens_computed.inc_by(parts.iter().map(|part| (part.to - part.from) as u64).sum());
        let hidden = decoder.hidden_size();
        let (mut wanted, mut used) = (Vec::new(), Vec::new());
        let mut rest = &states[..];
        for (part, count) in parts.iter().zip(counts) {
            let (own, others) = rest.split_at(count * hidden);
            for (place, state) in (part.to - count..part.to).zip(own.chunks_exact(hidden)) {
                if self.active[part.index].wants(place) {
                    wanted.push((part.index, place));
                    used.extend_from_slice(state);
                }
            }
            self.active[part.index].read = part.to;
            rest = others;
        }
        let rows = (LOGITS / decoder.vocab_size()).max(LEAST_ROWS);
        for (places, states) in wanted.chunks(rows).zip(used.chunks(rows * hidden)) {
            let logits = decoder.logits(states);
            for (&(index, place), logits) in places.iter().zip(logits.chunks_exact(decoder.vocab_size())) {
                self.use_logits(index, place, logits);
            }
        }
    }

    /// Goes on with the first text of the model, up to the next logits that are of use.
    fn step_foreign(&mut self, model: &Arc<Served>, foreign: &Mutex<LanguageModel>) {
        let Some(index) = self.active.iter().position(|text| Arc::ptr_eq(&text.model, model)) else { return };
        let text = &mut self.active[index];
        let Some(place) = (text.read..text.read + text.pending()).find(|&place| text.wants(place)) else { return };
        let computed = foreign.lock().next_logits(&text.tokens[..=place], text.read);
        self.metrics.tokens_computed.inc_by((place + 1 - text.read) as u64);
        text.read = place + 1;
        match computed {
            Ok(logits) => self.use_logits(index, place, &logits),
            Err(error) => text.fail(error),
        }
    }

    fn use_logits(&mut self, index: usize, place: usize, logits: &[f32]) {
        let text = &mut self.active[index];
        if text.has_ended {
            return;
        }
        match text.use_logits(place, logits) {
            Ok(begun) => self.active.extend(begun),
            Err(error) => text.fail(cause(&error)),
        }
    }

    /// Takes away the texts that have ended, and keeps their keys and values.
    fn end(&mut self) {
        for text in &mut self.active {
            if let Err(error) = text.end_unwritten() {
                text.fail(cause(&error));
            }
        }
        for text in self.active.extract_if(.., |text| text.has_ended) {
            self.prefixes.keep(&text.model, text.tokens, text.cache);
        }
    }
}

/// The texts of a job for candle, whose cache is that of one text: each reads the prompt itself. The first tells the
/// scores of the prompt, and the last holds the places of all.
fn each_alone(job: Job) -> Vec<Text> {
    let Job { model, prompt, mut wanted, texts, events, mut places } = job;
    let last = texts.len() - 1;
    let text = |(index, one)| {
        let places = if index == last { places.take() } else { None };
        let (model, prompt, events) = (model.clone(), prompt.clone(), events.clone());
        let own = Job { model, prompt, wanted: wanted.clone(), texts: vec![one], events, places };
        wanted.score_prompt_from = None;
        Text::new(own, TextCache::default())
    };
    texts.into_iter().enumerate().map(text).collect()
}

/// An error with the one behind it.
fn cause(error: &WriteError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
