//! The text of the experiment: pages in memory, given to miners in an order that follows from the seed alone.
//!
//! Methods with the same number of miners see the same pages at the same inner step. So they are compared on
//! the same data, and not only on the same amount of data.

use std::error::Error;
use std::path::Path;

use templar_blob::MemoryBlobs;
use templar_data::{ImportOptions, PageReader, Split, bundled, import};
use templar_manifest::{Dataset, payload};

use crate::plan::SEQUENCE;

/// The text as pages of `SEQUENCE` predictions.
pub(crate) struct Data {
    /// The number of tokens of the vocabulary.
    pub(crate) vocab_size: u32,
    /// The dataset's id, in hexadecimal.
    pub(crate) id: String,
    /// Documents, training tokens and held-out tokens, for people.
    pub(crate) description: String,
    training: Vec<Vec<u32>>,
    /// All held-out pages, each of `SEQUENCE + 1` tokens.
    pub(crate) held_out: Vec<Vec<u32>>,
}

impl Data {
    /// Reads the plays in `folder` (every file `*_gut.txt`, in the byte order of their names), or the bundled
    /// plays. Both use the bundled tokenizer.
    pub(crate) fn load(folder: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let mut blobs = MemoryBlobs::new();
        let dataset = match folder {
            None => bundled::import_shakespeare(&mut blobs)?,
            Some(folder) => {
                let mut files = Vec::new();
                for entry in std::fs::read_dir(folder)? {
                    let path = entry?.path();
                    if path.to_string_lossy().ends_with("_gut.txt") {
                        files.push(path);
                    }
                }
                files.sort();
                let options = ImportOptions::new("shakespeare-whole", "CC-BY-2.5", "the package shakespeare 0.6");
                import(&files, bundled::shakespeare().1, &options, &mut blobs)?.dataset
            }
        };
        Self::read(&dataset, &blobs)
    }

    fn read(dataset: &Dataset, blobs: &MemoryBlobs) -> Result<Self, Box<dyn Error>> {
        let pages = |split| -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
            let reader = PageReader::new(blobs, dataset, split, SEQUENCE)?;
            Ok((0..reader.page_count()).map(|page| reader.read(page)).collect::<Result<_, _>>()?)
        };
        Ok(Self {
            vocab_size: dataset.vocab_size,
            id: payload::id_of(dataset).to_string(),
            description: format!(
                "{} documents, {} training and {} held-out tokens",
                dataset.documents,
                dataset.training_tokens(),
                dataset.validation_tokens()
            ),
            training: pages(Split::Training)?,
            held_out: pages(Split::Validation)?,
        })
    }

    /// The training page `page`: `SEQUENCE + 1` tokens.
    pub(crate) fn page(&self, page: u64) -> &[u32] {
        &self.training[page as usize]
    }

    /// `count` training pages in the order of `seed`: every epoch is a permutation of all pages, sorted by a hash of
    /// seed, epoch and page.
    pub(crate) fn order(&self, seed: u64, count: usize) -> Vec<u64> {
        let mut order = Vec::with_capacity(count + self.training.len());
        let mut epoch = 0u64;
        while order.len() < count {
            let mut pages: Vec<u64> = (0..self.training.len() as u64).collect();
            pages.sort_by_cached_key(|page| {
                let mut hasher = blake3::Hasher::new();
                for number in [seed, epoch, *page] {
                    hasher.update(&number.to_le_bytes());
                }
                *hasher.finalize().as_bytes()
            });
            order.extend(pages);
            epoch += 1;
        }
        order.truncate(count);
        order
    }

    /// The number of times that `tokens` tokens go through the training part.
    pub(crate) fn epochs(&self, tokens: u64) -> f64 {
        tokens as f64 / (self.training.len() as u64 * u64::from(SEQUENCE)) as f64
    }
}
