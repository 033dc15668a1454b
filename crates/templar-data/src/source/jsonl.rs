//! JSON lines: one object on each line, whose field `text` is the document.
//!
//! Other fields are ignored, and blank lines are skipped. The length of a line is bounded before it is read,
//! and that of its `text` afterwards. So a file without line ends takes no more memory than the longest line
//! that is allowed.

use std::borrow::Cow;
use std::io::BufRead;
use std::path::PathBuf;

use serde::Deserialize;

use super::document::{DocumentLimits, TextDocument};
use super::lines::{LineRead, read_line};
use crate::error::ImportError;

/// A line may be longer than its text by escapes, which take up to six bytes for one, and by other fields.
const LINE_FACTOR: usize = 6;
const LINE_EXTRA_BYTES: usize = 1 << 20;

/// One line. An absent field and a null field are the same mistake.
#[derive(Deserialize)]
struct JsonRow<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

pub(super) struct JsonlDocuments<R> {
    reader: R,
    path: PathBuf,
    limits: DocumentLimits,
    /// The number of lines read so far.
    line: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> JsonlDocuments<R> {
    pub(super) fn new(reader: R, path: PathBuf, limits: DocumentLimits) -> Self {
        Self { reader, path, limits, line: 0, buffer: Vec::new(), ended: false }
    }

    fn step(&mut self) -> Result<Option<TextDocument>, ImportError> {
        let max_bytes = self.limits.max_document_bytes;
        let max_line_bytes = max_bytes.saturating_mul(LINE_FACTOR).saturating_add(LINE_EXTRA_BYTES);
        loop {
            let read = read_line(&mut self.reader, &mut self.buffer, max_line_bytes)
                .map_err(|error| ImportError::io(&self.path, error))?;
            self.line += 1;
            let (path, row) = (&self.path, self.line);
            let too_long = || ImportError::TooLong { path: path.clone(), row, max_bytes };
            match read {
                LineRead::Read => {}
                LineRead::End => return Ok(None),
                LineRead::TooLong => return Err(too_long()),
            }
            let line =
                std::str::from_utf8(&self.buffer).map_err(|_| ImportError::NotUtf8 { path: path.clone(), row })?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let bad = |reason: String| ImportError::BadJson { path: path.clone(), row, reason };
            // serde would accept an array, and take its elements for the fields in order.
            if !line.trim_ascii_start().starts_with('{') {
                return Err(bad("not a JSON object".to_owned()));
            }
            let parsed: JsonRow<'_> = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
            let text = parsed.text.ok_or_else(|| ImportError::NoText { path: path.clone(), row })?;
            if text.len() > max_bytes {
                return Err(too_long());
            }
            return Ok(Some(TextDocument { text: text.into_owned(), row }));
        }
    }
}

impl<R: BufRead> Iterator for JsonlDocuments<R> {
    type Item = Result<TextDocument, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Vec<Result<TextDocument, ImportError>> {
        let limits = DocumentLimits { max_document_bytes: 20, text_document_bytes: 4 };
        JsonlDocuments::new(input, "d.jsonl".into(), limits).collect()
    }

    fn failure(input: &[u8]) -> ImportError {
        read(input).pop().unwrap().unwrap_err()
    }

    #[test]
    fn the_text_field_is_the_document() {
        let found =
            read(b"{\"id\":1,\"text\":\"a\\nb\"}\r\n\n{\"text\":\"\",\"meta\":{\"x\":[1]}}\n{\"text\":\"\\u00e9\"}");
        let found: Vec<_> = found.into_iter().map(|document| document.unwrap()).map(|d| (d.text, d.row)).collect();
        assert_eq!(found, [("a\nb".to_owned(), 1), (String::new(), 3), ("é".to_owned(), 4)]);
    }

    #[test]
    fn bad_lines_are_named_by_number() {
        assert!(matches!(failure(b"{\"text\":\"a\"}\n{\"text\":\n"), ImportError::BadJson { row: 2, .. }));
        assert!(matches!(failure(b"{\"text\":5}"), ImportError::BadJson { row: 1, .. }));
        for line in [&b"[\"text\"]"[..], b"\"text\"", b"5", b"null"] {
            assert!(matches!(failure(line), ImportError::BadJson { row: 1, .. }));
        }
        assert!(matches!(failure(b"{\"text\":\"a\",\"text\":\"b\"}"), ImportError::BadJson { row: 1, .. }));
        assert!(matches!(failure(b"\n{\"txt\":\"a\"}"), ImportError::NoText { row: 2, .. }));
        assert!(matches!(failure(b"{\"text\":null}"), ImportError::NoText { row: 1, .. }));
        assert!(matches!(failure(b"{\"text\":\"\xff\"}"), ImportError::NotUtf8 { row: 1, .. }));
        assert!(matches!(failure(b"{\"text\":\"123456789012345678901\"}"), ImportError::TooLong { row: 1, .. }));
        let endless = vec![b'x'; 2 * LINE_EXTRA_BYTES];
        assert!(matches!(failure(&endless), ImportError::TooLong { row: 1, .. }));
    }

    #[test]
    fn other_fields_may_nest_as_deep_as_they_like() {
        let deep = format!("{{\"x\":{}{},\"text\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(deep.as_bytes()).pop().unwrap().unwrap().text, "a");
    }
}
