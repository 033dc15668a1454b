//! The tokens of a tokenizer as llama.cpp takes them.
//!
//! llama.cpp does not read how a tokenizer splits text: a file names one of the ways that it knows. So a tokenizer is
//! written only if its way has a name, and does exactly what is known under it:
//!
//! | tokenizer | `tokenizer.ggml.model` | `tokenizer.ggml.pre` |
//! |---|---|---|
//! | byte-level BPE, split as GPT-2 does | `gpt2` | `gpt-2` |
//! | the same, with every digit alone | `gpt2` | `smollm` |
//! | byte-level BPE, split as Llama 3 does, whole words first | `gpt2` | `llama-bpe` |
//! | BPE with bytes for what is unknown, made of a SentencePiece model | `llama` | |

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use templar_data::words;

use super::error::GgufError;
use super::values::Values;

/// The expression by which Llama 3 splits text.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The numbers of the kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Tokens with their kinds, and how text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// By id. Ids may have gaps.
    tokens: BTreeMap<u32, (String, i32)>,
    unknown: Option<u32>,
    way: Way,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    /// Bytes as characters, joined by merges.
    Bytes { pre: &'static str, merges: Vec<String> },
    /// Characters, joined by the score of the piece that they make. `prefix` tells whether a text begins with a blank.
    Pieces { scores: BTreeMap<u32, f32>, prefix: bool },
}

impl Vocabulary {
    /// Understands a `tokenizer.json`.
    ///
    /// # Errors
    /// [`GgufError::Tokenizer`] with what llama.cpp would do otherwise.
    pub fn read(json: &[u8]) -> Result<Self, GgufError> {
        let file: Value = serde_json::from_slice(json)
            .map_err(|error| refused(format!("it is not JSON: {}", words::json(&error))))?;
        let model = &file["model"];
        // Old files do not name the kind of the model.
        if !(model["type"] == "BPE" || (model["type"].is_null() && model["merges"].is_array())) {
            return Err(refused(format!("its model is {}, and BPE alone is written", model["type"])));
        }
        for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[affix].as_str().is_some_and(|affix| !affix.is_empty()) {
                return Err(refused(format!("its pieces have a {affix}")));
            }
        }
        let merges = merges(model)?;
        let mut tokens = tokens(&file)?;
        let unknown = model["unk_token"].as_str().and_then(|name| id(model, name));
        if let Some((_, kind)) = unknown.and_then(|id| tokens.get_mut(&id)) {
            *kind = UNKNOWN;
        }
        let is_pieces = model["byte_fallback"] == true;
        let way = if is_pieces { pieces(&file, &merges, &mut tokens)? } else { bytes(&file, &merges)? };
        Ok(Self { tokens, unknown, way })
    }

    /// One more than the highest id.
    pub fn len(&self) -> usize {
        self.tokens.last_key_value().map_or(0, |(id, _)| *id as usize + 1)
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The keys about tokens. There is one token for each of the model's `rows`.
    pub(super) fn describe(&self, rows: u32, values: &mut Values) {
        let unused = |id: u32| (format!("[PAD{id}]"), UNUSED);
        let tokens: Vec<(String, i32)> =
            (0..rows).map(|id| self.tokens.get(&id).cloned().unwrap_or_else(|| unused(id))).collect();
        let kinds: Vec<i32> = tokens.iter().map(|(_, kind)| *kind).collect();
        let model = match self.way {
            Way::Bytes { .. } => "gpt2",
            Way::Pieces { .. } => "llama",
        };
        values.text("tokenizer.ggml.model", model);
        values.texts("tokenizer.ggml.tokens", tokens.iter().map(|(token, _)| token.as_str()));
        values.i32s("tokenizer.ggml.token_type", &kinds);
        match &self.way {
            Way::Bytes { pre, merges } => {
                values.text("tokenizer.ggml.pre", pre);
                values.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
            }
            Way::Pieces { scores, prefix } => {
                let scores: Vec<f32> = (0..rows).map(|id| scores.get(&id).copied().unwrap_or(0.0)).collect();
                values.f32s("tokenizer.ggml.scores", &scores);
                values.flag("tokenizer.ggml.add_space_prefix", *prefix);
            }
        }
        if let Some(unknown) = self.unknown {
            values.u32("tokenizer.ggml.unknown_token_id", unknown);
        }
    }
}

fn refused(reason: impl Into<String>) -> GgufError {
    GgufError::Tokenizer { reason: reason.into() }
}

fn id(model: &Value, name: &str) -> Option<u32> {
    model["vocab"][name].as_u64().and_then(|id| u32::try_from(id).ok())
}

/// The pairs that are joined, the first first.
fn merges(model: &Value) -> Result<Vec<(String, String)>, GgufError> {
    let list = model["merges"].as_array().ok_or_else(|| refused("it has no merges"))?;
    let pair = |merge: &Value| {
        let (left, right) = match merge {
            Value::String(text) => text.split_once(' ')?,
            pair => (pair[0].as_str()?, pair[1].as_str()?),
        };
        Some((left.to_owned(), right.to_owned()))
    };
    list.iter().map(|merge| pair(merge).ok_or_else(|| refused(format!("{merge} is no merge")))).collect()
}

