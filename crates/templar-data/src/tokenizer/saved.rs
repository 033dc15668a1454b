//! Settings that people save in a `tokenizer.json` and that training must not obey: they are read, so that they
//! can be told, and switched off.

use super::error::TokenizerError;

/// A text that every tokenizer takes. Only the tokens that a template adds around it matter.
const PROBE: &str = "a";

/// The settings of a `tokenizer.json` that are switched off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedSettings {
    /// The number of tokens after which texts were to be cut.
    pub truncation: Option<usize>,
    /// Whether texts were to be filled up with padding tokens.
    pub padding: bool,
    /// The names of the tokens that the template puts before a text.
    pub before: Vec<String>,
    /// The names of the tokens that the template puts after a text.
    pub after: Vec<String>,
}

impl SavedSettings {
    /// Reads the settings and switches truncation and padding off. The template must still be in place, and stays.
    pub(super) fn take(inner: &mut tokenizers::Tokenizer) -> Result<Self, TokenizerError> {
        let truncation = inner.get_truncation().map(|truncation| truncation.max_length);
        let padding = inner.get_padding().is_some();
        inner.with_truncation(None).map_err(|error| TokenizerError::Parse(error.to_string()))?;
        inner.with_padding(None);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        // A tokenizer that fails on the probe fails on texts too, and is told so then.
        if inner.get_post_processor().is_some()
            && let Ok(encoding) = inner.encode(PROBE, true)
        {
            let name = |id: &u32| inner.id_to_token(*id).unwrap_or_else(|| id.to_string());
            let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
            let leading = added.iter().take_while(|&&added| added == 1).count();
            let trailing = added[leading..].iter().rev().take_while(|&&added| added == 1).count();
            before = ids[..leading].iter().map(name).collect();
            after = ids[ids.len() - trailing..].iter().map(name).collect();
        }
        Ok(Self { truncation, padding, before, after })
    }
}
