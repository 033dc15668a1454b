//! The tokenizer of a dataset: a Hugging Face `tokenizer.json`, made a pure function of its text.
//!
//! There is one such type, and everything that turns text into tokens uses it: import, generation, export and
//! evaluation. So what a model reads later is what it was trained on.
//!
//! Tokens may depend on nothing but the text. So truncation, padding and templates that add tokens are switched
//! off ([`Tokenizer::saved`] tells what was on), and a tokenizer with merge dropout is refused. The names of
//! special tokens inside a text are ordinary text. Documents end with one token, which one rule chooses at
//! import and the dataset's manifest records. Invariants: every id that is given out is below
//! [`Tokenizer::vocab_size`], and no text gives the end token.

mod chat;
mod choice;
mod error;
mod fields;
mod files;
mod limits;
mod reach;
mod saved;
mod template;

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::de::IgnoredAny;
use templar_manifest::{BlobId, Dataset};
use tokenizers::{Model, ModelWrapper, OffsetReferential, OffsetType, PostProcessorWrapper, PreTokenizer};

pub use chat::{ChatError, ChatTokenizer};
pub use choice::{END_TOKENS, TokenNames};
use choice::{Ends, choose, mark_special};
pub use error::{SpecialTokens, TokenizerError};
pub use files::{HuggingFaceFiles, is_same_tokenizer};
pub use limits::{MAX_TOKENIZER_BYTES, MAX_VOCABULARY};
pub use saved::SavedSettings;
pub use template::{ChatTemplate, ChatTemplateError, MAX_CHAT_TEMPLATE_BYTES};

use crate::guard::guarded;
use crate::words;

/// How the pointer begins that Git LFS leaves where a file was not downloaded.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether these bytes are a pointer of Git LFS instead of a file.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

