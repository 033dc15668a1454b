//! JSON lines: one object on each line, one field of which is the document.
//!
//! Other fields are not looked at, and blank lines are skipped. The length of a line is bounded before it is read. So a
//! file without line ends takes no more memory than the longest row that is allowed.

use std::io::BufRead;

use super::document::{Found, ReadRows};
use super::fault::{FileFault, RowFault};
use super::json::Field;
use super::kind::BYTE_ORDER_MARK;
use super::lines::{LineRead, Lines};

/// Rows without the field from which on the file counts as one without such a field.
const ROWS_WITHOUT: u64 = 100;

pub(super) struct JsonlRows<R> {
    lines: Lines<R>,
    field: Field,
    absent: Absent,
}

impl<R: BufRead> JsonlRows<R> {
    pub(super) fn new(reader: R, column: &str, max_row_bytes: usize) -> Self {
        Self { lines: Lines::new(reader, max_row_bytes), field: Field::new(column), absent: Absent::new(column) }
    }
}

impl<R: BufRead + Send> ReadRows for JsonlRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        loop {
            let read = self.lines.next()?;
            let row = self.lines.number();
            match read {
                LineRead::End => return self.absent.end().map(|()| None),
                LineRead::TooLong { max_bytes } => {
                    return Ok(Some((row, Found::Bad(RowFault::TooLong { max_bytes }))));
                }
                LineRead::Read => {}
            }
            let line = self.lines.line();
            // Files that were joined have the byte-order mark of each.
            let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
            if !line.is_empty() {
                return Ok(Some((row, self.absent.found(&self.field, line)?)));
            }
        }
    }
}

/// Watches that the field is there at all. A row may lack it, as it may be null. Where every row lacks it, the person
/// who imports meant another field.
pub(super) struct Absent {
    column: String,
    /// The rows that lack the field, and the fields of the first of them, until a row has it.
    so_far: Option<(u64, Vec<String>)>,
}

impl Absent {
    pub(super) fn new(column: &str) -> Self {
        Self { column: column.to_owned(), so_far: Some((0, Vec::new())) }
    }

    /// The content of a row.
    pub(super) fn found(&mut self, field: &Field, row: &[u8]) -> Result<Found, FileFault> {
        match field.read(row) {
            Ok(Some(found)) => {
                self.so_far = None;
                Ok(found)
            }
            Err(fault) => Ok(Found::Bad(fault)),
            Ok(None) => {
                if let Some((rows, columns)) = &mut self.so_far {
                    if *rows == 0 {
                        *columns = Field::columns(row);
                    }
                    *rows += 1;
                    if *rows == ROWS_WITHOUT {
                        self.end()?;
                    }
                }
                Ok(Found::Nothing)
            }
        }
    }

    /// The end of the file.
    pub(super) fn end(&mut self) -> Result<(), FileFault> {
        match self.so_far.take() {
            Some((1.., columns)) => Err(FileFault::NoColumn { column: self.column.clone(), columns }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(input: &[u8]) -> Vec<(u64, Found)> {
        let mut rows = JsonlRows::new(input, "text", 1000);
        std::iter::from_fn(|| rows.next_row().unwrap()).collect()
    }

    fn text(text: &str) -> Found {
        Found::Text { text: text.to_owned(), mended: false }
    }

    #[test]
    fn one_field_of_each_line_is_the_document() {
        let found =
            rows(b"\xef\xbb\xbf{\"id\":1,\"text\":\"a\"}\r\n\n{\"text\":\"\"}\n \xef\xbb\xbf\n{\"text\":\"b\"}");
        let bad = Found::Bad(RowFault::BadJson("at byte 1 something else stands where a value must be".to_owned()));
        assert_eq!(found, [(1, text("a")), (3, text("")), (4, bad), (5, text("b"))]);
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let long = "x".repeat(2000);
        let found = rows(format!("{{\"text\":\n{long}\n{{\"text\":\"a\"}}\n{{\"x\":1}}").as_bytes());
        assert!(matches!(found[0], (1, Found::Bad(RowFault::BadJson(_)))));
        assert_eq!(found[1], (2, Found::Bad(RowFault::TooLong { max_bytes: 1000 })));
        assert_eq!(found[2..], [(3, text("a")), (4, Found::Nothing)]);
    }

    #[test]
    fn a_field_that_no_row_has_is_refused_with_those_there_are() {
        let mut rows = JsonlRows::new(&b"{\"body\":\"a\",\"id\":1}\n{\"body\":\"b\"}"[..], "text", 1000);
        assert_eq!(rows.next_row().unwrap(), Some((1, Found::Nothing)));
        assert_eq!(rows.next_row().unwrap(), Some((2, Found::Nothing)));
        let error = rows.next_row().unwrap_err().to_string();
        assert_eq!(error, "has no column `text` of text; its columns: body (text), id (number)");
        // A long file is not read to its end for that.
        let mut rows = JsonlRows::new(std::io::BufReader::new(Endless(b"{\"body\":1}\n", 0)), "text", 1000);
        assert!((0..ROWS_WITHOUT).any(|_| rows.next_row().is_err()));
    }

    struct Endless(&'static [u8], usize);

    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer[0] = self.0[self.1 % self.0.len()];
            self.1 += 1;
            Ok(1)
        }
    }
}
