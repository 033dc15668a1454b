//! The tokenizer of a dataset: a Hugging Face `tokenizer.json`, made a pure function of its text.
//!
//! Tokens may depend on nothing but the text. So truncation, padding and templates that add tokens are switched
//! off, and a tokenizer with merge dropout is refused. The names of special tokens inside a text are ordinary
//! text, so only the importer ends a document. Invariant: every id that is given out is below
//! [`Tokenizer::vocab_size`].

use templar_manifest::{BlobId, Dataset};
use tokenizers::{ModelWrapper, PostProcessorWrapper};

use crate::guard::guarded;

/// The longest `tokenizer.json` that is read, in bytes. The largest in common use has 33 MB.
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;

/// The largest vocabulary that is accepted, in tokens.
pub const MAX_VOCABULARY: u32 = 1 << 20;

/// Tokens that commonly end a document. They are tried in this order where none is named.
pub const END_TOKENS: [&str; 5] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"];

/// A tokenizer cannot be used, or cannot turn a text into tokens or tokens into text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is longer than [`MAX_TOKENIZER_BYTES`].
    #[error("tokenizer of {bytes} bytes is over the limit of {MAX_TOKENIZER_BYTES}")]
    TooLarge {
        /// The length of the file, in bytes.
        bytes: usize,
    },
    /// The file is not a valid `tokenizer.json`.
    #[error("tokenizer does not parse: {0}")]
    Parse(String),
    /// The vocabulary is empty or larger than [`MAX_VOCABULARY`].
    #[error("tokenizer has a vocabulary of {size} tokens: expected 1 to {MAX_VOCABULARY}")]
    Vocabulary {
        /// One more than the highest id.
        size: u64,
    },
    /// The vocabulary has no token that ends a document.
    #[error("tokenizer has no end token: none of {tried:?} is in its vocabulary")]
    NoEndToken {
        /// The names that were looked for.
        tried: Vec<String>,
    },
    /// The file asks for merge dropout, which makes tokens random.
    #[error("tokenizer drops merges at random (dropout): the same text would give different tokens")]
    Random,
    /// The text cannot be tokenised.
    #[error("text cannot be tokenised: {0}")]
    Encode(String),
    /// The tokens cannot be turned into text.
    #[error("tokens cannot be decoded: {0}")]
    Decode(String),
    /// The file is not the one that a dataset names, or does not fit what the dataset says of it.
    #[error("tokenizer {tokenizer} does not fit the dataset: {reason}")]
    Mismatch {
        /// The hash of the file.
        tokenizer: BlobId,
        /// The difference that was found.
        reason: String,
    },
}

/// Turns text into tokens and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    id: BlobId,
    vocab_size: u32,
    end_token: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `end_token` names the token that ends a document. Without it, that is the first of
    /// [`END_TOKENS`] that the vocabulary has.
    ///
    /// # Errors
    /// [`TokenizerError`] where the file does not parse, is too large, would give random tokens, or has no end token.
    pub fn from_bytes(json: &[u8], end_token: Option<&str>) -> Result<Self, TokenizerError> {
        let (inner, vocab_size) = parse(json)?;
        let tried: Vec<&str> = end_token.map_or_else(|| END_TOKENS.to_vec(), |name| vec![name]);
        let end_token = tried
            .iter()
            .find_map(|name| inner.token_to_id(name))
            .ok_or_else(|| TokenizerError::NoEndToken { tried: tried.iter().map(|&name| name.to_owned()).collect() })?;
        Ok(Self { inner, id: BlobId::of(json), vocab_size, end_token })
    }

    /// Reads the `tokenizer.json` that `dataset` names. It checks the hash of the file, and that it has the
    /// vocabulary and the end token that the manifest states.
    ///
    /// # Errors
    /// [`TokenizerError::Mismatch`] where the file is another one, and the errors of [`from_bytes`](Self::from_bytes).
    pub fn for_dataset(json: &[u8], dataset: &Dataset) -> Result<Self, TokenizerError> {
        let id = BlobId::of(json);
        let mismatch = |reason| TokenizerError::Mismatch { tokenizer: id, reason };
        if id != dataset.tokenizer {
            return Err(mismatch(format!("it names {}", dataset.tokenizer)));
        }
        let (inner, vocab_size) = parse(json)?;
        if vocab_size != dataset.vocab_size {
            return Err(mismatch(format!("the vocabulary has {vocab_size} tokens, not {}", dataset.vocab_size)));
        }
        if inner.id_to_token(dataset.end_token).is_none() {
            return Err(mismatch(format!("the end token {} is not in the vocabulary", dataset.end_token)));
        }
        Ok(Self { inner, id, vocab_size, end_token: dataset.end_token })
    }

    /// The hash of the file.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The token that ends a document.
    pub fn end_token(&self) -> u32 {
        self.end_token
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
        let encoding = guarded(|| self.inner.encode_fast(text, false))
            .and_then(|encoded| encoded.map_err(|error| error.to_string()))
            .map_err(TokenizerError::Encode)?;
        let ids = encoding.get_ids();
        match ids.iter().find(|&&id| id >= self.vocab_size) {
            Some(id) => Err(TokenizerError::Encode(format!("token {id} is outside the vocabulary"))),
            None => Ok(ids.to_vec()),
        }
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
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("id", &self.id).field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

/// Parses a tokenizer and switches off everything that does not depend on the text. It also returns the size of the
/// vocabulary.
fn parse(json: &[u8]) -> Result<(tokenizers::Tokenizer, u32), TokenizerError> {
    if json.len() > MAX_TOKENIZER_BYTES {
        return Err(TokenizerError::TooLarge { bytes: json.len() });
    }
    let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(json))
        .and_then(|parsed| parsed.map_err(|error| error.to_string()))
        .map_err(TokenizerError::Parse)?;
    if let ModelWrapper::BPE(bpe) = inner.get_model()
        && bpe.dropout.is_some_and(|dropout| dropout != 0.0)
    {
        return Err(TokenizerError::Random);
    }
    inner.with_truncation(None).map_err(|error| TokenizerError::Parse(error.to_string()))?;
    inner.with_padding(None);
    inner.with_post_processor(None::<PostProcessorWrapper>);
    inner.set_encode_special_tokens(true);
    // Not the number of tokens: ids may have gaps.
    let size = inner.get_vocab(true).values().max().map_or(0, |&id| u64::from(id) + 1);
    match u32::try_from(size) {
        Ok(vocab_size @ 1..=MAX_VOCABULARY) => Ok((inner, vocab_size)),
        _ => Err(TokenizerError::Vocabulary { size }),
    }
}
