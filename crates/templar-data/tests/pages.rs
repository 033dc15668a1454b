//! Pages across shards against a flat copy of the stream, and stored datasets that are not what they claim to be.

use proptest::prelude::*;
use templar_blob::MemoryBlobs;
use templar_data::{DatasetFault, PageError, PageReader, ShardSink, Split, batch, bundled, read_page, verify};
use templar_manifest::{BlobId, Dataset, HeldOut, Shard, page_count};

/// A dataset over `tokens`, all of them to train on, in shards of `shard_tokens`.
fn dataset(blobs: &mut MemoryBlobs, tokens: &[u32], shard_tokens: usize, vocab_size: u32) -> Dataset {
    let token_bytes = if vocab_size <= 1 << 16 { 2 } else { 4 };
    let shard = |tokens: &[u32], blobs: &mut MemoryBlobs| {
        let bytes =
            tokens.iter().flat_map(|token| token.to_le_bytes().into_iter().take(token_bytes as usize)).collect();
        Shard { blob: blobs.put(bytes).unwrap(), tokens: tokens.len() as u64 }
    };
    Dataset {
        name: "pages".to_owned(),
        licence: "CC0-1.0".to_owned(),
        source: "a test".to_owned(),
        tokenizer: BlobId::of(b"none"),
        vocab_size,
        end_token: 0,
        start_token: None,
        chat_template: None,
        token_bytes,
        documents: 1,
        shard_tokens: shard_tokens as u64,
        held_out: HeldOut { block_tokens: 1 << 40, every: 2 },
        training: tokens.chunks(shard_tokens).map(|tokens| shard(tokens, blobs)).collect(),
        validation: Vec::new(),
    }
}

proptest! {
    #[test]
    fn pages_are_slices_of_the_stream(
        tokens in proptest::collection::vec(0u32..70_000, 0..200), shard_tokens in 1usize..40,
        sequence_length in 1u32..50, wide in any::<bool>(),
    ) {
        let vocab_size = if wide { 70_000 } else { 1 << 16 };
        let tokens: Vec<u32> = tokens.into_iter().map(|token| token % vocab_size).collect();
        let mut blobs = MemoryBlobs::new();
        let dataset = dataset(&mut blobs, &tokens, shard_tokens, vocab_size);
        let reader = PageReader::new(&blobs, &dataset, Split::Training, sequence_length).unwrap();
        let length = sequence_length as usize;
        let expected: Vec<&[u32]> = (0..).map_while(|page| tokens.get(page * length..page * length + length + 1)).collect();
        prop_assert_eq!(reader.page_count(), expected.len() as u64);
        prop_assert_eq!(page_count(tokens.len() as u64, sequence_length), expected.len() as u64);
        // Backwards and twice, so that shards leave the cache and come again.
        for page in (0..expected.len()).rev().chain(0..expected.len()) {
            prop_assert_eq!(&reader.read(page as u64).unwrap()[..], expected[page]);
        }
        let beyond = reader.read(expected.len() as u64);
        let refused = matches!(beyond, Err(PageError::OutOfRange { .. }));
        prop_assert!(refused);
    }
}

#[test]
fn threads_read_the_same_pages() {
    let mut blobs = MemoryBlobs::new();
    let tokens: Vec<u32> = (0..5000).map(|index| index * 7 % 1000).collect();
    let dataset = dataset(&mut blobs, &tokens, 90, 1000);
    let reader = PageReader::new(&blobs, &dataset, Split::Training, 64).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for page in 0..reader.page_count() {
                    let start = page as usize * 64;
                    assert_eq!(reader.read(page).unwrap(), tokens[start..start + 65]);
                }
            });
        }
    });
}

#[test]
fn a_step_takes_its_pages_in_order() {
    let pages = [9, 4, 7, 1, 5];
    assert_eq!(batch(&pages, 0, 2), Some(&[9, 4][..]));
    assert_eq!(batch(&pages, 1, 2), Some(&[7, 1][..]));
    assert_eq!(batch(&pages, 2, 2), None);
    assert_eq!(batch(&pages, usize::MAX, 2), None);
    assert_eq!(batch(&pages, usize::MAX, 1), None);
}

#[test]
fn sequence_lengths_and_short_streams() {
    let mut blobs = MemoryBlobs::new();
    let dataset = dataset(&mut blobs, &[1, 2, 3], 2, 10);
    assert!(matches!(read_page(&blobs, &dataset, Split::Training, 0, 0), Err(PageError::SequenceLength(0))));
    assert!(matches!(read_page(&blobs, &dataset, Split::Training, u32::MAX, 0), Err(PageError::SequenceLength(_))));
    assert_eq!(read_page(&blobs, &dataset, Split::Training, 2, 0).unwrap(), [1, 2, 3]);
    assert!(matches!(read_page(&blobs, &dataset, Split::Training, 3, 0), Err(PageError::OutOfRange { count: 0, .. })));
    assert!(matches!(read_page(&blobs, &dataset, Split::Validation, 1, 0), Err(PageError::OutOfRange { .. })));
    assert_eq!((page_count(0, 1), page_count(1, 1), page_count(2, 1), page_count(u64::MAX, 0)), (0, 0, 1, 0));
}

