//! The tokenizer of a Hugging Face folder: `tokenizer.json` and `tokenizer_config.json`, so that `from_pretrained`
//! tokenises as training did.
//!
//! `tokenizer.json` is the file that was imported, byte for byte but for three entries: truncation and padding are
//! off, and the template adds the start token, or nothing where there is none. [`is_same_tokenizer`] compares files
//! without these entries.

use serde_json::{Value, json};

use super::fields::with_entries;
use super::template::ChatTemplate;
use super::{Tokenizer, TokenizerError};

/// The files of a folder that describe a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuggingFaceFiles {
    /// The bytes of `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// The contents of `tokenizer_config.json`.
    pub config: Value,
}

impl Tokenizer {
    /// The files for a model that reads at most `positions` tokens, with the chat template that came with the
    /// tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::Parse`], which a file that was read before does not give.
    pub fn hugging_face_files(
        &self,
        positions: u32,
        chat_template: Option<&ChatTemplate>,
    ) -> Result<HuggingFaceFiles, TokenizerError> {
        let start = self.start_token().and_then(|id| Some((id, self.token(id)?)));
        let mut entries = vec![("truncation", Value::Null), ("padding", Value::Null)];
        match &start {
            Some((id, name)) => entries.push(("post_processor", starting_template(*id, name))),
            None if self.saved.before.is_empty() && self.saved.after.is_empty() => {}
            None => entries.push(("post_processor", Value::Null)),
        }
        let tokenizer = with_entries(&self.json, &entries).map_err(TokenizerError::Parse)?;
        let tokens = self.template_tokens();
        let bos = match (&start, chat_template) {
            (Some((_, name)), _) => Some(name.clone()),
            // Templates may write its name.
            (None, Some(_)) => tokens.bos,
            (None, None) => None,
        };
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": positions,
            "clean_up_tokenization_spaces": false,
            "bos_token": bos,
            "eos_token": tokens.eos,
            "add_bos_token": start.is_some(),
            "add_eos_token": false,
        });
        if let Some(template) = chat_template {
            config["chat_template"] = template.source().into();
        }
        Ok(HuggingFaceFiles { tokenizer, config })
    }
}

/// Whether two `tokenizer.json` give the same tokens, because they differ in nothing but settings that are switched
/// off: truncation, padding and the template.
pub fn is_same_tokenizer(one: &[u8], other: &[u8]) -> bool {
    let entries = ["truncation", "padding", "post_processor"].map(|key| (key, Value::Null));
    let bare = |json: &[u8]| with_entries(json, &entries);
    one == other || matches!((bare(one), bare(other)), (Ok(one), Ok(other)) if one == other)
}

/// A template that puts one token before every text.
fn starting_template(id: u32, name: &str) -> Value {
    let start = json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    json!({
        "type": "TemplateProcessing",
        "single": [start, text("A", 0)],
        "pair": [start, text("A", 0), text("B", 1)],
        "special_tokens": { name: { "id": name, "ids": [id], "tokens": [name] } },
    })
}
