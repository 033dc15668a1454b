//! The choice of the tokens that end and start a document: one rule, for import and for everything after it.
//!
//! The end token is the one that is named. Without a name it is the first of [`END_TOKENS`] that is an added
//! special token of the file. A customary name that is an ordinary token does not count: it may be a piece of
//! HTML that the tokenizer learnt, and every text with that piece would end a document. There is no start token
//! unless one is named.

use tokenizers::AddedToken;

use super::error::{SpecialTokens, TokenizerError};

/// Special tokens that customarily end a document. They are tried in this order where none is named.
pub const END_TOKENS: [&str; 5] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"];

/// The tokens that somebody names for the ends of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenNames<'a> {
    /// The token that ends a document. Without it, the rule of [`END_TOKENS`] chooses.
    pub end: Option<&'a str>,
    /// The token that stands before each document. Without it, none does.
    pub start: Option<&'a str>,
}

/// The ids of the tokens at the ends of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) end: u32,
    pub(super) start: Option<u32>,
}

/// The special tokens of a file, by id.
pub(super) fn special_tokens(inner: &tokenizers::Tokenizer) -> Vec<(u32, String)> {
    let added = inner.get_added_tokens_decoder();
    let mut special: Vec<(u32, String)> =
        added.into_iter().filter(|(_, token)| token.special).map(|(id, token)| (id, token.content)).collect();
    special.sort_unstable();
    special
}

/// The names of the special tokens.
pub(super) fn special_names(inner: &tokenizers::Tokenizer) -> SpecialTokens {
    SpecialTokens(special_tokens(inner).into_iter().map(|(_, name)| name).collect())
}

/// The tokens of these names, or the end token that the rule chooses.
pub(super) fn choose(inner: &tokenizers::Tokenizer, names: TokenNames<'_>) -> Result<Ends, TokenizerError> {
    let named = |name: &str| {
        let unknown = || TokenizerError::UnknownToken { name: name.to_owned(), special: special_names(inner) };
        inner.token_to_id(name).ok_or_else(unknown)
    };
    let end = match names.end {
        Some(name) => named(name)?,
        None => customary_end(inner)?,
    };
    let start = names.start.map(named).transpose()?;
    if start == Some(end) {
        return Err(TokenizerError::StartIsEnd { name: names.start.unwrap_or_default().to_owned() });
    }
    Ok(Ends { end, start })
}

fn customary_end(inner: &tokenizers::Tokenizer) -> Result<u32, TokenizerError> {
    let special = special_tokens(inner);
    let is_special = |name: &&str| special.iter().find(|(_, special)| special == name).map(|(id, _)| *id);
    END_TOKENS.iter().find_map(is_special).ok_or_else(|| TokenizerError::NoEndToken {
        ordinary: END_TOKENS.iter().filter(|name| inner.token_to_id(name).is_some()).map(|&name| name.into()).collect(),
        special: special_names(inner),
    })
}

/// Marks the chosen tokens as special, also where the file does not, so that their names in a text are text.
pub(super) fn mark_special(inner: &mut tokenizers::Tokenizer, ends: Ends) -> Result<(), TokenizerError> {
    for id in [Some(ends.end), ends.start].into_iter().flatten() {
        let missing = || TokenizerError::Parse(format!("token {id} has no name"));
        let token = match inner.get_added_tokens_decoder().get(&id) {
            Some(token) => token.clone(),
            None => AddedToken::from(inner.id_to_token(id).ok_or_else(missing)?, true),
        };
        let marked = inner.add_special_tokens([token.special(true)]);
        marked.map_err(|error| TokenizerError::Parse(error.to_string()))?;
    }
    Ok(())
}
