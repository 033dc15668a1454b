//! The documents of one file: rows as a reader finds them, under the choices of the person who imports.
//!
//! A reader of a format gives rows and knows no policy. [`Documents`] decides about each row: a sound text goes out, a
//! long one is split, cut or left out, a missing one is counted, and a bad one ends the import or is counted. So every
//! format behaves alike.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::fault::{FileFault, RowFault};
use super::input::{Taken, Watch};
use super::options::{LongDocuments, OnBadRow, ReadOptions};
use super::report::ReadReport;
use super::turns::TurnValue;
use crate::error::ImportError;

/// One document, and the row, line or token where it starts, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) content: Content,
    pub(crate) row: u64,
}

/// The material of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// A text. The names of special tokens in it are ordinary text.
    Text(String),
    /// The turns of a conversation, each an object with `role` and `content`.
    Turns(Vec<TurnValue>),
    /// Tokens that were made elsewhere, without those that start and end a document.
    Tokens(Vec<u32>),
}

impl Content {
    /// The length, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Turns(turns) => turns.iter().map(TurnValue::bytes).sum(),
            Self::Tokens(ids) => size_of_val(ids.as_slice()),
        }
    }
}

/// The properties of the tokenizer that a reader of ready-made tokens must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    /// One more than the highest token.
    pub(crate) size: u32,
    /// The token that ends a document.
    pub(crate) end: u32,
}

/// The content that a reader found in a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// A text. It is mended where half characters in it became U+FFFD.
    Text { text: String, mended: bool },
    /// The turns of a conversation.
    Turns(TurnValue),
    /// Tokens. `ends` says that a document ends with them.
    Tokens { ids: Vec<u32>, ends: bool },
    /// The text is null or absent.
    Nothing,
    /// The row cannot be used, but the rows after it can.
    Bad(RowFault),
}

impl Found {
    /// A text from bytes that need not be UTF-8.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text { text: text.to_owned(), mended: false },
            Err(_) => Self::Bad(RowFault::NotUtf8),
        }
    }
}

/// The reader of a format.
pub(super) trait ReadRows: Send {
    /// The next row with its number, counted from 1; none at the end of the file.
    ///
    /// # Errors
    /// [`FileFault`] where the file cannot be read on. Nothing may be asked of the reader afterwards.
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault>;

    /// Takes the sentences about what was left out, once the end of the file was reached.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The documents of one file, in order. After an error nothing follows.
pub(crate) struct Documents {
    path: PathBuf,
    rows: Box<dyn ReadRows>,
    options: ReadOptions,
    vocabulary: Vocabulary,
    taken: Taken,
    /// Bytes that were given out.
    given: u64,
    watch: Option<Watch>,
    report: ReadReport,
    /// Documents that are still to come, such as pieces of a long one.
    waiting: VecDeque<Document>,
    /// The document of tokens that is growing, and the number of its first token.
    tokens: (u64, Vec<u32>),
    ended: bool,
}

impl Documents {
    pub(super) fn new(path: PathBuf, rows: Box<dyn ReadRows>, options: ReadOptions, vocabulary: Vocabulary) -> Self {
        let (report, waiting, tokens, taken) = Default::default();
        let (watch, given, ended) = (None, 0, false);
        Self { path, rows, options, vocabulary, taken, given, watch, report, waiting, tokens, ended }
    }

    /// The same documents of a file whose bytes are counted.
    pub(super) fn counted(mut self, taken: Taken) -> Self {
        self.taken = taken;
        self
    }

    /// Refuses the file where it changes while it is read.
    pub(super) fn watched(mut self, watch: Option<Watch>) -> Self {
        self.watch = watch;
        self
    }

    /// The same documents, with sentences about the file.
    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.report.notes.extend(notes.into_iter().map(|note| (self.path.clone(), note)));
        self
    }

