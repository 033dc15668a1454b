//! One JSON array in a file, each element of which is a row.
//!
//! The array is not parsed as a whole, since it may be longer than memory. Its elements are cut out one by one, by
//! counting brackets outside of strings, and each is then read as a line of JSON is. So an element that is no JSON
//! spoils only itself, as long as its brackets close.

use std::io::{BufRead, Read};

use super::document::{Found, ReadRows};
use super::fault::{FileFault, RowFault};
use super::format::Format;
use super::json::Field;
use super::jsonl::Absent;

pub(super) struct ArrayRows<R> {
    reader: R,
    field: Field,
    absent: Absent,
    max_row_bytes: usize,
    element: Vec<u8>,
    place: Place,
    /// The number of the last element, counted from 1.
    row: u64,
}

/// Where in the file the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Inside,
    After,
}

/// The mark that ended an element.
enum End {
    Comma,
    Bracket,
}

/// Whether a file is one array, told by its first bytes.
pub(super) fn is_array(start: &[u8]) -> bool {
    start.trim_ascii_start().starts_with(b"[")
}

impl<R: BufRead> ArrayRows<R> {
    pub(super) fn new(reader: R, column: &str, max_row_bytes: usize) -> Self {
        let (field, absent) = (Field::new(column), Absent::new(column));
        Self { reader, field, absent, max_row_bytes, element: Vec::new(), place: Place::Before, row: 0 }
    }

    /// Reads up to the bracket that opens the array.
    fn open(&mut self) -> Result<(), FileFault> {
        let mut before = Vec::new();
        (&mut self.reader).take(MAX_BEFORE).read_until(b'[', &mut before)?;
        match before.trim_ascii() {
            b"[" => Ok(()),
            _ => Err(damaged("it does not begin with `[`")),
        }
    }

    /// Reads that nothing follows the array.
    fn close(&mut self) -> Result<(), FileFault> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            if !bytes.trim_ascii().is_empty() {
                return Err(damaged("something follows the array"));
            }
            let length = bytes.len();
            self.reader.consume(length);
        }
    }

    /// Cuts the next element out. False where it is longer than a row may be: it was passed over then.
    fn cut(&mut self) -> Result<(End, bool), FileFault> {
        self.element.clear();
        let (mut scan, mut fits) = (Scan::default(), true);
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(damaged("it ends before its array does"));
            }
            let (length, end) = scan.element(bytes);
            fits &= self.element.len() + length <= self.max_row_bytes;
            if fits {
                self.element.extend_from_slice(&bytes[..length]);
            } else {
                self.element = Vec::new();
            }
            self.reader.consume(length + usize::from(end.is_some()));
            if let Some(end) = end {
                return Ok((end, fits));
            }
        }
    }
}

/// Blanks before the array.
const MAX_BEFORE: u64 = 1 << 20;

fn damaged(reason: &str) -> FileFault {
    FileFault::damaged(Format::Jsonl, reason)
}

impl<R: BufRead + Send> ReadRows for ArrayRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        if self.place == Place::Before {
            self.open()?;
            self.place = Place::Inside;
        }
        if self.place == Place::After {
            self.close()?;
            return self.absent.end().map(|()| None);
        }
        let (end, fits) = self.cut()?;
        let is_last = matches!(end, End::Bracket);
        if is_last {
            self.place = Place::After;
        }
        let element = self.element.trim_ascii();
        if is_last && self.row == 0 && fits && element.is_empty() {
            return self.next_row();
        }
        self.row += 1;
        let found = if fits {
            self.absent.found(&self.field, element)?
        } else {
            Found::Bad(RowFault::TooLong { max_bytes: self.max_row_bytes })
        };
        Ok(Some((self.row, found)))
    }
}

/// Counts brackets, over the pieces in which an element arrives.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// The bytes of the element in this piece, and what ended it, if it ended.
    fn element(&mut self, bytes: &[u8]) -> (usize, Option<End>) {
        for (index, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b']' if self.depth == 0 => return (index, Some(End::Bracket)),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 0 => return (index, Some(End::Comma)),
                _ => {}
            }
        }
        (bytes.len(), None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn rows(input: &str) -> Result<Vec<(u64, Found)>, FileFault> {
        // A small buffer: how the bytes arrive must not matter.
        let mut rows = ArrayRows::new(BufReader::with_capacity(3, input.as_bytes()), "text", 100);
        std::iter::from_fn(|| rows.next_row().transpose()).collect()
    }

    fn text(text: &str) -> Found {
        Found::Text { text: text.to_owned(), mended: false }
    }

    #[test]
    fn the_elements_of_an_array_are_rows() {
        let input =
            " [\n {\"text\": \"a ] } , \\\" \\\\\", \"x\": [[1], {}]},\n {\"text\": null}, {\"text\":\"b\"}\n]\n";
        assert!(is_array(input.as_bytes()));
        let expected = [(1, text("a ] } , \" \\")), (2, Found::Nothing), (3, text("b"))];
        assert_eq!(rows(input).unwrap(), expected);
        assert_eq!(rows("[]").unwrap(), []);
        assert_eq!(rows(" [ \n ] ").unwrap(), []);
    }

    #[test]
    fn a_bad_element_spoils_only_itself() {
        let long = "x".repeat(200);
        let found =
            rows(&format!("[{{\"text\":\"a\"}}, 5, {{\"text\" 1}}, {{\"text\":\"{long}\"}},, {{\"text\":\"b\"}},]"));
        let found = found.unwrap();
        assert_eq!((&found[0], &found[5]), (&(1, text("a")), &(6, text("b"))));
        assert_eq!(found[3], (4, Found::Bad(RowFault::TooLong { max_bytes: 100 })));
        for row in [1, 2, 4, 6] {
            assert!(matches!(found[row].1, Found::Bad(RowFault::BadJson(_))), "{row}: {:?}", found[row]);
        }
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn an_array_that_does_not_end_or_is_followed_is_refused() {
        for input in
            ["", "[", "[{\"text\":\"a\"}", "[{\"text\":\"a\"},", "[{\"text\":\"a", "{}", "[] x", "[{\"text\":\"a\"}]]"]
        {
            let error = rows(input).unwrap_err();
            assert!(matches!(error, FileFault::Damaged { .. }), "{input}: {error}");
        }
        assert!(matches!(rows("[{\"x\":1}]"), Err(FileFault::NoColumn { .. })));
    }
}
