//! An import in parts: joined, they give the dataset that one machine makes, to the bit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use templar_blob::MemoryBlobs;
use templar_data::{
    Import, ImportError, ImportOptions, Imported, Listing, OnDuplicate, Part, PartError, Progress, bundled, merge,
};
use templar_manifest::HeldOut;

/// Options with many small blocks and shards, whose borders lie within documents and within batches.
fn options(on_duplicate: OnDuplicate) -> ImportOptions {
    let mut options = ImportOptions::new("test", "CC0-1.0", "made by a test");
    options.held_out = HeldOut { block_tokens: 61, every: 5 };
    options.shard_tokens = 1009;
    options.on_duplicate = on_duplicate;
    options
}

/// A folder with files of so many documents. Some texts occur in several of them.
fn folder(documents: &[usize]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, count) in documents.iter().enumerate() {
        let line = |number: usize| {
            let text = if number.is_multiple_of(9) { "to be".to_owned() } else { format!("{file}, {number}") };
            format!("{{\"text\": \"{text} or not to be\"}}\n")
        };
        let lines: String = (0..*count).map(line).collect();
        fs::write(folder.path().join(format!("{file}.jsonl")), lines).unwrap();
    }
    folder
}

fn listing(folder: &Path) -> Listing {
    Listing::of(&[folder.to_owned()]).unwrap()
}

fn whole(folder: &Path, options: &ImportOptions) -> (Imported, MemoryBlobs) {
    let import = Import::new(bundled::shakespeare().1, options).unwrap();
    let mut blobs = MemoryBlobs::new();
    let imported = import.run(&listing(folder), &Progress::default(), &mut blobs).unwrap();
    (imported, blobs)
}

/// Makes all parts in a folder, and gives their paths.
fn parts(folder: &Path, options: &ImportOptions, count: u32, out: &Path) -> Vec<PathBuf> {
    let import = Import::new(bundled::shakespeare().1, options).unwrap();
    let part = |number: u32| {
        let path = out.join(format!("{number}-of-{count}.part"));
        let part = Part::try_from((number, count)).unwrap();
        import.run_part(&listing(folder), part, &Progress::default(), File::create(&path).unwrap()).unwrap();
        path
    };
    (1..=count).map(part).collect()
}

fn joined(paths: &[PathBuf]) -> Result<(Imported, MemoryBlobs), ImportError> {
    let mut blobs = MemoryBlobs::new();
    Ok((merge(paths, &Progress::default(), &mut blobs)?, blobs))
}

fn ids(blobs: &MemoryBlobs) -> Vec<String> {
    let mut ids: Vec<String> = blobs.iter().map(|(id, _)| id.to_string()).collect();
    ids.sort();
    ids
}

#[test]
fn parts_joined_are_the_dataset_of_one_machine() {
    // One long file is divided by batches, and many files are divided by files. Some parts are empty.
    for documents in [&[5000][..], &[2100, 10, 1500], &[40, 700, 0, 3, 1200, 55, 90, 8]] {
        let folder = folder(documents);
        for on_duplicate in [OnDuplicate::Count, OnDuplicate::Remove] {
            let options = options(on_duplicate);
            let (expected, expected_blobs) = whole(folder.path(), &options);
            assert!(expected.dataset.training.len() > 3 && expected.duplicates.documents > 100);
            for count in [1, 2, 3, 7] {
                let out = tempfile::tempdir().unwrap();
                let mut paths = parts(folder.path(), &options, count, out.path());
                paths.reverse();
                let (found, blobs) = joined(&paths).unwrap();
                assert_eq!(found.dataset, expected.dataset, "{count} parts of {documents:?}");
                assert_eq!(found.duplicates, expected.duplicates);
                assert_eq!(ids(&blobs), ids(&expected_blobs));
                let counts = |imported: &Imported| -> Vec<_> {
                    imported.files.iter().map(|file| (file.documents, file.tokens)).collect()
                };
                assert_eq!(counts(&found), counts(&expected));
            }
        }
    }
}

/// A part depends neither on the threads nor on the place of the folder.
#[test]
fn a_part_has_the_same_bytes_everywhere() {
    let options = options(OnDuplicate::Count);
    let (one, other) = (folder(&[3000, 20]), folder(&[3000, 20]));
    let out = tempfile::tempdir().unwrap();
    let bytes = |folder: &Path, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let paths = pool.install(|| parts(folder, &options, 3, out.path()));
        paths.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(one.path(), 1), bytes(other.path(), 4));
}

#[test]
fn only_all_parts_of_one_import_are_joined() {
    let folder = folder(&[300, 20]);
    let out = tempfile::tempdir().unwrap();
    let first = parts(folder.path(), &options(OnDuplicate::Count), 3, out.path());
    let part = |result: Result<_, ImportError>| match result.map(|_: (Imported, MemoryBlobs)| ()) {
        Err(ImportError::Part(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(part(joined(&first[1..2])), PartError::Missing { missing, count: 3 } if missing == [1, 3]));
    let twice = [first[0].clone(), first[1].clone(), first[1].clone(), first[2].clone()];
    assert!(matches!(part(joined(&twice)), PartError::Twice { number: 2, .. }));
    let other_folder = tempfile::tempdir().unwrap();
    for (options, count, word) in
        [(options(OnDuplicate::Remove), 3, "options"), (options(OnDuplicate::Count), 2, "parts")]
    {
        let other = parts(folder.path(), &options, count, other_folder.path());
        let mixed = [other[0].clone(), first[1].clone(), first[2].clone()];
        let error = part(joined(&mixed));
        assert!(matches!(&error, PartError::Differ { difference, .. } if difference.contains(word)), "{error}");
    }
    fs::write(folder.path().join("1.jsonl"), "{\"text\": \"changed\"}\n").unwrap();
    let other = parts(folder.path(), &options(OnDuplicate::Count), 3, other_folder.path());
    let error = part(joined(&[first[0].clone(), first[1].clone(), other[2].clone()]));
    assert!(error.to_string().contains("1.jsonl of 20"), "{error}");
    assert!(matches!(part(joined(&[folder.path().join("0.jsonl")])), PartError::NotAPart { .. }));
    assert!(matches!(part(joined(&[out.path().join("absent")])), PartError::Io { .. }));
}

/// Whatever bit of a part is changed, joining it gives the same dataset or an error.
#[test]
fn damage_never_gives_another_dataset() {
    let folder = folder(&[120, 30]);
    let out = tempfile::tempdir().unwrap();
    let paths = parts(folder.path(), &options(OnDuplicate::Count), 2, out.path());
    let expected = joined(&paths).unwrap().0.dataset;
    let sound = fs::read(&paths[1]).unwrap();
    for at in (0..sound.len()).step_by(7) {
        let mut damaged = sound.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&paths[1], &damaged).unwrap();
        if let Ok((found, _)) = joined(&paths) {
            assert_eq!(found.dataset, expected, "byte {at}");
        }
    }
    for length in (0..sound.len()).step_by(97) {
        fs::write(&paths[1], &sound[..length]).unwrap();
        assert!(joined(&paths).is_err(), "{length} bytes");
    }
}