    /// The bytes of the file that were read so far, before decompression.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.taken.bytes()
    }

    /// The counts of what was read so far.
    pub(crate) fn report(&self) -> ReadReport {
        ReadReport { bytes: self.bytes_read(), ..self.report.clone() }
    }

    fn step(&mut self) -> Result<Option<Document>, ImportError> {
        loop {
            if let Some(document) = self.waiting.pop_front() {
                return Ok(Some(document));
            }
            let next = self.rows.next_row();
            // A row is also bad where the file was cut short under the reader.
            let looks = match &next {
                Ok(Some((_, found))) => matches!(found, Found::Bad(_)),
                _ => true,
            };
            if looks && self.watch.as_ref().is_some_and(Watch::has_changed) {
                return Err(self.fault(FileFault::Changed));
            }
            let Some((row, found)) = next.map_err(|fault| self.fault(fault))? else {
                self.end_tokens();
                let notes = self.rows.notes();
                self.report.notes.extend(notes.into_iter().map(|note| (self.path.clone(), note)));
                return Ok(self.waiting.pop_front());
            };
            self.take(row, found)?;
        }
    }

    /// Decides about a row, and puts its documents where they wait to be given out.
    fn take(&mut self, row: u64, found: Found) -> Result<(), ImportError> {
        let max_bytes = self.options.max_document_bytes;
        let content = match found {
            Found::Tokens { ids, ends } => return self.take_tokens(row, &ids, ends),
            Found::Bad(fault) => return self.bad(row, fault),
            Found::Nothing => Content::Text(String::new()),
            Found::Text { text, mended } => {
                self.report.mended_rows += u64::from(mended);
                Content::Text(text)
            }
            Found::Turns(turns) => match turns.into_turns() {
                Ok(turns) => Content::Turns(turns),
                Err(fault) => return self.bad(row, fault),
            },
        };
        let bytes = content.bytes();
        self.report.rows += 1;
        self.report.conversations += u64::from(matches!(content, Content::Turns(_)));
        self.give(bytes)?;
        match content {
            _ if bytes == 0 => self.report.without_text += 1,
            Content::Text(text) if bytes > max_bytes => self.long(&text, row),
            // A conversation is never cut.
            Content::Turns(_) if bytes > max_bytes => self.report.long_documents += 1,
            content => self.waiting.push_back(Document { content, row }),
        }
        Ok(())
    }

    /// Cuts tokens into documents, at the end tokens and where a document gets too long.
    fn take_tokens(&mut self, first: u64, ids: &[u32], ends: bool) -> Result<(), ImportError> {
        self.give(size_of_val(ids))?;
        let Vocabulary { size: vocab_size, end } = self.vocabulary;
        let max_tokens = (self.options.max_document_bytes / size_of::<u32>()).max(1);
        for (number, &token) in (first..).zip(ids) {
            if token >= vocab_size {
                let fault = RowFault::NotInVocabulary { token, vocab_size };
                return Err(ImportError::Row { path: self.path.clone(), row: number, fault });
            }
            if token == end {
                self.end_tokens();
                continue;
            }
            if self.tokens.1.len() == max_tokens {
                self.report.long_documents += 1;
                self.end_tokens();
            }
            if self.tokens.1.is_empty() {
                self.tokens.0 = number;
            }
            self.tokens.1.push(token);
        }
        if ends {
            self.end_tokens();
        }
        Ok(())
    }

    fn end_tokens(&mut self) {
        let (row, tokens) = std::mem::take(&mut self.tokens);
        if !tokens.is_empty() {
            self.report.rows += 1;
            self.waiting.push_back(Document { content: Content::Tokens(tokens), row });
        }
    }

    /// Counts what is given out, against the limit for the bytes of the file.
    fn give(&mut self, bytes: usize) -> Result<(), ImportError> {
        self.given = self.given.saturating_add(bytes as u64);
        self.taken.check_expansion(self.given).map_err(|fault| self.fault(fault))
    }

    fn bad(&mut self, row: u64, fault: RowFault) -> Result<(), ImportError> {
        match self.options.on_bad_row {
            OnBadRow::Fail => Err(ImportError::Row { path: self.path.clone(), row, fault }),
            OnBadRow::Skip => {
                self.report.rows += 1;
                self.report.bad(&self.path, row, fault);
                Ok(())
            }
        }
    }

    fn long(&mut self, text: &str, row: u64) {
        self.report.long_documents += 1;
        let max_bytes = self.options.max_document_bytes;
        let mut rest = text;
        while !rest.is_empty() && self.options.long_documents != LongDocuments::Skip {
            let length = match self.options.long_documents {
                LongDocuments::Cut => rest.floor_char_boundary(max_bytes),
                _ => piece_bytes(rest, max_bytes),
            };
            self.waiting.push_back(Document { content: Content::Text(rest[..length].to_owned()), row });
            rest = if self.options.long_documents == LongDocuments::Cut { "" } else { &rest[length..] };
        }
    }

    fn fault(&self, fault: FileFault) -> ImportError {
        ImportError::file(&self.path, fault)
    }
}

/// The length of the first piece of a text: at most `max_bytes`, and up to the last line end or else the last blank in
/// the second half of that.
fn piece_bytes(text: &str, max_bytes: usize) -> usize {
    if text.len() <= max_bytes {
        return text.len();
    }
    let most = text.floor_char_boundary(max_bytes);
    let half = text.floor_char_boundary(most / 2);
    let second = &text[half..most];
    second.rfind('\n').or_else(|| second.rfind(' ')).map_or(most, |at| half + at + 1)
}

impl Iterator for Documents {
    type Item = Result<Document, ImportError>;

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

    struct Rows(VecDeque<Found>, u64);

