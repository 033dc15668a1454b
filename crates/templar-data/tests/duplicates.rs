//! Texts that occur more than once: counted, and removed where that is asked for.

use std::fs;

use templar_blob::MemoryBlobs;
use templar_data::{Duplicates, Import, ImportOptions, Imported, Listing, OnDuplicate, Progress, bundled};
use templar_manifest::HeldOut;

fn imported(texts: &[&str], on_duplicate: OnDuplicate) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    let lines: String = texts.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    fs::write(&path, lines).unwrap();
    let mut options = ImportOptions::new("test", "CC0-1.0", "made by a test");
    options.held_out = HeldOut { block_tokens: 8, every: 2 };
    options.on_duplicate = on_duplicate;
    let import = Import::new(bundled::shakespeare().1, &options).unwrap();
    import.run(&Listing::of(&[path]).unwrap(), &Progress::default(), &mut MemoryBlobs::new()).unwrap()
}

const LINE: &str = "To be, or not to be, that is the question";

#[test]
fn repeats_are_counted_with_the_texts_in_both_parts() {
    let found = imported(&[LINE, "Enter HAMLET", LINE, LINE, "Exit", "to be"], OnDuplicate::Count);
    assert_eq!((found.dataset.documents, found.duplicates.documents, found.duplicates.in_both_parts), (6, 2, 1));
    let tokens = found.files[0].tokens;
    assert_eq!(tokens, found.dataset.training_tokens() + found.dataset.validation_tokens());
    assert!(found.duplicates.tokens > 2 * 8 && found.duplicates.tokens < tokens);
    let found = imported(&[LINE, "Enter HAMLET", "Exit"], OnDuplicate::Count);
    assert_eq!(found.duplicates, Duplicates::default());
}

#[test]
fn the_first_of_equal_texts_stays() {
    let removed = imported(&[LINE, "Enter HAMLET", LINE, "Exit", LINE], OnDuplicate::Remove);
    let without = imported(&[LINE, "Enter HAMLET", "Exit"], OnDuplicate::Count);
    assert_eq!(removed.dataset, without.dataset);
    assert_eq!((removed.duplicates.documents, removed.duplicates.in_both_parts), (2, 0));
    assert_eq!(removed.files[0].documents, 3);
}
