//! A question to the model with everything that its computation needs, and what comes back.

use std::sync::Arc;

use templar_model::generate::Sampler;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::scores::Score;
use crate::served::Served;

/// Whoever asked: a key, or a request without one. Places and rows are shared out evenly among those who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asker(Arc<()>);

impl PartialEq for Asker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// One prompt, and the texts that are to continue it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) asker: Asker,
    pub(crate) model: Arc<Served>,
    /// The tokens to continue; at least one.
    pub(crate) prompt: Vec<u32>,
    pub(crate) wanted: Wanted,
    /// The number of each text in the answer, and how its tokens are chosen.
    pub(crate) texts: Vec<(usize, Sampler)>,
    /// The receiver of the results. A job whose receiver is gone is not computed any further. The channel holds no more
    /// than the answer, which is bounded.
    pub(crate) events: UnboundedSender<Event>,
    /// The places of the texts among all that may wait.
    pub(crate) places: Option<OwnedSemaphorePermit>,
}

/// What is wanted of each text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The largest number of tokens to add.
    pub(crate) max_tokens: usize,
    /// Texts that end an answer, and are not part of it.
    pub(crate) stop: Vec<String>,
    /// Whether the tokens that end a turn of a conversation end the text, too.
    pub(crate) is_chat: bool,
    /// How many alternatives are told of each token that is added, where probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    /// From which token of the prompt on the probability of the next one is told.
    pub(crate) score_prompt_from: Option<usize>,
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The probabilities of the prompt's tokens behind the first that counts. They are told once, under the number of
    /// the first text, before anything else of the job.
    Prompt { text: usize, scores: Vec<Score> },
    /// One more token. `added` is what can be told of the text by now: it may lag behind the tokens, where a character
    /// or a stop sequence is not complete. `piece` is the token's own part of the text.
    Token { text: usize, added: String, piece: String, score: Option<Score> },
    /// The end of a text, with the rest of it.
    End { text: usize, added: String, finish: Finish },
    /// The computation failed, and nothing more comes of the job.
    Failed(String),
}

/// Why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it, or a stop sequence did.
    Stop,
    /// As many tokens as were asked for, or as the context holds.
    Length,
}
