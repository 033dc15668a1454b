//! Documents become tokens.

use crate::duplicates::DocumentDigest;
use crate::error::ImportError;
use crate::reading::Batch;
use crate::source::{Content, InputFile, plain};
use crate::tokenizer::{Tokenizer, TokenizerError};

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
}

/// Tokenises a batch.
///
/// # Errors
/// [`ImportError::Encode`] for the first document that cannot be tokenised.
pub(crate) fn encode_batch(
    batch: Batch,
    files: &[InputFile],
    tokenizer: &Tokenizer,
) -> Result<EncodedBatch, ImportError> {
    let Batch { file, number, documents } = batch;
    let encoded = documents.into_iter().map(|document| {
        let row = document.row;
        let tokens = encode_document(document.content, tokenizer).map_err(|source| {
            let path = files.get(file).map(|file| file.path().to_owned()).unwrap_or_default();
            ImportError::Encode { path, row, source }
        })?;
        Ok(EncodedDocument::new(tokens))
    });
    Ok(EncodedBatch { file, number, documents: encoded.collect::<Result<_, ImportError>>()? })
}

/// The tokens of one document, with those that start and end it.
///
/// # Errors
/// [`TokenizerError::Encode`].
pub(crate) fn encode_document(content: Content, tokenizer: &Tokenizer) -> Result<Vec<u32>, TokenizerError> {
    let tokens = match content {
        Content::Text(text) => tokenizer.encode(&text)?,
        Content::Tokens(ids) => ids,
        Content::Turns(turns) => {
            let text = plain(&turns).map_err(|fault| TokenizerError::Encode(fault.to_string()))?;
            tokenizer.encode(&text)?
        }
    };
    Ok(tokenizer.whole(tokens))
}