/// Turns text into tokens and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Bytes,
    id: BlobId,
    vocab_size: u32,
    ends: Ends,
    /// The tokens that stand before a text that a model continues.
    opening: Vec<u32>,
    /// Ids that no text may give: the special tokens but the one for the unknown, and both ends of a document.
    reserved: BTreeSet<u32>,
    saved: SavedSettings,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `names` chooses the tokens at the ends of a document.
    ///
    /// # Errors
    /// [`TokenizerError`] where the file does not parse, is too large, would give random tokens, has no token of a
    /// name, or has no end token by the rule of [`END_TOKENS`].
    pub fn new(json: impl Into<Bytes>, names: TokenNames<'_>) -> Result<Self, TokenizerError> {
        let json = json.into();
        let parsed = Parsed::new(&json)?;
        let ends = choose(&parsed.inner, names)?;
        Self::finish(json, parsed, ends)
    }

    /// Reads the `tokenizer.json` of a model that was trained elsewhere and ends texts with the token `end`. A
    /// prompt begins with the tokens that the file's template puts before a text, or else with `start` if there is
    /// one.
    ///
    /// # Errors
    /// [`TokenizerError`] where the file does not parse, or `end` is not in its vocabulary.
    pub fn for_model(json: impl Into<Bytes>, end: u32, start: Option<u32>) -> Result<Self, TokenizerError> {
        let json = json.into();
        let parsed = Parsed::new(&json)?;
        if parsed.inner.id_to_token(end).is_none() {
            return Err(TokenizerError::Parse(format!("the model's end token {end} is not in the vocabulary")));
        }
        let template: Vec<u32> = parsed.saved.before.iter().filter_map(|name| parsed.inner.token_to_id(name)).collect();
        let tokenizer = Self::finish(json, parsed, Ends { end, start: None })?;
        let start = start.into_iter().filter(|&start| tokenizer.token(start).is_some()).collect();
        let opening = if template.is_empty() { start } else { template };
        Ok(Self { opening, ..tokenizer })
    }

    /// Reads the `tokenizer.json` that `dataset` names. It checks the hash of the file, and that it has the
    /// vocabulary and the tokens that the manifest states.
    ///
    /// # Errors
    /// [`TokenizerError::Mismatch`] where the file is another one, and the errors of [`new`](Self::new).
    pub fn for_dataset(json: impl Into<Bytes>, dataset: &Dataset) -> Result<Self, TokenizerError> {
        let json = json.into();
        let id = BlobId::of(&json);
        let mismatch = |reason| TokenizerError::Mismatch { tokenizer: id, reason };
        if id != dataset.tokenizer {
            return Err(mismatch(format!("it names {}", dataset.tokenizer)));
        }
        let parsed = Parsed::new(&json)?;
        if parsed.vocab_size != dataset.vocab_size {
            return Err(mismatch(format!(
                "the vocabulary has {} tokens, not {}",
                parsed.vocab_size, dataset.vocab_size
            )));
        }
        let ends = Ends { end: dataset.end_token, start: dataset.start_token };
        for (what, token) in [("end", Some(ends.end)), ("start", ends.start)] {
            if let Some(token) = token.filter(|&token| parsed.inner.id_to_token(token).is_none()) {
                return Err(mismatch(format!("the {what} token {token} is not in the vocabulary")));
            }
        }
        Self::finish(json, parsed, ends)
    }

    fn finish(json: Bytes, parsed: Parsed, ends: Ends) -> Result<Self, TokenizerError> {
        let Parsed { mut inner, vocab_size, saved } = parsed;
        mark_special(&mut inner, ends)?;
        let mut reserved = guarded(|| reach::close(&mut inner)).map_err(TokenizerError::Parse)??;
        reserved.insert(ends.end);
        reserved.extend(ends.start);
        let opening = vec![ends.start.unwrap_or(ends.end)];
        Ok(Self { id: BlobId::of(&json), inner, json, vocab_size, ends, opening, reserved, saved })
    }

    /// The hash of the file.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// The bytes of the file.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The token that ends a document.
    pub fn end_token(&self) -> u32 {
        self.ends.end
    }

    /// The token that stands before each document, if there is one.
    pub fn start_token(&self) -> Option<u32> {
        self.ends.start
    }

    /// The settings of the file that are switched off here.
    pub fn saved(&self) -> &SavedSettings {
        &self.saved
    }

    /// The text of one token, as the vocabulary has it, or `None` where no token has this id. Ids may have gaps.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The number of bytes of one token in a shard: 2 where every id fits, otherwise 4.
    pub fn token_bytes(&self) -> u32 {
        if self.vocab_size <= 1 << 16 { 2 } else { 4 }
    }

    /// The tokens of `text`. No token is added at its beginning or its end.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let tokens = encode(&self.inner, text, self.vocab_size)?;
        match tokens.iter().find(|id| self.reserved.contains(id)) {
            Some(&id) => {
                let name = self.token(id).unwrap_or_default();
                Err(TokenizerError::Encode(format!("it gives the special token {name:?}")))
            }
            None => Ok(tokens),
        }
    }

    /// The tokens of a whole document: the start token if there is one, the text, and the end token.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn document(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.whole(self.encode(text)?))
    }

    /// The tokens of a document's text as a whole document, as [`document`](Self::document) gives it.
    pub fn whole(&self, text: Vec<u32>) -> Vec<u32> {
        self.ends.start.into_iter().chain(text).chain([self.ends.end]).collect()
    }

    /// The tokens of the beginning of a document, which a model is to continue. The start token comes first, or
    /// where there is none the end token, which stands between documents. There is always a token.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn beginning(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let text = self.encode(text)?;
        let tokens: Vec<u32> = self.opening.iter().copied().chain(text).collect();
        Ok(if tokens.is_empty() { vec![self.ends.end] } else { tokens })
    }

    /// The text of `tokens`, with special tokens shown by their names. Bytes that are not UTF-8 become U+FFFD,
    /// for example where a page cuts a character.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        if let Some(id) = tokens.iter().find(|&&id| id >= self.vocab_size) {
            return Err(TokenizerError::Decode(format!("token {id} is outside the vocabulary of {}", self.vocab_size)));
        }
        guarded(|| self.inner.decode(tokens, false))
            .and_then(|decoded| decoded.map_err(|error| error.to_string()))
            .map_err(TokenizerError::Decode)
    }

    /// The text that `tokens` add after `before`. It is cut from the text of all, because some decoders drop the
    /// space before a first word. Where a character straddles the border, the new tokens are decoded alone.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn decode_after(&self, before: &[u32], tokens: &[u32]) -> Result<String, TokenizerError> {
        let whole = self.decode(&[before, tokens].concat())?;
        match whole.strip_prefix(self.decode(before)?.as_str()) {
            Some(rest) => Ok(rest.to_owned()),
            None => self.decode(tokens),
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("id", &self.id).field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

/// The tokens of a text by the library, every one of them below `vocab_size`.
fn encode(inner: &tokenizers::Tokenizer, text: &str, vocab_size: u32) -> Result<Vec<u32>, TokenizerError> {
    let ids = guarded(|| ids(inner, text))
        .and_then(|encoded| encoded.map_err(|error| error.to_string()))
        .map_err(TokenizerError::Encode)?;
    match ids.iter().find(|&&id| id >= vocab_size) {
        Some(id) => Err(TokenizerError::Encode(format!("token {id} is outside the vocabulary"))),
        None => Ok(ids),
    }
}

/// The steps of the library's `encode_fast`, for the ids alone. The library also keeps each token with its text and its
/// place until the end, and then everything once more, which takes twice the memory.
fn ids(inner: &tokenizers::Tokenizer, text: &str) -> tokenizers::Result<Vec<u32>> {
    let mut pieces = inner.get_added_vocabulary().extract_and_normalize(inner.get_normalizer(), text);
    if let Some(splitter) = inner.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut pieces)?;
    }
    let mut ids = Vec::new();
    for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        match tokens {
            Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
            None => ids.extend(inner.get_model().tokenize(piece)?.into_iter().map(|token| token.id)),
        }
    }
    Ok(ids)
}

