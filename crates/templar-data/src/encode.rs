//! Documents become tokens: texts by the tokenizer, conversations by the chat template or in the plain form.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::duplicates::DocumentDigest;
use crate::error::ImportError;
use crate::reading::Batch;
use crate::source::{Content, InputFile, RowFault, plain};
use crate::tokenizer::{ChatError, ChatTemplate, ChatTemplateError, ChatTokenizer, Tokenizer, TokenizerError};

/// One document as tokens, with the token that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedDocument {
    pub(crate) digest: DocumentDigest,
    pub(crate) tokens: Vec<u32>,
}

impl EncodedDocument {
    pub(crate) fn new(tokens: Vec<u32>) -> Self {
        Self { digest: DocumentDigest::of(&tokens), tokens }
    }
}

/// The documents of a [`Batch`], as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedBatch {
    pub(crate) file: usize,
    pub(crate) number: u64,
    pub(crate) documents: Vec<EncodedDocument>,
    /// The conversations that cannot be joined, each with its row.
    pub(crate) bad: Vec<(u64, RowFault)>,
}

/// A document that cannot become tokens.
#[derive(Debug)]
pub(crate) enum EncodeFault {
    /// The conversation cannot be joined, but others can.
    Turns(RowFault),
    Tokenizer(TokenizerError),
    Template(ChatTemplateError),
}

/// Documents from this length on are tokenised one after the other, in bytes. The library takes about a hundred times
/// the memory of a text, so a few long ones at the same time would take too much.
const LONG_BYTES: usize = 2 << 20;

/// The encoder, which turns documents into tokens.
pub(crate) struct Encoder {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Made for the first conversation, because it has a vocabulary of its own.
    chat: OnceLock<Result<ChatTokenizer, String>>,
    /// Held while a long document is tokenised.
    long: Mutex<()>,
}

impl Encoder {
    pub(crate) fn new(tokenizer: Tokenizer, template: Option<ChatTemplate>) -> Self {
        Self { tokenizer, template, chat: OnceLock::new(), long: Mutex::new(()) }
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokenises a batch.
    ///
    /// # Errors
    /// [`ImportError::Encode`] for the first document that cannot be tokenised, and [`ImportError::ChatTemplate`].
    pub(crate) fn batch(&self, batch: Batch, files: &[InputFile]) -> Result<EncodedBatch, ImportError> {
        let mut encoded = EncodedBatch { file: batch.file, number: batch.number, documents: vec![], bad: vec![] };
        for document in batch.documents {
            let row = document.row;
            match self.document(document.content) {
                Ok(tokens) => encoded.documents.push(EncodedDocument::new(tokens)),
                Err(EncodeFault::Turns(fault)) => encoded.bad.push((row, fault)),
                Err(EncodeFault::Template(error)) => return Err(error.into()),
                Err(EncodeFault::Tokenizer(source)) => {
                    let path = files.get(batch.file).map(|file| file.path().to_owned()).unwrap_or_default();
                    return Err(ImportError::Encode { path, row, source });
                }
            }
        }
        Ok(encoded)
    }

    /// The tokens of one document, with those that start and end it.
    pub(crate) fn document(&self, content: Content) -> Result<Vec<u32>, EncodeFault> {
        let is_long = content.bytes() >= LONG_BYTES;
        let _alone = is_long.then(|| self.long.lock().unwrap_or_else(PoisonError::into_inner));
        match content {
            Content::Text(text) => self.tokenizer.document(&text).map_err(EncodeFault::Tokenizer),
            Content::Tokens(ids) => Ok(self.tokenizer.whole(ids)),
            Content::Turns(turns) => match self.chat()? {
                None => {
                    let text = plain(&turns).map_err(EncodeFault::Turns)?;
                    self.tokenizer.document(&text).map_err(EncodeFault::Tokenizer)
                }
                Some(chat) => chat.document(&turns).map_err(|error| match error {
                    ChatError::Tokenizer(error) => EncodeFault::Tokenizer(error),
                    refused => EncodeFault::Turns(RowFault::BadTurns(refused.to_string())),
                }),
            },
        }
    }

    /// The tokenizer that joins conversations by the template, if there is one.
    fn chat(&self) -> Result<Option<&ChatTokenizer>, EncodeFault> {
        let Some(template) = &self.template else { return Ok(None) };
        let chat = self.chat.get_or_init(|| {
            ChatTokenizer::new(&self.tokenizer, template).map_err(|error| match error {
                ChatError::Template(ChatTemplateError::Render(reason)) => reason,
                other => other.to_string(),
            })
        });
        let failed = |reason: &String| EncodeFault::Template(ChatTemplateError::Render(reason.clone()));
        chat.as_ref().map(Some).map_err(failed)
    }
}