/// The tokens of the model and those that were added to it.
fn tokens(file: &Value) -> Result<BTreeMap<u32, (String, i32)>, GgufError> {
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let vocabulary = file["model"]["vocab"].as_object().ok_or_else(|| refused("it has no vocabulary"))?;
    let mut tokens = BTreeMap::new();
    for (token, id) in vocabulary {
        let id = number(id).ok_or_else(|| refused(format!("{id} is no id")))?;
        if let Some((other, _)) = tokens.insert(id, (token.clone(), NORMAL)) {
            return Err(refused(format!("{token:?} and {other:?} have the id {id}")));
        }
    }
    for added in file["added_tokens"].as_array().into_iter().flatten() {
        let (Some(id), Some(token)) = (number(&added["id"]), added["content"].as_str()) else {
            return Err(refused(format!("{added} is no token")));
        };
        let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
        tokens.insert(id, (token.to_owned(), kind));
    }
    Ok(tokens)
}

/// The way of byte-level tokenizers.
fn bytes(file: &Value, merges: &[(String, String)]) -> Result<Way, GgufError> {
    if !file["normalizer"].is_null() {
        return Err(refused(format!("it changes text before it splits it ({})", file["normalizer"]["type"])));
    }
    let is_whole_first = file["model"]["ignore_merges"] == true;
    let pre = match steps(&file["pre_tokenizer"]).as_slice() {
        [level] if is_byte_level(level, true) && !is_whole_first => "gpt-2",
        [digits, level] if is_digits(digits) && is_byte_level(level, true) && !is_whole_first => "smollm",
        [split, level] if is_llama3(split) && is_byte_level(level, false) && is_whole_first => "llama-bpe",
        _ => return Err(refused("it splits text in a way of its own (pre_tokenizer)")),
    };
    Ok(Way::Bytes { pre, merges: merges.iter().map(|(left, right)| format!("{left} {right}")).collect() })
}

/// The steps of a sequence, or the one step.
fn steps(step: &Value) -> Vec<&Value> {
    ["pretokenizers", "normalizers"]
        .iter()
        .find_map(|name| step[*name].as_array())
        .map_or_else(|| vec![step], |steps| steps.iter().collect())
}

fn is_byte_level(step: &Value, splits: bool) -> bool {
    let uses_regex = step["use_regex"].as_bool().unwrap_or(true);
    step["type"] == "ByteLevel" && step["add_prefix_space"] == false && uses_regex == splits
}

fn is_digits(step: &Value) -> bool {
    step["type"] == "Digits" && step["individual_digits"] == true
}

fn is_llama3(step: &Value) -> bool {
    step["type"] == "Split"
        && step["pattern"]["Regex"] == LLAMA3
        && step["behavior"] == "Isolated"
        && step["invert"] == false
}

/// The way of tokenizers that were SentencePiece models. There a piece has a score, and of all neighbours that make a
/// piece those of the highest score are joined first. Merges say the same where each piece's come together, and are all
/// of its divisions into two pieces.
fn pieces(
    file: &Value,
    merges: &[(String, String)],
    tokens: &mut BTreeMap<u32, (String, i32)>,
) -> Result<Way, GgufError> {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let prepend = json!({ "type": "Prepend", "prepend": "▁" });
    let prefix = match steps(&file["normalizer"]).as_slice() {
        [first, second] if **first == prepend && **second == replace => true,
        [only] if **only == replace => false,
        _ => return Err(refused("it changes text in a way of its own (normalizer)")),
    };
    if !file["pre_tokenizer"].is_null() || file["model"]["ignore_merges"] == true {
        return Err(refused("it splits text before it joins pieces (pre_tokenizer, ignore_merges)"));
    }
    for byte in 0..=255u8 {
        let name = format!("<0x{byte:02X}>");
        let found = tokens.values_mut().find(|(token, kind)| *token == name && *kind == NORMAL);
        found.ok_or_else(|| refused(format!("it has no token for the byte {byte:#04x}")))?.1 = BYTE;
    }
    let normal = tokens.iter().filter(|(_, (_, kind))| *kind == NORMAL);
    let ids: BTreeMap<&str, u32> = normal.map(|(id, (token, _))| (token.as_str(), *id)).collect();
    let mut scores = BTreeMap::new();
    let mut last = None;
    for (rank, (left, right)) in merges.iter().enumerate() {
        let piece = format!("{left}{right}");
        let id = *ids.get(piece.as_str()).ok_or_else(|| refused(format!("{piece:?} is merged and is no token")))?;
        if last != Some(id) && scores.insert(id, -(rank as f32)).is_some() {
            return Err(refused(format!("the merges of {piece:?} do not come together")));
        }
        last = Some(id);
    }
    let known: BTreeSet<(&str, &str)> = merges.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
    for piece in ids.keys() {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) && !known.contains(&(left, right)) {
                return Err(refused(format!("{left:?} and {right:?} are not merged, though {piece:?} is a token")));
            }
        }
    }
    Ok(Way::Pieces { scores, prefix })
}
