//! Keeps special tokens out of the reach of text.
//!
//! The names of special tokens inside a text are ordinary text. The library does not search for them then, but
//! its models may still find them: Unigram looks for every piece of its vocabulary, control pieces included, and
//! WordPiece and WordLevel take any word that they list. BPE does where merges lead to a special token, or where
//! whole words are looked up first. SentencePiece keeps control pieces out of the search, and so does this file:
//! it takes them out of the model. They stay in the list of added tokens, which is enough to decode them.

use std::collections::BTreeSet;

use serde_json::Value;
use tokenizers::{Model, ModelWrapper};

use super::choice::special_tokens;
use super::error::TokenizerError;

/// A character that no vocabulary has. Where a model gives a token for it, that is its token for the unknown.
const UNKNOWN: &str = "\u{10ffff}";

/// Takes special tokens out of the model, and returns the ids that text cannot give: all special ones but the
/// token for the unknown.
pub(super) fn close(inner: &mut tokenizers::Tokenizer) -> Result<BTreeSet<u32>, TokenizerError> {
    let special = special_tokens(inner);
    let unknown: Vec<u32> =
        inner.get_model().tokenize(UNKNOWN).unwrap_or_default().iter().map(|token| token.id).collect();
    let names: Vec<(u32, &str)> = special
        .iter()
        .map(|(id, name)| (*id, name.as_str()))
        .filter(|(id, name)| reaches(inner.get_model(), *id, name, &unknown))
        .collect();
    if !names.is_empty() {
        let failed = |error: serde_json::Error| TokenizerError::Parse(error.to_string());
        let mut model = serde_json::to_value(inner.get_model()).map_err(failed)?;
        remove(&mut model, &names);
        inner.with_model(serde_json::from_value::<ModelWrapper>(model).map_err(failed)?);
    }
    Ok(special.into_iter().map(|(id, _)| id).filter(|id| !unknown.contains(id)).collect())
}

/// Whether the model can give the special token `id` for a text that contains its name.
fn reaches(model: &ModelWrapper, id: u32, name: &str, unknown: &[u32]) -> bool {
    match model {
        ModelWrapper::Unigram(unigram) => unigram.id_to_token(id).as_deref() == Some(name),
        // The model needs its token for the unknown. Text that gives it is unknown anyway.
        _ if unknown.contains(&id) => false,
        ModelWrapper::WordPiece(model) => model.token_to_id(name) == Some(id),
        ModelWrapper::WordLevel(model) => model.token_to_id(name) == Some(id),
        // Merges inside a stretch of characters do not depend on its neighbours, so a word can contain the tokens that
        // the name alone gives.
        ModelWrapper::BPE(bpe) => bpe.tokenize(name).is_ok_and(|tokens| tokens.iter().any(|token| token.id == id)),
    }
}

/// Removes tokens from the serialised model.
fn remove(model: &mut Value, names: &[(u32, &str)]) {
    match model.get_mut("vocab") {
        // Ids are places in the list, so a piece stays, with a text that matches nothing.
        Some(Value::Array(pieces)) => {
            for (id, _) in names {
                if let Some(text) = pieces.get_mut(*id as usize).and_then(|piece| piece.get_mut(0)) {
                    *text = Value::String(String::new());
                }
            }
        }
        Some(Value::Object(vocabulary)) => {
            for (_, name) in names {
                vocabulary.remove(*name);
            }
        }
        _ => {}
    }
    // A merge of `left` and `right` gives their texts together, without the prefix of a piece inside a word.
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(Value::Array(merges)) = model.get_mut("merges") {
        let gone = |text: &str| names.iter().any(|(_, name)| *name == text);
        merges.retain(|merge| match (merge[0].as_str(), merge[1].as_str()) {
            (Some(left), Some(right)) => {
                let merged = format!("{left}{}", right.strip_prefix(&prefix[..]).unwrap_or(right));
                !gone(left) && !gone(right) && !gone(&merged)
            }
            _ => true,
        });
    }
}
