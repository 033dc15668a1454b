//! What the endpoints have in common: a question to the model, and how the answer is wanted.

use std::sync::Arc;

use templar_manifest::Hash;
use templar_model::generate::{Sampler, Sampling};
use tokio::sync::mpsc::UnboundedSender;

use super::ApiError;
use super::fields::Fields;
use crate::engine::{Asker, Event, Job, Wanted};
use crate::served::Served;

/// The largest number of prompts in one request.
pub(super) const MAX_PROMPTS: usize = 1024;
/// The largest number of texts that one request asks for.
const MAX_CHOICES: usize = 1024;
/// The largest number of alternatives that are told of a token.
const MAX_TOP: u64 = 20;
/// The largest number of stop sequences, and their greatest length in bytes.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// A prompt as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The tokens to continue.
    pub(crate) tokens: Vec<u32>,
    /// How many of the first tokens the client did not write: those that stand before a text.
    pub(crate) hidden: usize,
    /// The text that the client wrote, if it wrote text.
    pub(crate) text: Option<String>,
    /// The model has no place for another token, so the probabilities of the prompt are all that there is.
    pub(crate) is_full: bool,
}

/// A request that was understood.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) questions: Vec<Question>,
    /// Texts for each question.
    pub(crate) n: usize,
    pub(crate) is_chat: bool,
    /// The largest number of tokens to add.
    pub(crate) max_tokens: usize,
    pub(crate) stop: Vec<String>,
    sampling: Choice,
    /// How many alternatives are told of each token, where probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    /// The answer begins with the prompt.
    pub(crate) echo: bool,
    pub(crate) stream: Option<StreamOptions>,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// One more event tells the numbers of tokens.
    pub(crate) include_usage: bool,
}

/// How tokens are chosen, without the number of the text.
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    temperature: f32,
    top_p: f32,
    seed: String,
}

impl Request {
    /// The questions as jobs of an asker for a model, whose results all go to `events`.
    ///
    /// # Errors
    /// A setting of the choice is out of its range.
    pub(crate) fn jobs(
        &self,
        asker: &Asker,
        model: &Arc<Served>,
        events: &UnboundedSender<Event>,
    ) -> Result<Vec<Job>, ApiError> {
        let job = |(index, question): (usize, &Question)| {
            let wanted = Wanted {
                max_tokens: if question.is_full { 0 } else { self.max_tokens },
                stop: self.stop.clone(),
                is_chat: self.is_chat,
                logprobs: self.logprobs,
                score_prompt_from: self.scores_prompt().then_some(question.hidden),
            };
            let texts = (index * self.n..).zip(self.samplers()?).collect();
            let (model, prompt, events) = (model.clone(), question.tokens.clone(), events.clone());
            Ok(Job { asker: asker.clone(), model, prompt, wanted, texts, events, places: None })
        };
        self.questions.iter().enumerate().map(job).collect()
    }

    /// The samplers of one question's texts. The first draws as `templar generate --seed` does, and each of the others
    /// from a seed of its own.
    fn samplers(&self) -> Result<Vec<Sampler>, ApiError> {
        (0..self.n).map(|number| self.sampling.sampler(number)).collect()
    }

    /// The number of texts in all.
    pub(crate) fn texts(&self) -> usize {
        self.questions.len() * self.n
    }

    /// The number of tokens in all prompts.
    pub(crate) fn prompted(&self) -> u64 {
        self.questions.iter().map(|question| question.tokens.len() as u64).sum()
    }

    /// Whether the probabilities of the prompt are wanted.
    pub(crate) fn scores_prompt(&self) -> bool {
        self.echo && self.logprobs.is_some()
    }
}

impl Choice {
    fn sampler(&self, number: usize) -> Result<Sampler, ApiError> {
        let sampling = if self.temperature == 0.0 {
            Sampling::Greedy
        } else {
            let Self { temperature, top_p, ref seed } = *self;
            let text = if number == 0 { seed.clone() } else { format!("{seed} text {number}") };
            let seed = *Hash::of(format!("templar generate {text}").as_bytes()).as_bytes();
            Sampling::Draw { temperature, top_p, seed }
        };
        Sampler::new(sampling).map_err(|error| ApiError::field("temperature", error.to_string()))
    }
}

