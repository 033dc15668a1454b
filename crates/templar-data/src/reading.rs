//! Reads the files of an import, and forms batches of their documents.
//!
//! A batch holds documents of one file. It ends where it has [`BATCH_BYTES`] of text or [`BATCH_DOCUMENTS`] documents,
//! or where the file ends. So the limits of a batch depend on the text alone, and the machines that divide an import
//! agree on them.

use crate::error::ImportError;
use crate::ordered::Feed;
use crate::progress::Progress;
use crate::share::Part;
use crate::source::{Document, Documents, InputFile, ReadOptions, ReadReport, Vocabulary};

/// A batch ends when it has this many bytes or documents.
const BATCH_BYTES: usize = 1 << 19;
const BATCH_DOCUMENTS: usize = 1024;

/// Documents of one file that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The number of the file, from 0.
    pub(crate) file: usize,
    /// The number of the batch, from 0. It counts the batches of all files that were read.
    pub(crate) number: u64,
    pub(crate) documents: Vec<Document>,
}

/// The file that is read, and the report that notes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileReading<'a> {
    pub(crate) files: &'a [InputFile],
    pub(crate) options: &'a ReadOptions,
    pub(crate) vocabulary: Vocabulary,
    /// The share of this machine.
    pub(crate) part: Part,
    pub(crate) progress: &'a Progress,
}

impl FileReading<'_> {
    /// Reads the files in order, and feeds the batches of this machine's share.
    ///
    /// # Errors
    /// The first file or row that cannot be read. All batches before it are fed. [`ImportError::Stopped`] where the
    /// import was asked to stop.
    pub(crate) fn run(self, feed: Feed<'_, Batch>) -> Result<ReadReport, ImportError> {
        let mut report = ReadReport::default();
        let (mut number, mut bytes_before) = (0, 0);
        for (file, input) in self.files.iter().enumerate() {
            if !self.part.has_file(file, self.files.len()) {
                continue;
            }
            let mut documents = input.documents(self.options, self.vocabulary)?;
            loop {
                if self.progress.is_stopped() {
                    return Err(ImportError::Stopped);
                }
                let (batch, failed) = batch_of(&mut documents, file, number);
                let rows = report.rows + documents.report().rows;
                self.progress.read(bytes_before + documents.bytes_read(), rows);
                let is_last = batch.documents.is_empty();
                let is_mine = self.part.has_batch(batch.number, file, self.files.len());
                // The documents before a bad row go first, since there may be something wrong with them, too.
                if !is_last && is_mine && feed(batch).is_break() {
                    return Ok(report);
                }
                failed?;
                if is_last {
                    break;
                }
                number += 1;
            }
            bytes_before += documents.bytes_read();
            report.add(documents.report());
        }
        Ok(report)
    }
}

/// The next batch of a file, empty at its end, and what is wrong with the row behind it.
fn batch_of(documents: &mut Documents, file: usize, number: u64) -> (Batch, Result<(), ImportError>) {
    let mut batch = Batch { file, number, documents: Vec::new() };
    let mut bytes = 0;
    while bytes < BATCH_BYTES && batch.documents.len() < BATCH_DOCUMENTS {
        match documents.next() {
            None => break,
            Some(Err(error)) => return (batch, Err(error)),
            Some(Ok(document)) => {
                bytes += document.content.bytes();
                batch.documents.push(document);
            }
        }
    }
    (batch, Ok(()))
}
