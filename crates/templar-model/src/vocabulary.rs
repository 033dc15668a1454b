//! The tokenizer at the crate's edge: opened from its Hugging Face bytes, with the tokens that start and end a text.
//!
//! Training never comes here; only generation and export need to know which ids are special.

use tokenizers::Tokenizer;

/// Largest `tokenizer.json` that is opened; Gemma's, with 262,144 tokens, has 33 MB.
const MAX_BYTES: usize = 64 << 20;
/// Names under which the token that ends a text is known, first found wins.
const END_NAMES: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];
/// Names under which a token that starts a text is known.
const START_NAMES: [&str; 3] = ["<|begin_of_text|>", "<s>", "<bos>"];

/// Why a tokenizer cannot be used with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// The file is longer than any tokenizer.
    #[error("the tokenizer has {found} bytes, more than {limit}")]
    TooLarge {
        /// Bytes of the file.
        found: usize,
        /// The largest number of bytes taken.
        limit: usize,
    },
    /// The file is not a tokenizer.
    #[error("the tokenizer does not parse: {reason}")]
    Parse {
        /// The parser's message.
        reason: String,
    },
    /// It has more tokens than the model has rows.
    #[error("the tokenizer has {tokens} tokens, the model's vocabulary {vocab_size}")]
    Vocabulary {
        /// Tokens, added ones included.
        tokens: usize,
        /// Rows of the embedding.
        vocab_size: u32,
    },
}

/// A tokenizer that fits a model.
pub(crate) struct Vocabulary {
    pub(crate) tokenizer: Tokenizer,
    /// The token that texts start with; where there is none of its own, the end token, which separates documents.
    pub(crate) start: Option<u32>,
    /// The token that ends a text.
    pub(crate) end: Option<u32>,
}

impl Vocabulary {
    /// Opens `tokenizer.json` for a model with `vocab_size` rows.
    pub(crate) fn open(tokenizer_json: &[u8], vocab_size: u32) -> Result<Self, VocabularyError> {
        if tokenizer_json.len() > MAX_BYTES {
            return Err(VocabularyError::TooLarge { found: tokenizer_json.len(), limit: MAX_BYTES });
        }
        let tokenizer = Tokenizer::from_bytes(tokenizer_json)
            .map_err(|error| VocabularyError::Parse { reason: error.to_string() })?;
        let tokens = tokenizer.get_vocab_size(true);
        if tokens > vocab_size as usize {
            return Err(VocabularyError::Vocabulary { tokens, vocab_size });
        }
        let find = |names: &[&str]| names.iter().find_map(|name| tokenizer.token_to_id(name));
        let end = find(&END_NAMES);
        let start = find(&START_NAMES).or(end);
        Ok(Self { tokenizer, start, end })
    }

    /// The text of a special token.
    pub(crate) fn name(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }
}