/// The fields that both endpoints read in the same way.
pub(super) struct Common {
    n: usize,
    stop: Vec<String>,
    sampling: Choice,
    stream: Option<StreamOptions>,
}

impl Common {
    /// Reads them. `fresh` is the seed of a request that names none.
    pub(super) fn read(fields: &Fields<'_>, served: &Served, fresh: u64) -> Result<Self, ApiError> {
        let name = &served.about().name;
        match fields.text("model")? {
            Some(asked) if asked != name => return Err(ApiError::model(asked, name)),
            _ => {}
        }
        for name in ["frequency_penalty", "presence_penalty"] {
            fields.neutral(name, |value| value.as_f64() == Some(0.0))?;
        }
        fields.neutral("logit_bias", |value| value.as_object().is_some_and(serde_json::Map::is_empty))?;
        let stream = match fields.flag("stream")? {
            false => None,
            true => {
                let options = fields.value("stream_options").and_then(|options| options.get("include_usage"));
                Some(StreamOptions { include_usage: options.and_then(serde_json::Value::as_bool) == Some(true) })
            }
        };
        Ok(Self {
            n: fields.whole("n", 1..=128)?.unwrap_or(1) as usize,
            stop: stops(fields)?,
            sampling: Choice {
                temperature: fields.number("temperature", 0.0..=100.0)?.unwrap_or(1.0) as f32,
                top_p: top_p(fields)?,
                seed: seed(fields)?.unwrap_or_else(|| fresh.to_string()),
            },
            stream,
        })
    }

    /// The request of these questions, if they are not too many.
    pub(super) fn request(self, questions: Vec<Question>, rest: Rest) -> Result<Request, ApiError> {
        let Rest { is_chat, max_tokens, logprobs, echo } = rest;
        let Self { n, stop, sampling, stream } = self;
        let request = Request { questions, n, is_chat, max_tokens, stop, sampling, logprobs, echo, stream };
        if request.texts() > MAX_CHOICES {
            let found = request.texts();
            return Err(ApiError::field("n", format!("{found} texts in one request, of {MAX_CHOICES} at most")));
        }
        // A temperature that cannot be used is found before anything waits.
        request.samplers()?;
        Ok(request)
    }
}

/// The fields that each endpoint reads in its own way.
pub(super) struct Rest {
    pub(super) is_chat: bool,
    pub(super) max_tokens: usize,
    pub(super) logprobs: Option<usize>,
    pub(super) echo: bool,
}

/// A number of alternatives.
pub(super) fn top(fields: &Fields<'_>, name: &str) -> Result<Option<usize>, ApiError> {
    Ok(fields.whole(name, 0..=MAX_TOP)?.map(|top| top as usize))
}

fn top_p(fields: &Fields<'_>) -> Result<f32, ApiError> {
    match fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0) as f32 {
        0.0 => Err(ApiError::field("top_p", "top_p is not above 0: temperature 0 takes the likeliest token")),
        share => Ok(share),
    }
}

/// Any integer, as text.
fn seed(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    match fields.value("seed") {
        None => Ok(None),
        Some(value) if value.is_i64() || value.is_u64() => Ok(Some(value.to_string())),
        Some(_) => Err(ApiError::field("seed", "seed is not an integer")),
    }
}

/// One stop sequence, or a list of them. An empty one stops nothing.
fn stops(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::field("stop", "stop is not a text or a list of texts");
    let texts = match fields.value("stop") {
        None => return Ok(Vec::new()),
        Some(serde_json::Value::Array(list)) => {
            list.iter().map(|stop| stop.as_str().ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?
        }
        Some(one) => vec![one.as_str().ok_or_else(wrong)?],
    };
    if texts.len() > MAX_STOPS || texts.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let limit = format!("at most {MAX_STOPS} stop sequences of {MAX_STOP_BYTES} bytes are taken");
        return Err(ApiError::field("stop", limit));
    }
    Ok(texts.into_iter().filter(|stop| !stop.is_empty()).map(str::to_owned).collect())
}