/// A parsed file, with everything switched off that does not depend on the text.
struct Parsed {
    inner: tokenizers::Tokenizer,
    vocab_size: u32,
    saved: SavedSettings,
}

impl Parsed {
    fn new(json: &[u8]) -> Result<Self, TokenizerError> {
        if json.len() > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLarge { bytes: json.len() });
        }
        if is_lfs_pointer(json) {
            return Err(TokenizerError::LfsPointer);
        }
        if let Some(field) = fields::unknown_field(json) {
            return Err(TokenizerError::Parse(format!("it has the field {field:?}, which no tokenizer has")));
        }
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(json))
            .and_then(|parsed| parsed.map_err(|error| error.to_string()))
            .map_err(|said| TokenizerError::Parse(words::tokenizer(json, &said)))?;
        serde_json::from_slice::<IgnoredAny>(json).map_err(|error| TokenizerError::Parse(words::json(&error)))?;
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some_and(|dropout| dropout != 0.0)
        {
            return Err(TokenizerError::Random);
        }
        let saved = guarded(|| SavedSettings::take(&mut inner)).map_err(TokenizerError::Parse)??;
        inner.with_post_processor(None::<PostProcessorWrapper>);
        inner.set_encode_special_tokens(true);
        // Not the number of tokens: ids may have gaps.
        let size = inner.get_vocab(true).values().max().map_or(0, |&id| u64::from(id) + 1);
        match u32::try_from(size) {
            Ok(vocab_size @ 1..=MAX_VOCABULARY) => Ok(Self { inner, vocab_size, saved }),
            _ => Err(TokenizerError::Vocabulary { size }),
        }
    }
}
