//! Every container of the same rows gives the same dataset, and every bad one an error that says what is wrong.

mod bad;
mod chat;
mod containers;
mod make;
mod records;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};

use templar_blob::MemoryBlobs;
use templar_data::{ImportError, ImportOptions, ReadOptions, ReadReport, Tokenizer, bundled, import};
use templar_manifest::{Dataset, HeldOut};

/// Options that make many small blocks and shards of a little text.
fn options() -> ImportOptions {
    let mut options = ImportOptions::new("test", "CC0-1.0", "made by a test");
    options.held_out = HeldOut { block_tokens: 64, every: 5 };
    options.shard_tokens = 1000;
    options
}

/// The same options for files that are read in this way.
fn reading(read: ReadOptions) -> ImportOptions {
    ImportOptions { read, ..options() }
}

fn tokenizer() -> Tokenizer {
    bundled::tokenizer().unwrap()
}

fn import_one(path: &Path, options: &ImportOptions) -> Result<(Dataset, ReadReport), ImportError> {
    let imported = import(&[path.to_owned()], bundled::shakespeare().1, options, &mut MemoryBlobs::new())?;
    Ok((imported.dataset, imported.report))
}

fn dataset_of(path: &Path, options: &ImportOptions) -> Dataset {
    match import_one(path, options) {
        Ok((dataset, _)) => dataset,
        Err(error) => panic!("{error}"),
    }
}

fn failure_of(path: &Path, options: &ImportOptions) -> ImportError {
    import_one(path, options).unwrap_err()
}

/// Texts of all sorts: several scripts, line ends, quotes, the end token's name, and empty ones.
fn texts() -> Vec<String> {
    let seeds = ["To be, or not to be\n", "Größe — 漢字 🎭\r\n", "", "a<|endoftext|>b ", "\"quoted\"\t\\ \u{1f}"];
    (0..140).map(|index| format!("{index} ").repeat(index % 7) + &seeds[index % 5].repeat(index % 11)).collect()
}

/// A folder for the files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}
