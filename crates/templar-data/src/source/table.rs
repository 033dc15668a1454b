//! CSV and TSV: tables in text, whose first row names the columns.
//!
//! A field in quotes may hold line ends, so a record has no bound of its own: [`Allowance`] stops one that is longer
//! than a row may be. A quote that nobody closes would swallow the rest of the file in silence. For that reason a last
//! line of this program's own follows the file, which must arrive as it was.

use std::io::{self, Cursor, Read};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::document::{Found, ReadRows};
use super::fault::{FileFault, RowFault};
use super::format::Format;
use super::json::LISTED;

/// The line that follows the file. The line end before it ends a last line that has none; an empty line is no record.
const LAST_LINE: &str = "\n\u{1}the last line\u{1}\n";

pub(super) struct TableRows<R> {
    reader: Reader<Allowance<io::Chain<R, Cursor<&'static str>>>>,
    format: Format,
    max_row_bytes: usize,
    /// The position of the column, and the number of columns.
    column: usize,
    columns: usize,
    record: ByteRecord,
}

impl<R: Read> TableRows<R> {
    /// Reads the names of the columns and finds the one that is wanted.
    pub(super) fn new(reader: R, format: Format, column: &str, max_row_bytes: usize) -> Result<Self, FileFault> {
        let inner = Allowance { inner: reader.chain(Cursor::new(LAST_LINE)), left: 0 };
        let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
        let mut builder = ReaderBuilder::new();
        let reader = builder.delimiter(delimiter).has_headers(false).flexible(true).from_reader(inner);
        let record = ByteRecord::new();
        let mut rows = Self { reader, format, max_row_bytes, column: 0, columns: 0, record };
        if !rows.read()? {
            return Ok(rows);
        }
        rows.columns = rows.record.len();
        let mut places = (0..rows.columns).filter(|&place| rows.record.get(place) == Some(column.as_bytes()));
        match (places.next(), places.next()) {
            (Some(_), Some(_)) => return Err(FileFault::SeveralColumns { column: column.to_owned() }),
            (Some(place), None) => rows.column = place,
            (None, _) => {
                let names = rows.record.iter().take(LISTED);
                let columns = names.map(|name| format!("{} (text)", String::from_utf8_lossy(name))).collect();
                return Err(FileFault::NoColumn { column: column.to_owned(), columns });
            }
        }
        Ok(rows)
    }

    /// Reads the next record. False at the end of the file.
    fn read(&mut self) -> Result<bool, FileFault> {
        self.reader.get_mut().left = self.max_row_bytes;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) if self.record.as_slice() == LAST_LINE.trim_matches('\n').as_bytes() => Ok(false),
            // In quotes, the last line keeps its end and becomes a part of the field.
            Ok(true) if !self.record.as_slice().ends_with(LAST_LINE.trim_start_matches('\n').as_bytes()) => Ok(true),
            Ok(_) => Err(self.damaged("a quote is not closed: it ends inside of a field")),
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                    let max_bytes = self.max_row_bytes;
                    Err(self.damaged(&format!("a row is longer than {max_bytes} bytes; perhaps a quote is not closed")))
                }
                csv::ErrorKind::Io(error) => Err(error.into()),
                other => Err(self.damaged(&format!("{other:?}"))),
            },
        }
    }

    fn damaged(&self, reason: &str) -> FileFault {
        let line = self.record.position().map_or(0, csv::Position::line);
        FileFault::damaged(self.format, format!("line {line}: {reason}"))
    }
}

impl<R: Read + Send> ReadRows for TableRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        if self.columns == 0 || !self.read()? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let (fields, columns) = (self.record.len(), self.columns);
        let found = match self.record.get(self.column) {
            Some(text) if fields == columns => Found::from_bytes(text),
            _ => Found::Bad(RowFault::BadTable(format!("{fields} fields, where the first row has {columns}"))),
        };
        Ok(Some((line, found)))
    }
}

/// A reader that gives so many bytes and then fails, until it is allowed more.
struct Allowance<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Read for Allowance<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let read = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(input: &str, format: Format) -> Result<TableRows<&[u8]>, FileFault> {
        TableRows::new(input.as_bytes(), format, "text", 1 << 17)
    }

    fn rows(input: &str, format: Format) -> Result<Vec<(u64, Found)>, FileFault> {
        let mut rows = open(input, format)?;
        std::iter::from_fn(|| rows.next_row().transpose()).collect()
    }

    fn text(text: &str) -> Found {
        Found::Text { text: text.to_owned(), mended: false }
    }

    #[test]
    fn fields_may_hold_quotes_delimiters_and_line_ends() {
        let input = "id,text\n1,\"a,\"\"b\"\"\nc\"\n\n2,5\" pipe\n3,\n4,last";
        let found = rows(input, Format::Csv).unwrap();
        assert_eq!(found, [(2, text("a,\"b\"\nc")), (4, text("5\" pipe")), (6, text("")), (7, text("last"))]);
        let found = rows("text\tid\r\na,b\t1\r\n\"c\td\"\t2\r\n", Format::Tsv).unwrap();
        assert_eq!(found.into_iter().map(|(_, found)| found).collect::<Vec<_>>(), [text("a,b"), text("c\td")]);
        assert_eq!(rows("", Format::Csv).unwrap(), []);
        assert_eq!(rows("text\n", Format::Csv).unwrap(), []);
    }

    #[test]
    fn a_row_with_other_fields_is_bad_and_the_next_is_not() {
        let found = rows("id,text\n1,a,b\n2\n3,c\n", Format::Csv).unwrap();
        let bad = |fields: u32| Found::Bad(RowFault::BadTable(format!("{fields} fields, where the first row has 2")));
        assert_eq!(found, [(2, bad(3)), (3, bad(1)), (4, text("c"))]);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_refused() {
        for input in ["id,text\n1,\"a\n2,b\n3,c", "id,text\n1,\"a\n2,b\n", "id,text\n1,\"", "\"id,text\n1,a"] {
            let error = rows(input, Format::Csv).unwrap_err().to_string();
            assert!(error.contains("a quote is not closed"), "{input}: {error}");
        }
        let endless = format!("text\n\"{}", "x\n".repeat(200_000));
        let error = rows(&endless, Format::Csv).unwrap_err().to_string();
        assert!(error.contains("a row is longer than 131072 bytes"), "{error}");
    }

    #[test]
    fn a_table_without_the_column_lists_those_it_has() {
        let error = open("id,body\n1,a\n", Format::Csv).err().unwrap().to_string();
        assert_eq!(error, "has no column `text` of text; its columns: id (text), body (text)");
        let error = open("text,id,text\na,1,b\n", Format::Csv).err().unwrap().to_string();
        assert_eq!(error, "has more than one column `text`");
    }
}
