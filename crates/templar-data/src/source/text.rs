//! Plain text, cut into documents at blank lines.
//!
//! Let N be `text_document_bytes`. Once a document has N bytes, it ends after the next blank lines. A document
//! without blank lines ends with the line with which it reaches 16 N bytes. So a short file is one document,
//! and a book becomes passages. The documents joined give the file back, byte for byte. Memory never holds more
//! than 16 N bytes and one line.

use std::io::BufRead;
use std::path::PathBuf;

use super::document::{DocumentLimits, TextDocument};
use super::lines::{LineRead, read_line};
use crate::error::ImportError;

/// A document without blank lines is cut at this many times the usual length.
const MAX_FACTOR: usize = 16;

pub(super) struct TextDocuments<R> {
    reader: R,
    path: PathBuf,
    limits: DocumentLimits,
    /// The number of lines read so far.
    line: u64,
    buffer: Vec<u8>,
    /// The text of the document that is growing, and the line where it starts.
    text: String,
    starts: u64,
    after_blank: bool,
    ended: bool,
}

impl<R: BufRead> TextDocuments<R> {
    pub(super) fn new(reader: R, path: PathBuf, limits: DocumentLimits) -> Self {
        let (buffer, text) = Default::default();
        Self { reader, path, limits, line: 0, buffer, text, starts: 1, after_blank: false, ended: false }
    }

    fn finish(&mut self) -> Option<TextDocument> {
        (!self.text.is_empty()).then(|| TextDocument { text: std::mem::take(&mut self.text), row: self.starts })
    }

    fn step(&mut self) -> Result<Option<TextDocument>, ImportError> {
        loop {
            let read = read_line(&mut self.reader, &mut self.buffer, self.limits.max_document_bytes)
                .map_err(|error| ImportError::io(&self.path, error))?;
            self.line += 1;
            match read {
                LineRead::Read => {}
                LineRead::End => {
                    self.ended = true;
                    return Ok(self.finish());
                }
                LineRead::TooLong => {
                    return Err(ImportError::TooLong {
                        path: self.path.clone(),
                        row: self.line,
                        max_bytes: self.limits.max_document_bytes,
                    });
                }
            }
            let line = std::str::from_utf8(&self.buffer)
                .map_err(|_| ImportError::NotUtf8 { path: self.path.clone(), row: self.line })?;
            let blank = line.bytes().all(|byte| byte.is_ascii_whitespace());
            let least = self.limits.text_document_bytes;
            let most = least.saturating_mul(MAX_FACTOR);
            let at_blank = self.after_blank && !blank && self.text.len() >= least;
            let full = self.text.len() >= most || self.text.len() + line.len() > self.limits.max_document_bytes;
            let cut = (at_blank || full) && !self.text.is_empty();
            let document = cut.then(|| TextDocument { text: std::mem::take(&mut self.text), row: self.starts });
            if self.text.is_empty() {
                self.starts = self.line;
            }
            self.text.push_str(line);
            self.after_blank = blank;
            if document.is_some() {
                return Ok(document);
            }
        }
    }
}

impl<R: BufRead> Iterator for TextDocuments<R> {
    type Item = Result<TextDocument, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended |= step.is_err();
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{BufReader, Read};
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    fn texts(input: &[u8], text_document_bytes: usize, max_document_bytes: usize) -> Vec<TextDocument> {
        let limits = DocumentLimits { max_document_bytes, text_document_bytes };
        // A small buffer: how the bytes arrive must not matter.
        let reader = BufReader::with_capacity(7, input);
        TextDocuments::new(reader, "t.txt".into(), limits).map(Result::unwrap).collect()
    }

    #[test]
    fn documents_end_at_blank_lines_once_long_enough() {
        let found = texts(b"one\n\ntwo\n\n\nthree\nfour\n\nfive", 6, 100);
        let expected = [("one\n\ntwo\n\n\n", 1), ("three\nfour\n\n", 6), ("five", 9)];
        assert_eq!(found, expected.map(|(text, row)| TextDocument { text: text.into(), row }));
    }

    #[test]
    fn text_without_blank_lines_is_cut_at_line_ends() {
        let input = "abc\n".repeat(100);
        let found = texts(input.as_bytes(), 4, 100);
        assert!(found[..found.len() - 1].iter().all(|document| document.text.len() == 4 * MAX_FACTOR));
        assert_eq!(found[1].row, 17);
    }

    #[test]
    fn bad_bytes_and_endless_lines_are_named_by_line() {
        let limits = DocumentLimits { max_document_bytes: 10, text_document_bytes: 4 };
        let mut found = TextDocuments::new(&b"ok\nb\xffd\n"[..], "t.txt".into(), limits);
        assert!(matches!(found.next(), Some(Err(ImportError::NotUtf8 { row: 2, .. }))));
        assert!(found.next().is_none());
        let mut found = TextDocuments::new(&b"ok\n01234567890123\n"[..], "t.txt".into(), limits);
        assert!(matches!(found.next(), Some(Err(ImportError::TooLong { row: 2, max_bytes: 10, .. }))));
    }

    /// A reader without end that counts what was taken from it.
    struct Endless(Rc<Cell<usize>>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = if (self.0.get() + index) % 64 == 63 { b'\n' } else { b'x' };
            }
            self.0.set(self.0.get() + buffer.len());
            Ok(buffer.len())
        }
    }

    #[test]
    fn reading_streams() {
        let taken = Rc::new(Cell::new(0));
        let limits = DocumentLimits { max_document_bytes: 1 << 20, text_document_bytes: 1024 };
        let mut documents = TextDocuments::new(BufReader::new(Endless(taken.clone())), "t.txt".into(), limits);
        for count in 1..=1000 {
            assert_eq!(documents.next().unwrap().unwrap().text.len(), 1024 * MAX_FACTOR);
            assert!(taken.get() <= (count + 1) * 1024 * MAX_FACTOR, "{count} documents took {} bytes", taken.get());
        }
    }

    proptest! {
        #[test]
        fn documents_joined_give_the_file_back(input in "[ab\n ]{0,200}", least in 1usize..40) {
            let found = texts(input.as_bytes(), least, 300);
            let joined: String = found.iter().map(|document| document.text.as_str()).collect();
            prop_assert_eq!(&joined, &input);
            let (_, short) = found.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
            prop_assert!(short.iter().all(|document| document.text.len() >= least));
        }
    }
}