    impl ReadRows for Rows {
        fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
            self.1 += 1;
            Ok(self.0.pop_front().map(|found| (self.1, found)))
        }
    }

    fn text(text: &str) -> Found {
        Found::Text { text: text.to_owned(), mended: false }
    }

    fn documents(rows: Vec<Found>, options: ReadOptions) -> Documents {
        let vocabulary = Vocabulary { size: 100, end: 7 };
        Documents::new("rows.jsonl".into(), Box::new(Rows(rows.into(), 0)), options, vocabulary)
    }

    fn read(rows: Vec<Found>, options: ReadOptions) -> (Vec<(String, u64)>, ReadReport) {
        let mut documents = documents(rows, options);
        let found = documents.by_ref().map(Result::unwrap).map(|document| match document.content {
            Content::Text(text) => (text, document.row),
            other => panic!("{other:?}"),
        });
        let found = found.collect();
        (found, documents.report())
    }

    #[test]
    fn empty_and_missing_texts_are_counted() {
        let (found, report) = read(vec![text("a"), Found::Nothing, text(""), text("b")], ReadOptions::default());
        assert_eq!(found, [("a".to_owned(), 1), ("b".to_owned(), 4)]);
        assert_eq!((report.rows, report.without_text), (4, 2));
    }

    #[test]
    fn a_bad_row_of_a_file_that_changes_is_not_skipped() {
        use std::io::Write as _;

        let mut file = tempfile::tempfile().unwrap();
        let watch = Watch::new(&file).unwrap();
        file.write_all(b"longer").unwrap();
        let options = ReadOptions { on_bad_row: OnBadRow::Skip, ..Default::default() };
        let rows = vec![text("a"), Found::Bad(RowFault::NotUtf8), text("b")];
        let mut documents = documents(rows, options).watched(watch);
        assert!(documents.next().unwrap().is_ok());
        let error = documents.next().unwrap().unwrap_err();
        assert!(matches!(error, ImportError::File { fault: FileFault::Changed, .. }), "{error}");
    }

    #[test]
    fn a_bad_row_ends_the_import_or_is_counted_by_its_reason() {
        let bad = || Found::Bad(RowFault::NotUtf8);
        let rows = || vec![text("a"), bad(), bad(), Found::Bad(RowFault::BadJson("x".into())), bad(), text("b")];
        let mut failing = documents(rows(), ReadOptions::default());
        assert!(failing.next().unwrap().is_ok());
        let error = failing.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "rows.jsonl, row 2: not UTF-8");
        assert!(failing.next().is_none());

        let options = ReadOptions { on_bad_row: OnBadRow::Skip, ..Default::default() };
        let (found, report) = read(rows(), options);
        assert_eq!(found, [("a".to_owned(), 1), ("b".to_owned(), 6)]);
        assert_eq!(report.bad_rows, [("not UTF-8", 3), ("not a JSON object", 1)].into());
        let shown: Vec<u64> = report.first_bad_rows.iter().map(|(_, row, _)| *row).collect();
        assert_eq!((shown, report.bad_row_count()), (vec![2, 3, 4], 4));
    }

    #[test]
    fn tokens_are_cut_at_end_tokens() {
        let tokens = |ids: &[u32], ends| Found::Tokens { ids: ids.to_vec(), ends };
        let options = || ReadOptions { max_document_bytes: 12, ..Default::default() };
        let rows = vec![tokens(&[7, 1, 2], false), tokens(&[3, 7, 7, 4], true), tokens(&[5, 6, 8, 9, 7, 10], false)];
        let mut found = documents(rows, options());
        let tokens_of = |document: Result<Document, ImportError>| match document.unwrap() {
            Document { content: Content::Tokens(ids), row } => (row, ids),
            other => panic!("{other:?}"),
        };
        let all: Vec<_> = found.by_ref().map(tokens_of).collect();
        assert_eq!(all, [(2, vec![1, 2, 3]), (5, vec![4]), (3, vec![5, 6, 8]), (6, vec![9]), (8, vec![10])]);
        assert_eq!((found.report().rows, found.report().long_documents), (5, 1));
        let error = documents(vec![tokens(&[1, 100], false)], options()).next().unwrap().unwrap_err();
        let said = "rows.jsonl, row 2: token 100 is outside the tokenizer's vocabulary of 100 tokens";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn long_documents_are_split_cut_or_left_out() {
        let rows = || vec![text("to be\nor not to be"), text("ééééé"), text("short")];
        let with = |long_documents| {
            let options = ReadOptions { max_document_bytes: 9, long_documents, ..Default::default() };
            let (found, report) = read(rows(), options);
            assert_eq!(report.long_documents, 2);
            found.into_iter().map(|(text, _)| text).collect::<Vec<_>>()
        };
        assert_eq!(with(LongDocuments::Split), ["to be\n", "or not ", "to be", "éééé", "é", "short"]);
        assert_eq!(with(LongDocuments::Cut), ["to be\nor ", "éééé", "short"]);
        assert_eq!(with(LongDocuments::Skip), ["short"]);
    }
}
