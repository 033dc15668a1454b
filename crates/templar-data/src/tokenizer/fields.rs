//! The fields of a `tokenizer.json`: which there may be, and other values for some of them.

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

/// The object `json` with other values for some of its own entries. All other bytes stay as they are, so that no
/// number is written anew. An entry that is not there is not added, except where its value is not null.
pub(super) fn with_entries(json: &[u8], entries: &[(&str, Value)]) -> Result<Vec<u8>, String> {
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
    use serde_json::json;

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
