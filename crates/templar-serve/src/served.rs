//! A model with its tokenizer, as requests use it.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use templar_data::{ChatError, ChatTemplate, ChatTemplateError, ChatTokenizer, Tokenizer, TokenizerError};
use templar_manifest::ModelSpec;
use templar_model::decoder::Decoder;
use templar_model::generate::{GenerateError, LanguageModel};
use templar_model::hf::{self, ImportError, OpenFolderError};

/// Special tokens that customarily end a turn of a conversation, beside the end token of the model.
const TURN_ENDS: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>"];

/// A model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be opened.
    #[error(transparent)]
    Folder(#[from] OpenFolderError),
    /// The tokenizer of the folder cannot be read.
    #[error("the tokenizer {} cannot be read", path.display())]
    Io {
        /// The path of the tokenizer.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be read.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// The chat template cannot be used with the tokenizer.
    #[error("the chat template cannot be used")]
    Chat(#[from] ChatError),
    /// The parameters do not fit the specification.
    #[error(transparent)]
    Model(#[from] GenerateError),
}

/// The computation of a model.
#[derive(Debug)]
pub enum Computation {
    /// The architecture that runs train, with the bits of training. Texts share its products.
    Exact(Box<Decoder>),
    /// A relative of it, through candle. It holds the cache of one text.
    Foreign(Box<Mutex<LanguageModel>>),
}

/// What is known of a model, for people and for the headers of answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The name under which requests ask for it.
    pub name: String,
    /// The version of the model: the id of a checkpoint, or nothing where it is not known.
    pub checkpoint: Option<String>,
    /// The id of the run that trained it.
    pub run: Option<String>,
    /// The licence, an SPDX expression.
    pub licence: Option<String>,
}

/// A model that requests can use.
#[derive(Debug)]
pub struct Served {
    about: About,
    computation: Computation,
    tokenizer: Tokenizer,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// Of each row of the model, whether the tokenizer has a token for it.
    is_token: Vec<bool>,
    chat: Option<ChatTokenizer>,
    /// Tokens that end a turn of a conversation.
    turn_ends: Vec<u32>,
}

impl Served {
    /// A model of a computation. Texts end with the tokenizer's end token, and with `ends`. Conversations are read by
    /// the template; without one they are refused.
    ///
    /// # Errors
    /// The template does not parse.
    pub fn new(
        about: About,
        computation: Computation,
        tokenizer: Tokenizer,
        mut ends: Vec<u32>,
        template: Option<&ChatTemplate>,
    ) -> Result<Self, OpenError> {
        ends.push(tokenizer.end_token());
        let vocab = match &computation {
            Computation::Exact(decoder) => decoder.vocab_size(),
            Computation::Foreign(model) => model.lock().vocab_size(),
        };
        let rows = tokenizer.vocab_size().min(u32::try_from(vocab).unwrap_or(u32::MAX));
        let is_token = (0..rows).map(|id| tokenizer.token(id).is_some()).collect();
        let chat = template.map(|template| ChatTokenizer::new(&tokenizer, template)).transpose()?;
        let is_turn_end = |id: &u32| tokenizer.token(*id).is_some_and(|name| TURN_ENDS.contains(&name.as_str()));
        let turn_ends = ends.iter().copied().chain((0..rows).filter(is_turn_end)).collect();
        Ok(Self { about, computation, tokenizer, ends, is_token, chat, turn_ends })
    }

    /// A model that a run trained, from its flat vector of parameters.
    ///
    /// # Errors
    /// Parameters that do not fit, or a template that does not parse.
    pub fn trained(
        about: About,
        spec: &ModelSpec,
        parameters: Vec<f32>,
        tokenizer: Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<Self, OpenError> {
        let decoder = Decoder::new(spec, parameters)?;
        Self::new(about, Computation::Exact(Box::new(decoder)), tokenizer, Vec::new(), template)
    }

    /// The model of a Hugging Face folder: exact where a run could train it, through candle where it is a relative.
    /// `template` takes the place of the folder's chat template.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn folder(about: About, dir: &Path, template: Option<ChatTemplate>) -> Result<Self, OpenError> {
        let (ends, start) = hf::ends_and_start(dir).map_err(OpenFolderError::from)?;
        let computation = match hf::import(dir) {
            Ok((spec, parameters)) => Computation::Exact(Box::new(Decoder::new(&spec, parameters)?)),
            Err(ImportError::GenerateOnly { .. }) => Computation::Foreign(Box::new(Mutex::new(hf::open(dir)?.model))),
            Err(error) => return Err(OpenFolderError::from(error).into()),
        };
        let path = dir.join("tokenizer.json");
        let json = std::fs::read(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let tokenizer = match ends.first() {
            Some(end) => Tokenizer::for_model(json, *end, start)?,
            None => Tokenizer::new(json, Default::default())?,
        };
        let template = match template {
            Some(template) => Some(template),
            None => ChatTemplate::beside(&path)?,
        };
        Self::new(about, computation, tokenizer, ends, template.as_ref())
    }

    /// What is known of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The number of tokens that the model reads at most.
    pub fn positions(&self) -> usize {
        match &self.computation {
            Computation::Exact(decoder) => decoder.positions(),
            Computation::Foreign(model) => model.lock().positions(),
        }
    }

    /// Whether its probabilities have the bits of training.
    pub fn is_exact(&self) -> bool {
        matches!(self.computation, Computation::Exact(_))
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(crate) fn computation(&self) -> &Computation {
        &self.computation
    }

    /// Of each row of the model that the tokenizer may have a token for, whether it has one.
    pub(crate) fn is_token(&self) -> &[bool] {
        &self.is_token
    }

    pub(crate) fn chat(&self) -> Option<&ChatTokenizer> {
        self.chat.as_ref()
    }

    /// The tokens that end a text, or a turn of a conversation.
    pub(crate) fn ends(&self, of_turns: bool) -> &[u32] {
        if of_turns { &self.turn_ends } else { &self.ends }
    }
}
