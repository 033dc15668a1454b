//! Plain text, cut into documents at blank lines.
//!
//! Let N be `text_document_bytes`. Once a document has N bytes, it ends after the next blank lines. A document
//! without blank lines ends with the line with which it reaches 16 N bytes. So a short file is one document,
//! and a book becomes passages. The documents joined give the file back, byte for byte. Memory never holds more
//! than 16 N bytes and one line; of a line that is longer than a document may be, every such length counts as a line.

use std::io::BufRead;

use super::document::{Found, ReadRows};
use super::fault::{FileFault, RowFault};
use super::lines::read_part;
use super::options::ReadOptions;

/// A document without blank lines is cut at this many times the usual length.
const MAX_FACTOR: usize = 16;

pub(super) struct TextRows<R> {
    reader: R,
    /// The length from which a document ends at a blank line, and the longest document, in bytes.
    least: usize,
    max_bytes: usize,
    /// The number of the line in the buffer, and whether the buffer ends inside of it.
    line: u64,
    is_part: bool,
    buffer: Vec<u8>,
    /// Bytes of a character that the end of a part has cut.
    tail: Vec<u8>,
    /// The text of the document that is growing, and the line where it starts.
    text: String,
    starts: u64,
    after_blank: bool,
}

impl<R: BufRead> TextRows<R> {
    pub(super) fn new(reader: R, options: &ReadOptions) -> Self {
        let (least, max_bytes) = (options.text_document_bytes, options.max_document_bytes);
        let (buffer, tail, text) = Default::default();
        Self { reader, least, max_bytes, line: 0, is_part: false, buffer, tail, text, starts: 1, after_blank: false }
    }

    /// Reads the next line, or part of one, into the buffer. False at the end of the file.
    fn read(&mut self) -> Result<bool, FileFault> {
        self.line += u64::from(!self.is_part);
        self.buffer.clear();
        self.buffer.append(&mut self.tail);
        let room = self.max_bytes - self.buffer.len();
        let read = read_part(&mut self.reader, &mut self.buffer, room)?;
        self.is_part = read == room && !self.buffer.ends_with(b"\n");
        if self.is_part {
            let whole = self.buffer.len() - cut_character(&self.buffer);
            self.tail = self.buffer.split_off(whole);
        }
        Ok(read > 0 || !self.buffer.is_empty())
    }

    fn take(&mut self) -> (u64, Found) {
        (self.starts, Found::Text { text: std::mem::take(&mut self.text), mended: false })
    }
}

impl<R: BufRead + Send> ReadRows for TextRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        while self.read()? {
            let Ok(line) = std::str::from_utf8(&self.buffer) else {
                return Ok(Some((self.line, Found::Bad(RowFault::NotUtf8))));
            };
            let blank = line.bytes().all(|byte| byte.is_ascii_whitespace());
            let at_blank = self.after_blank && !blank && self.text.len() >= self.least;
            let most = self.least.saturating_mul(MAX_FACTOR);
            let full = self.text.len() >= most || self.text.len() + line.len() > self.max_bytes;
            let cut = (at_blank || full) && !self.text.is_empty();
            let document = cut.then(|| (self.starts, std::mem::take(&mut self.text)));
            if self.text.is_empty() {
                self.starts = self.line;
            }
            self.text.push_str(line);
            self.after_blank = blank;
            if let Some((row, text)) = document {
                return Ok(Some((row, Found::Text { text, mended: false })));
            }
        }
        Ok((!self.text.is_empty()).then(|| self.take()))
    }
}

/// The number of bytes at the end that begin a character of UTF-8 and do not end it.
fn cut_character(bytes: &[u8]) -> usize {
    let begins = |length: &usize| {
        let byte = bytes[bytes.len() - length];
        byte >= 0xc0 && usize::from(byte >= 0xe0) + usize::from(byte >= 0xf0) + 2 > *length
    };
    (1..=bytes.len().min(3)).find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn rows<R: BufRead + Send>(reader: R, text_document_bytes: usize, max_document_bytes: usize) -> TextRows<R> {
        TextRows::new(reader, &ReadOptions { text_document_bytes, max_document_bytes, ..Default::default() })
    }

    fn texts(input: &[u8], text_document_bytes: usize, max_document_bytes: usize) -> Vec<(u64, String)> {
        // A small buffer: how the bytes arrive must not matter.
        let mut rows = rows(BufReader::with_capacity(7, input), text_document_bytes, max_document_bytes);
        let texts = std::iter::from_fn(|| rows.next_row().unwrap()).map(|(row, found)| match found {
            Found::Text { text, .. } => (row, text),
            other => panic!("{other:?}"),
        });
        texts.collect()
    }

    #[test]
    fn documents_end_at_blank_lines_once_long_enough() {
        let found = texts(b"one\n\ntwo\n\n\nthree\nfour\n\nfive", 6, 100);
        let expected = [(1, "one\n\ntwo\n\n\n"), (6, "three\nfour\n\n"), (9, "five")];
        assert_eq!(found, expected.map(|(row, text)| (row, text.to_owned())));
    }

    #[test]
    fn text_without_blank_lines_is_cut_at_line_ends() {
        let input = "abc\n".repeat(100);
        let found = texts(input.as_bytes(), 4, 100);
        assert!(found[..found.len() - 1].iter().all(|(_, text)| text.len() == 4 * MAX_FACTOR));
        assert_eq!(found[1].0, 17);
    }

    #[test]
    fn bad_bytes_are_named_by_line_and_what_is_around_them_stays() {
        let mut rows = rows(&b"ok\nb\xffd\nfine\n"[..], 4, 10);
        assert_eq!(rows.next_row().unwrap(), Some((2, Found::Bad(RowFault::NotUtf8))));
        assert_eq!(rows.next_row().unwrap(), Some((1, Found::Text { text: "ok\nfine\n".to_owned(), mended: false })));
        assert_eq!(rows.next_row().unwrap(), None);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let found = texts("0123456789éé漢字🎭🎭x\nlast".as_bytes(), 4, 7);
        let expected = ["0123456", "789éé", "漢字", "🎭", "🎭x\n", "last"];
        assert_eq!(found.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 2]);
    }

    /// A reader without end that counts what was taken from it.
    struct Endless(Arc<AtomicUsize>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let taken = self.0.fetch_add(buffer.len(), Ordering::Relaxed);
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = if (taken + index) % 64 == 63 { b'\n' } else { b'x' };
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn reading_streams() {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut documents = rows(BufReader::new(Endless(taken.clone())), 1024, 1 << 20);
        for count in 1..=1000 {
            let text = "x".repeat(63) + "\n";
            let expected = Found::Text { text: text.repeat(16 * MAX_FACTOR), mended: false };
            assert_eq!(documents.next_row().unwrap().unwrap().1, expected);
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken <= (count + 1) * 1024 * MAX_FACTOR, "{count} documents took {taken} bytes");
        }
    }

    proptest! {
        #[test]
        fn documents_joined_give_the_file_back(input in "[ab\n ]{0,200}", least in 1usize..40) {
            let found = texts(input.as_bytes(), least, 300);
            let joined: String = found.iter().map(|(_, text)| text.as_str()).collect();
            prop_assert_eq!(&joined, &input);
            let (_, short) = found.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
            prop_assert!(short.iter().all(|(_, text)| text.len() >= least));
        }
    }
}
