//! What the readers of other crates say, in words for people who have never heard of those crates.
//!
//! Each function gives a sentence of ours. What the crate says follows in brackets where it may help somebody who
//! searches for it.

use std::ops::Range;

use parquet::errors::ParquetError;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use crate::guard::guarded;

/// The fault of JSON that stands on one line, or in a text of its own.
pub fn json(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split_once(" at line ").map_or(&*said, |(said, _)| said);
    let place = match error.line() {
        // A value that was read before has no place any more.
        0 => return misfit(said),
        1 => format!("byte {}", error.column()),
        line => format!("line {line}, byte {}", error.column()),
    };
    match error.classify() {
        Category::Eof => "it ends too early, inside of a value".to_owned(),
        Category::Data => format!("at {place}: {}", misfit(said)),
        Category::Syntax | Category::Io => match said {
            "expected value" => format!("at {place} something else stands where a value must be"),
            "trailing characters" => format!("at {place} something follows the value"),
            said => format!("at {place}: {said}"),
        },
    }
}

/// The fault of a TOML file. The parser says `said` about the bytes `span` of `text`, if it knows them.
pub fn toml(text: &str, span: Option<Range<usize>>, said: &str) -> String {
    let said = match said {
        "duplicate key" => "the key stands there already".to_owned(),
        _ if said.starts_with("invalid basic string") || said.starts_with("invalid literal string") => {
            "a text lacks its closing quote".to_owned()
        }
        "string values must be quoted, expected literal string" => "a text must stand in quotes".to_owned(),
        "invalid socket address syntax" => "an address must be such as 0.0.0.0:4433 or [::]:4433".to_owned(),
        said => misfit(said),
    };
    let Some(before) = span.and_then(|span| text.get(..span.start)) else { return said };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("at line {line}, column {column}: {said}")
}

/// What serde says about a value that does not fit, such as ``invalid type: integer `3`, expected a string``.
pub fn misfit(said: &str) -> String {
    let of_kind = ["invalid type: ", "invalid value: "].iter().find_map(|prefix| said.strip_prefix(prefix));
    if let Some((found, expected)) = of_kind.and_then(|said| said.split_once(", expected ")) {
        return format!("{} stands where {} must be", value_in_words(found), kind_in_words(expected));
    }
    if let Some(key) = said.strip_prefix("unknown field ") {
        let (key, known) = key.split_once(", ").unwrap_or((key, ""));
        return match known.strip_prefix("expected ").map(|known| known.strip_prefix("one of ").unwrap_or(known)) {
            Some(known) => format!("{key} is no key here, but {} can be", known.replace(" or ", ", ")),
            None => format!("{key} is no key here"),
        };
    }
    if let Some((found, known)) = said.strip_prefix("unknown variant ").and_then(|said| said.split_once(", expected "))
    {
        return format!("{found} stands where {known} must be");
    }
    if let Some(key) = said.strip_prefix("missing field ") {
        return format!("the key {key} is missing");
    }
    if let Some(key) = said.strip_prefix("duplicate field ") {
        return format!("the key {key} stands twice");
    }
    said.to_owned()
}

/// A value as serde tells it, such as ``integer `3` ``.
fn value_in_words(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    match (kind, value) {
        ("integer" | "boolean", value) => value.trim_matches('`').to_owned(),
        ("floating", value) => value.trim_start_matches("point ").trim_matches('`').to_owned(),
        ("string", value) => format!("the text {value}"),
        ("map", _) => "a group of values".to_owned(),
        ("sequence", _) => "a list".to_owned(),
        ("null", _) | ("unit", "value") => "nothing".to_owned(),
        _ => found.to_owned(),
    }
}

/// A kind of values as serde expects it: the name of one of Rust's types, or a few words.
fn kind_in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "a borrowed string" | "string or table" => "a text",
        "a sequence" => "a list",
        "a map" => "a group of values",
        expected if expected.starts_with("struct ") => "a group of values",
        expected => expected,
    }
}

