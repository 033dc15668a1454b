//! What the readers of other crates say, in words for people who have never heard of those crates.
//!
//! Each function gives a sentence of ours. What the crate says follows in brackets where it may help somebody who
//! searches for it.

use parquet::errors::ParquetError;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use crate::guard::guarded;

/// The fault of JSON that stands on one line, or in a text of its own.
pub(crate) fn json(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split_once(" at line ").map_or(&*said, |(said, _)| said);
    let place = match error.line() {
        0 | 1 => format!("byte {}", error.column()),
        line => format!("line {line}, byte {}", error.column()),
    };
    match error.classify() {
        Category::Eof => "it ends too early, inside of a value".to_owned(),
        Category::Data => format!("at {place} {}", of_another_type(said)),
        Category::Syntax | Category::Io => match said {
            "expected value" => format!("at {place} something else stands where a value must be"),
            "trailing characters" => format!("at {place} something follows the value"),
            said => format!("at {place}: {said}"),
        },
    }
}

/// What serde says about a value of another type: ``invalid type: integer `3`, expected a string``.
fn of_another_type(said: &str) -> String {
    let parts = said.strip_prefix("invalid type: ").and_then(|said| said.split_once(", expected "));
    match parts {
        Some((found, expected)) => format!("stands {found} where {expected} must be"),
        None => format!("is what cannot be there: {said}"),
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
        ParquetError::General(said) if said.contains("checksum mismatch") => {
            "a page has another checksum than the file states".to_owned()
        }
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
        assert_eq!(said("{\"a\": 3}"), "at byte 7 stands integer `3` where a string must be");
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
        let nested = ParquetError::ArrowError("Parquet argument error: Parquet error: bad level".to_owned());
        assert_eq!(parquet(&nested), "its bytes are not what the format demands (bad level)");
    }
}
