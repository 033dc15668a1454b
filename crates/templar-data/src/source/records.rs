//! Rows of a table with all their fields: the questions of a benchmark, not the documents of a dataset.
//!
//! The formats are parquet, jsonl, one JSON array, and Arrow, each found out and decompressed as an import does it. A
//! bad row ends the reading, since a benchmark that lacks a question is another benchmark.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::Value;

use super::arrow;
use super::document::{Found, ReadRows};
use super::fault::{FileFault, RowFault};
use super::format::Format;
use super::lines::{LineRead, Lines};
use super::options::ReadOptions;
use super::parquet::ParquetRows;
use super::parquet::pages::Pages;
use super::turns::TurnValue;
use super::{InputFile, Sniffed, array, at_any_place};
use crate::error::ImportError;
use crate::words;

/// The longest row, in bytes.
const MAX_ROW_BYTES: usize = 16 << 20;

/// The largest table, in bytes of text. All of it is in memory at once.
const MAX_TABLE_BYTES: usize = 1 << 30;

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The number of the row or line, counted from 1.
    pub row: u64,
    /// The fields, an object. A value of a type that JSON does not have, such as a time, is null.
    pub fields: Value,
}

/// Reads all rows of a file. They are in memory at once: at most 1 GiB of text.
///
/// # Errors
/// [`ImportError`] where the file cannot be read, is of another format, has a bad row or is too large.
pub fn read_records(path: &Path) -> Result<Vec<Record>, ImportError> {
    let file = InputFile::File(path.to_owned());
    let failed = |fault| ImportError::file(path, fault);
    let mut rows = file.records().map_err(failed)?;
    let (mut records, mut bytes) = (Vec::new(), 0usize);
    while let Some((row, found)) = rows.next_row().map_err(failed)? {
        let at = |fault| ImportError::Row { path: path.to_owned(), row, fault };
        let value = match found {
            Found::Turns(value @ TurnValue::Object(_)) => value,
            Found::Bad(fault) => return Err(at(fault)),
            _ => return Err(at(RowFault::BadJson("it is no object".to_owned()))),
        };
        bytes = bytes.saturating_add(value.bytes());
        if bytes > MAX_TABLE_BYTES {
            return Err(at(RowFault::TooLong { max_bytes: MAX_TABLE_BYTES }));
        }
        let fields = serde_json::to_value(&value).map_err(|error| at(RowFault::BadJson(words::json(&error))))?;
        records.push(Record { row, fields });
    }
    Ok(records)
}

impl InputFile {
    /// The rows of the file, each as an object.
    fn records(&self) -> Result<Box<dyn ReadRows>, FileFault> {
        let Sniffed { format, start, mut stream, whole, taken, .. } = self.sniffed(&ReadOptions::default())?;
        Ok(match format {
            Format::Jsonl if array::is_array(&start) => Box::new(Elements::read(&mut stream)?),
            Format::Jsonl => Box::new(JsonLines(Lines::new(stream, MAX_ROW_BYTES))),
            Format::Arrow if start.starts_with(super::ARROW_FILE) => {
                let (whole, taken) = at_any_place(whole, stream, &taken)?;
                Box::new(arrow::file_records(whole, taken)?)
            }
            Format::Arrow => Box::new(arrow::stream_records(stream)?),
            Format::Parquet => {
                let (whole, taken) = at_any_place(whole, stream, &taken)?;
                Box::new(ParquetRows::records(Pages::new(whole, taken))?)
            }
            _ => {
                let hint = "give the questions as parquet, jsonl or Arrow";
                return Err(FileFault::NoText { what: "no table of rows with named fields", hint });
            }
        })
    }
}

/// The lines of a jsonl file.
struct JsonLines<R>(Lines<R>);

impl<R: BufRead + Send> ReadRows for JsonLines<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        loop {
            let read = self.0.next()?;
            let row = self.0.number();
            match read {
                LineRead::End => return Ok(None),
                LineRead::TooLong { max_bytes } => return Ok(Some((row, Found::Bad(RowFault::TooLong { max_bytes })))),
                LineRead::Read => {}
            }
            let line = self.0.line().trim_ascii();
            if !line.is_empty() {
                let parsed = serde_json::from_slice(line).map_err(|error| RowFault::BadJson(words::json(&error)));
                return Ok(Some((row, parsed.map_or_else(Found::Bad, Found::Turns))));
            }
        }
    }
}

/// The elements of one JSON array.
struct Elements {
    elements: std::vec::IntoIter<TurnValue>,
    row: u64,
}

impl Elements {
    fn read(stream: &mut impl Read) -> Result<Self, FileFault> {
        let mut bytes = Vec::new();
        stream.take(MAX_TABLE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_TABLE_BYTES {
            return Err(FileFault::damaged(Format::Jsonl, format!("it is longer than {MAX_TABLE_BYTES} bytes")));
        }
        let elements: Vec<TurnValue> =
            serde_json::from_slice(&bytes).map_err(|error| FileFault::damaged(Format::Jsonl, words::json(&error)))?;
        Ok(Self { elements: elements.into_iter(), row: 0 })
    }
}

impl ReadRows for Elements {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        self.row += 1;
        Ok(self.elements.next().map(|element| (self.row, Found::Turns(element))))
    }
}
