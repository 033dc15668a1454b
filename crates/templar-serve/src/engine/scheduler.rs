//! Which tokens are computed in a step.
//!
//! A text that is being continued gets one row in every step. Prompts get the rest of a step's rows, block by block and
//! asker by asker in turn, so a long prompt does not stop the others. Of the places for texts, one asker has all but a
//! few at most, and a place that becomes free goes to whoever holds the fewest. So a short question is answered soon,
//! whatever else is asked. The division can be seen in the time that an answer takes, and nowhere else.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use templar_model::decoder::{Decoder, Reading, TextCache};
use templar_model::generate::LanguageModel;

use super::job::{Asker, Job};
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

/// One place of so many is kept from whoever holds all others.
const KEPT_FREE: usize = 8;

/// How much is computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// The largest number of texts under way at the same time. Further ones wait. One prompt with several texts may
    /// exceed it.
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
    /// The steps so far. The askers take turns in being the first.
    steps: usize,
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
        Self { batching, waiting: VecDeque::new(), active: Vec::new(), prefixes, steps: 0, metrics }
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
        self.steps += 1;
        self.metrics.texts_active.set(self.active.iter().map(Text::count).sum::<usize>() as i64);
        self.metrics.texts_waiting.set(self.waiting.iter().map(|job| job.texts.len()).sum::<usize>() as i64);
    }

    /// Begins with waiting jobs while there is room.
    fn admit(&mut self) {
        while let Some(index) = self.next_job() {
            let Some(job) = self.waiting.remove(index) else { return };
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

    /// The place of the waiting job that is next: that of the asker who holds the fewest places, and of equal ones the
    /// first that came. An asker who holds some gets no more than its share.
    fn next_job(&self) -> Option<usize> {
        let places = self.batching.texts;
        let share = places.saturating_sub(places.div_ceil(KEPT_FREE)).max(1);
        let mut askers: Vec<&Asker> = Vec::new();
        for text in &self.active {
            if !askers.contains(&&text.asker) {
                askers.push(&text.asker);
            }
        }
        // What an asker holds beyond its share, with one prompt of many texts, takes no place from the others.
        if askers.into_iter().map(|asker| self.held(asker).min(share)).sum::<usize>() >= places {
            return None;
        }
        let waiting =
            self.waiting.iter().enumerate().map(|(index, job)| (self.held(&job.asker), index, job.texts.len()));
        let fitting = waiting.filter(|&(held, _, texts)| held == 0 || held + texts <= share);
        fitting.min_by_key(|&(held, index, _)| (held, index)).map(|(_, index, _)| index)
    }

    /// The places that an asker holds.
    pub(super) fn held(&self, asker: &Asker) -> usize {
        self.active.iter().filter(|text| text.asker == *asker).map(Text::count).sum()
    }

    /// The parts of a model's texts for one step.
    fn parts(&self, model: &Arc<Served>) -> Vec<Part> {
        let own = self.active.iter().enumerate().filter(|(_, text)| Arc::ptr_eq(&text.model, model));
        let mut parts = Vec::new();
        let mut prompts: Vec<(&Asker, VecDeque<(usize, usize)>)> = Vec::new();
        for (index, text) in own {
            let (from, pending) = (text.read, text.pending());
            parts.push(Part { index, from, to: if pending == 1 { from + 1 } else { from } });
            if pending > 1 {
                let prompt = (parts.len() - 1, from + pending);
                match prompts.iter_mut().find(|(asker, _)| **asker == text.asker) {
                    Some((_, waiting)) => waiting.push_back(prompt),
                    None => prompts.push((&text.asker, VecDeque::from([prompt]))),
                }
            }
        }
        let askers = prompts.len().max(1);
        prompts.rotate_left(self.steps % askers);
        let mut turns: VecDeque<_> = prompts.into_iter().map(|(_, waiting)| waiting).collect();
        let mut budget = self.batching.rows.max(BLOCK);
        while let Some(mut waiting) = turns.pop_front() {
            let Some(&(place, end)) = waiting.front() else { continue };
            let part = &mut parts[place];
            let to = ((part.to / BLOCK + 1) * BLOCK).min(end);
            let Some(left) = budget.checked_sub(to - part.to) else { break };
            (budget, part.to) = (left, to);
            if to == end {
                waiting.pop_front();
            }
            turns.push_back(waiting);
        }
        parts.retain(|part| part.to > part.from);
        parts
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
    let Job { asker, model, prompt, mut wanted, texts, events, mut places } = job;
    let last = texts.len() - 1;
    let text = |(index, one)| {
        let places = if index == last { places.take() } else { None };
        let (asker, model, prompt, events) = (asker.clone(), model.clone(), prompt.clone(), events.clone());
        let own = Job { asker, model, prompt, wanted: wanted.clone(), texts: vec![one], events, places };
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
