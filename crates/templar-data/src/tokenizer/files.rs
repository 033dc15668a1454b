//! The tokenizer of a Hugging Face folder: `tokenizer.json` and `tokenizer_config.json`, so that `from_pretrained`
//! tokenises as training did.
//!
//! `tokenizer.json` is the file that was imported, byte for byte but for three entries: truncation and padding are
//! off, and the template adds the start token, or nothing where there is none. [`is_same_tokenizer`] compares files
//! without these entries.

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value, json};

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

/// The object `json` with other values for some of its own entries. All other bytes stay as they are, so that no
/// number is written anew. An entry that is not there is not added, except where its value is not null.
fn with_entries(json: &[u8], entries: &[(&str, Value)]) -> Result<Vec<u8>, String> {
    let places = places(json)?;
    let mut text = Vec::with_capacity(json.len());
    let mut copied = 0;
    for (key, range) in &places.entries {
        if let Some((_, value)) = entries.iter().find(|(name, _)| name == key) {
            text.extend_from_slice(&json[copied..range.start]);
            text.extend_from_slice(value.to_string().as_bytes());
            copied = range.end;
        }
    }
    text.extend_from_slice(&json[copied..places.end]);
    let mut separator = if places.entries.is_empty() { "" } else { ", " };
    for (key, value) in entries {
        if !value.is_null() && !places.entries.iter().any(|(name, _)| name == key) {
            text.extend_from_slice(format!("{separator}{}: {value}", Value::from(*key)).as_bytes());
            separator = ", ";
        }
    }
    text.extend_from_slice(&json[places.end..]);
    Ok(text)
}

/// The names that the fields of a `tokenizer.json` have.
const FIELDS: [&str; 9] = [
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
];

/// A field that no tokenizer has, of a file that is an object. `tokenizers` 0.23.2 reads the name of such a field and
/// steps over nothing: it refuses the file by a comma that is missing, or takes a name without a value.
pub(super) fn unknown_field(json: &[u8]) -> Option<String> {
    let keys = places(json).ok()?.entries.into_iter().map(|(key, _)| key);
    keys.into_iter().find(|key| !FIELDS.contains(&key.as_str()))
}

/// Where the values of an object lie, and where the object ends.
struct Places {
    entries: Vec<(String, std::ops::Range<usize>)>,
    end: usize,
}

/// Finds the values of the outermost object. A JSON parser steps over each of them.
fn places(json: &[u8]) -> Result<Places, String> {
    let blank = |mut at: usize| {
        while json.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let expect = |at: usize, byte: u8| {
        if json.get(at) == Some(&byte) { Ok(at + 1) } else { Err(format!("no {:?} at {at}", char::from(byte))) }
    };
    let mut at = expect(blank(0), b'{')?;
    let mut entries = Vec::new();
    loop {
        at = blank(at);
        if json.get(at) == Some(&b'}') {
            return Ok(Places { entries, end: at });
        }
        if !entries.is_empty() {
            at = blank(expect(at, b',')?);
        }
        let (key, end) = step::<String>(json, at)?;
        at = blank(expect(blank(end), b':')?);
        let (_, end) = step::<IgnoredAny>(json, at)?;
        entries.push((key, at..end));
        at = end;
    }
}

/// Parses one value that begins at `at`, and returns it with the place behind it.
fn step<T: serde::de::DeserializeOwned>(json: &[u8], at: usize) -> Result<(T, usize), String> {
    let mut values = Deserializer::from_slice(&json[at..]).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => Ok((value, at + values.byte_offset())),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the text ends early".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_entries_change() {
        let json = br#" { "a" : [1.10, {"x": "}\""}], "b":null,"c": "\u00e9" } "#;
        let changed = with_entries(json, &[("b", json!({ "y": 2 })), ("d", Value::Null)]).unwrap();
        assert_eq!(changed, br#" { "a" : [1.10, {"x": "}\""}], "b":{"y":2},"c": "\u00e9" } "#);
        let added = with_entries(br#"{"a":1}"#, &[("d", json!(3))]).unwrap();
        assert_eq!(added, br#"{"a":1, "d": 3}"#);
        assert_eq!(with_entries(b"{}", &[("a", Value::Null), ("b", json!(1))]).unwrap(), br#"{"b": 1}"#);
        for bad in [&b"[]"[..], b"{", b"{\"a\"}", b"{\"a\":1 \"b\":2}", b""] {
            assert!(with_entries(bad, &[]).is_err(), "{bad:?}");
        }
    }
}
