//! Samples of what an import would teach: a few documents, as the tokenizer reads them.

use std::path::PathBuf;

use crate::error::ImportError;
use crate::import::Import;
use crate::listing::Listing;

/// The number of samples.
const SAMPLES: usize = 3;

/// A document as a model would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentSample {
    /// The file.
    pub path: PathBuf,
    /// The row or line, from 1.
    pub row: u64,
    /// The number of its tokens, with the token that ends it.
    pub tokens: u64,
    /// The text of the tokens, with special tokens shown by their names.
    pub text: String,
}

impl Import<'_> {
    /// Three documents of a listing, of its first, its middle and its last file. There are fewer where these files hold
    /// fewer. Nothing is imported.
    ///
    /// # Errors
    /// The first file or row on the way that cannot be read or tokenised.
    pub fn samples(&self, listing: &Listing) -> Result<Vec<DocumentSample>, ImportError> {
        let count = listing.taken.len();
        let mut files = vec![0, count / 2, count.saturating_sub(1)];
        files.dedup();
        files.truncate(count);
        // All three come from one file where there is one.
        let each = SAMPLES.div_ceil(files.len().max(1));
        let mut samples = Vec::new();
        for file in files {
            let path = &listing.taken[file].path;
            for (row, tokens) in self.first_documents(path, each.min(SAMPLES - samples.len()))? {
                let failed = |source| ImportError::Encode { path: path.clone(), row, source };
                let text = self.tokenizer().decode(&tokens).map_err(failed)?;
                samples.push(DocumentSample { path: path.clone(), row, tokens: tokens.len() as u64, text });
            }
        }
        Ok(samples)
    }
}