/// The fault of a parquet file.
pub(crate) fn parquet(error: &ParquetError) -> String {
    let said = error.to_string();
    match error {
        ParquetError::External(error) if error.is::<std::io::Error>() => error.to_string(),
        ParquetError::General(said) if said == "Invalid Parquet file. Corrupt footer" => {
            "it does not end as a parquet file does, so it was cut off or is something else".to_owned()
        }
        ParquetError::General(said) if said.contains("encrypted") => "it is encrypted".to_owned(),
        _ if said.contains("checksum mismatch") => "a page has another checksum than the file states".to_owned(),
        ParquetError::EOF(said) if said.starts_with("it has ") => said.clone(),
        ParquetError::EOF(_) | ParquetError::NeedMoreData(_) | ParquetError::NeedMoreDataRange(_) => {
            format!("it ends too early, or a length in it is wrong ({})", bare(&said))
        }
        ParquetError::NYI(_) => format!("it is written in a way that is not read here ({})", bare(&said)),
        _ => format!("its bytes are not what the format demands ({})", bare(&said)),
    }
}

/// A message of the parquet crate without the names of the errors around it.
fn bare(mut message: &str) -> &str {
    let around = ["External: ", "Arrow: ", "Parquet argument error: ", "Parquet error: ", "NYI: ", "EOF: "];
    while let Some(inner) = around.iter().find_map(|prefix| message.strip_prefix(prefix)) {
        message = inner;
    }
    message
}

/// The fault of a compressed stream.
pub(crate) fn compressed(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
        _ => format!("it does not decompress ({error})"),
    }
}

/// Whether a compressed stream asks for more memory than its reader may take.
pub(crate) fn is_of_memory(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::OutOfMemory || error.to_string().contains("memory")
}

/// The fault of a `tokenizer.json` of which the library has said `said`.
pub(crate) fn tokenizer(json: &[u8], said: &str) -> String {
    let file: Value = match serde_json::from_slice(json) {
        Ok(file) => file,
        Err(error) => return format!("it is no JSON: {}", self::json(&error)),
    };
    if file.get("model").is_none_or(|model| !model.is_object()) {
        return "it is JSON without a `model`, so it is something else than a tokenizer.json".to_owned();
    }
    let fault = part::<ModelWrapper>(&file, "model")
        .or_else(|| part::<NormalizerWrapper>(&file, "normalizer"))
        .or_else(|| part::<PreTokenizerWrapper>(&file, "pre_tokenizer"))
        .or_else(|| part::<PostProcessorWrapper>(&file, "post_processor"))
        .or_else(|| part::<DecoderWrapper>(&file, "decoder"));
    fault.unwrap_or_else(|| format!("its parts do not fit together ({said})"))
}

/// The fault of a part of a `tokenizer.json`; none where it is not there, or is sound by itself.
fn part<T: DeserializeOwned>(file: &Value, name: &str) -> Option<String> {
    let value = file.get(name).filter(|value| !value.is_null())?;
    let read = guarded(|| serde_json::from_value::<T>(value.clone()).map(|_| ()));
    let said = read.map_or_else(Some, |read| read.err().map(|error| error.to_string()))?;
    let of_type = value.get("type").and_then(Value::as_str).map(|kind| format!(" of the type {kind:?}"));
    let of_type = of_type.unwrap_or_default();
    Some(if said.contains("did not match any variant") {
        format!("its {name}{of_type} is of no kind that is known here, or lacks something")
    } else {
        format!("its {name}{of_type} cannot be used ({said})")
    })
}