#[test]
fn shards_that_lie_are_found() {
    let mut blobs = MemoryBlobs::new();
    let good = dataset(&mut blobs, &[1, 2, 3, 4, 5], 2, 10);
    let read = |dataset: &Dataset| read_page(&blobs, dataset, Split::Training, 4, 0).unwrap_err();

    let mut changed = good.clone();
    changed.training[1].blob = BlobId::of(b"nobody has this");
    assert!(matches!(read(&changed), PageError::Read { blob, .. } if blob == changed.training[1].blob));
    // Longer, then shorter than the manifest says.
    changed.training[1].blob = BlobId::of(&[0; 64]);
    let mut more = blobs.clone();
    more.insert(vec![0; 64]);
    let found = read_page(&more, &changed, Split::Training, 4, 0).unwrap_err();
    assert!(matches!(found, PageError::Length { expected: 4, actual: 64, .. }));
    changed.training[1].blob = good.training[2].blob;
    assert!(matches!(read(&changed), PageError::Length { expected: 4, actual: 2, .. }));
    // A token that the vocabulary does not have, in the shard that the page needs.
    let fewer = Dataset { vocab_size: 4, ..good.clone() };
    assert!(matches!(read(&fewer), PageError::Token { position: 1, token: 4, vocab_size: 4, .. }));

    let wrong = [
        Dataset { token_bytes: 4, ..good.clone() },
        Dataset { token_bytes: 0, ..good.clone() },
        Dataset { shard_tokens: 0, ..good.clone() },
        Dataset { shard_tokens: 3, ..good.clone() },
        Dataset {
            shard_tokens: u64::MAX,
            training: vec![Shard { tokens: u64::MAX, ..good.training[0] }],
            ..good.clone()
        },
    ];
    for dataset in wrong {
        assert!(matches!(read(&dataset), PageError::Manifest(_)), "{dataset:?}");
        assert!(!verify(&dataset, &blobs).is_sound());
    }
}

#[test]
fn verification_reports_every_fault() {
    let mut blobs = MemoryBlobs::new();
    let good = bundled::import_shakespeare(&mut blobs).unwrap();
    assert!(verify(&good, &blobs).is_sound());

    let swapped = Dataset { training: good.validation.clone(), validation: good.training.clone(), ..good.clone() };
    assert!(matches!(&verify(&swapped, &blobs).faults[..], [DatasetFault::Manifest(_)]));
    let vocabulary = Dataset { vocab_size: 2047, ..good.clone() };
    let faults = verify(&vocabulary, &blobs).faults;
    assert!(
        matches!(faults[0], DatasetFault::Tokenizer(_)) && matches!(faults.last(), Some(DatasetFault::Shard(_))),
        "{faults:?}"
    );
    let end = Dataset { end_token: 5000, ..good.clone() };
    assert!(matches!(&verify(&end, &blobs).faults[..], [DatasetFault::Manifest(_)]));

    let nothing = verify(&good, &MemoryBlobs::new());
    assert_eq!((nothing.shards, nothing.faults.len()), (0, 3));
    assert!(matches!(nothing.faults[0], DatasetFault::ReadTokenizer { .. }));
}

/// A source that breaks its promise to verify.
struct Unverified(MemoryBlobs, u64);

impl templar_blob::BlobSource for Unverified {
    fn read(&self, id: &templar_manifest::Hash, max_bytes: u64) -> Result<bytes::Bytes, templar_blob::ReadError> {
        let mut bytes = self.0.read(id, max_bytes)?.to_vec();
        let at = (self.1 % bytes.len() as u64) as usize;
        // The lowest bit: the token stays in the vocabulary, so only the hash can tell.
        bytes[at & !1] ^= 1;
        Ok(bytes.into())
    }

    fn contains(&self, id: &templar_manifest::Hash) -> bool {
        self.0.contains(id)
    }
}

#[test]
fn one_flipped_bit_is_found_by_its_hash() {
    let mut blobs = MemoryBlobs::new();
    let good = bundled::import_shakespeare(&mut blobs).unwrap();
    let faults = verify(&good, &Unverified(blobs, 12_345)).faults;
    assert!(
        matches!(&faults[..], [DatasetFault::Tokenizer(_), DatasetFault::Hash { .. }, DatasetFault::Hash { .. }]),
        "{faults:?}"
    );
}