/// The fault of a message of an Arrow file.
pub(crate) fn arrow(error: &dyn std::fmt::Display) -> String {
    let said = error.to_string();
    // The crate adds a trace of the places that led there, one a line.
    let said = said.lines().next().unwrap_or_default();
    format!("its bytes are not what the format demands ({said})")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn json_is_told_without_the_names_of_a_parser() {
        let said = |text: &str| json(&serde_json::from_str::<BTreeMap<String, String>>(text).unwrap_err());
        assert_eq!(said("{\"a\":"), "it ends too early, inside of a value");
        assert_eq!(said("{\"a\": ?}"), "at byte 7 something else stands where a value must be");
        assert_eq!(said("{\"a\": \"b\"} x"), "at byte 12 something follows the value");
        assert_eq!(said("{\"a\": \"b\",\n \"c\" \"d\"}"), "at line 2, byte 6: expected `:`");
        assert_eq!(said("{\"a\": 3}"), "at byte 7: 3 stands where a text must be");
        assert_eq!(said("[]"), "at byte 0: a list stands where a group of values must be");
        let before = serde_json::from_value::<String>(Value::from(3)).unwrap_err();
        assert_eq!(json(&before), "3 stands where a text must be");
    }

    #[test]
    fn toml_is_told_with_its_place_and_without_types_of_a_language() {
        let told = |at: usize, said: &str| toml("a = 1\nä = 2\n", Some(at..at + 1), said);
        let cases = [
            (
                4,
                "invalid type: integer `1`, expected a boolean",
                "at line 1, column 5: 1 stands where true or false must be",
            ),
            (
                11,
                "invalid value: integer `-1`, expected u32",
                "at line 2, column 5: -1 stands where a whole number that is not negative must be",
            ),
            (
                6,
                "invalid type: string \"x\", expected u64",
                "at line 2, column 1: the text \"x\" stands where a whole number that is not negative must be",
            ),
            (
                6,
                "invalid type: map, expected a sequence",
                "at line 2, column 1: a group of values stands where a list must be",
            ),
            (
                6,
                "unknown field `b`, expected one of `c`, `d`",
                "at line 2, column 1: `b` is no key here, but `c`, `d` can be",
            ),
            (6, "unknown field `b`, expected `c`", "at line 2, column 1: `b` is no key here, but `c` can be"),
            (6, "unknown variant `b`, expected `c` or `d`", "at line 2, column 1: `b` stands where `c` or `d` must be"),
            (6, "missing field `hash`", "at line 2, column 1: the key `hash` is missing"),
            (6, "duplicate key", "at line 2, column 1: the key stands there already"),
            (6, "invalid basic string, expected `\"`", "at line 2, column 1: a text lacks its closing quote"),
        ];
        for (at, said, words) in cases {
            assert_eq!(told(at, said), words);
        }
        assert_eq!(toml("", None, "missing field `hash`"), "the key `hash` is missing");
        assert_eq!(misfit("upload cannot be \"many\""), "upload cannot be \"many\"", "words of ours stay");
    }

    #[test]
    fn the_part_of_a_tokenizer_that_is_wrong_is_named() {
        let said = |json: &str| tokenizer(json.as_bytes(), "something");
        assert_eq!(said("{\"model\":"), "it is no JSON: it ends too early, inside of a value");
        assert!(said("{\"vocab\": {}}").contains("without a `model`"));
        let model = r#"{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}"#;
        assert_eq!(said(&format!("{{\"model\":{model}}}")), "its parts do not fit together (something)");
        let odd = said(r#"{"model":{"type":"Quantum"}}"#);
        assert!(odd.starts_with("its model of the type \"Quantum\" "), "{odd}");
        let odd = said(&format!("{{\"model\":{model},\"normalizer\":{{\"type\":\"Bleach\"}}}}"));
        assert!(odd.starts_with("its normalizer of the type \"Bleach\" "), "{odd}");
    }

    #[test]
    fn parquet_is_told_in_words_of_ours() {
        let cut = ParquetError::General("Invalid Parquet file. Corrupt footer".to_owned());
        assert_eq!(parquet(&cut), "it does not end as a parquet file does, so it was cut off or is something else");
        let way = ParquetError::NYI("The codec type LZO is not supported yet".to_owned());
        let said = "it is written in a way that is not read here (The codec type LZO is not supported yet)";
        assert_eq!(parquet(&way), said);
        let page =
            ParquetError::ArrowError("Parquet argument error: Parquet error: Page CRC checksum mismatch".to_owned());
        assert_eq!(parquet(&page), "a page has another checksum than the file states");
        let nested = ParquetError::ArrowError("Parquet argument error: Parquet error: bad level".to_owned());
        assert_eq!(parquet(&nested), "its bytes are not what the format demands (bad level)");
    }
}
