//! Traces, shards and tensors that are not what names them.

use templar_blob::{BlobSource, MemoryBlobs};
use templar_data::{PageReader, Split, verify};
use templar_manifest::trace::{Trace, TraceError, TraceHeader};
use templar_manifest::*;
use templar_train::Recipe;
use templar_train::tensors::read_parameters;

use super::{Attack, answered, refused};
use crate::vectors::example;

fn traces() -> Vec<Attack> {
    let example = example();
    let contribution = example.closed.contributions[0].payload();
    let expected = TraceHeader::of(contribution, example.start.tensors.len() as u32);
    let bytes = &example.traces[0];
    let with = |at: usize, replacement: &[u8]| -> Result<Trace, TraceError> {
        let mut bytes = bytes.clone();
        bytes[at..at + replacement.len()].copy_from_slice(replacement);
        Trace::decode(&bytes, &expected)
    };
    assert!(Trace::decode(bytes, &expected).is_ok());
    vec![
        refused("trace: another file", Trace::decode(&example.deltas[0], &expected)),
        refused("trace: shorter than its header", Trace::decode(&bytes[..87], &expected)),
        refused("trace: of another run", with(8, &[0; 32])),
        refused("trace: of another window", with(40, &[1])),
        refused("trace: of another miner", Trace::decode(&example.traces[1], &expected)),
        refused("trace: 4,294,967,295 steps", with(80, &[0xff; 4])),
        refused("trace: 4,294,967,295 tensors", with(84, &[0xff; 4])),
        refused("trace: cut off", Trace::decode(&bytes[..bytes.len() - 1], &expected)),
        refused("trace: a byte behind the end", Trace::decode(&[&bytes[..], &[0]].concat(), &expected)),
    ]
}

/// The example dataset with its first training shard replaced.
fn with_shard(change: impl FnOnce(&mut Vec<u8>)) -> (Dataset, MemoryBlobs) {
    let mut dataset = example().dataset.payload().clone();
    let mut blobs = example().blobs.clone();
    let shard = dataset.training[0].blob.hash();
    let mut bytes = blobs.read(&shard, 1 << 28).unwrap().to_vec();
    change(&mut bytes);
    dataset.training[0].blob = blobs.insert(bytes).into();
    (dataset, blobs)
}

fn shards() -> Vec<Attack> {
    let read = |(dataset, blobs): (Dataset, MemoryBlobs)| {
        PageReader::new(&blobs, &dataset, Split::Training, 32).and_then(|reader| reader.read(0))
    };
    let with = |change: fn(&mut Dataset)| {
        let mut dataset = example().dataset.payload().clone();
        change(&mut dataset);
        (dataset, example().blobs.clone())
    };
    let verified = |(dataset, blobs): (Dataset, MemoryBlobs)| {
        let faults = verify(&dataset, &blobs).faults;
        faults.first().expect("a fault").to_string()
    };
    vec![
        refused("shard: a token outside the vocabulary", read(with_shard(|bytes| bytes[6..8].fill(0xff)))),
        refused("shard: one token short", read(with_shard(|bytes| bytes.truncate(bytes.len() - 2)))),
        refused("shard: longer than its manifest says", read(with_shard(|bytes| bytes.extend([0; 2])))),
        refused("dataset: one token less than the shard has", read(with(|d| d.training[0].tokens -= 1))),
        refused("dataset: a shard larger than memory", {
            read(with(|d| (d.shard_tokens, d.training[0].tokens) = (u64::MAX, u64::MAX)))
        }),
        refused("dataset: a shard that nobody has", read(with(|d| d.training[0].blob = BlobId::of(b"lost")))),
        refused("dataset: a page beyond the end", {
            let dataset = example().dataset.payload();
            PageReader::new(&example().blobs, dataset, Split::Training, 32).and_then(|reader| reader.read(1 << 40))
        }),
        answered("dataset: training text moved to the held-out part", {
            verified(with(|d| std::mem::swap(&mut d.training, &mut d.validation)))
        }),
        answered("dataset: another vocabulary than the tokenizer's", verified(with(|d| d.vocab_size += 1))),
        answered("dataset: a tokenizer that nobody has", verified(with(|d| d.tokenizer = BlobId::of(b"lost")))),
    ]
}

fn checkpoints() -> Vec<Attack> {
    let genesis = &example().genesis;
    let recipe = Recipe::new(genesis.id().into(), genesis.payload().clone()).unwrap();
    let mut blobs = MemoryBlobs::new();
    let parameters = recipe.initial_parameters(&blobs).unwrap();
    let Ok(checkpoint) =
        templar_train::tensors::checkpoint(recipe.run, WindowIndex(0), &recipe.tensors, &parameters, |bytes| {
            blobs.insert(bytes);
            Ok::<_, std::convert::Infallible>(())
        });
    let short = blobs.insert(vec![0; 8]).into();
    let long = blobs.insert(vec![0; 1 << 20]).into();
    let with = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = checkpoint.clone();
        change(&mut checkpoint);
        read_parameters(&recipe.tensors, &checkpoint, &blobs)
    };
    assert_eq!(with(&|_| {}).unwrap(), parameters);
    vec![
        refused("checkpoint: one tensor less", with(&|c| c.tensors.truncate(10))),
        refused("checkpoint: two tensors changed places", with(&|c| c.tensors.swap(2, 3))),
        refused("checkpoint: a tensor of another shape", with(&|c| c.tensors[0].spec.shape.reverse())),
        refused("checkpoint: a tensor too short", with(&|c| c.tensors[0].blob = short)),
        refused("checkpoint: a tensor too long", with(&|c| c.tensors[0].blob = long)),
        refused("checkpoint: a tensor that nobody has", with(&|c| c.tensors[0].blob = BlobId::of(b"lost"))),
    ]
}

pub(super) fn attacks() -> Vec<Attack> {
    let mut attacks = traces();
    attacks.extend(shards());
    attacks.extend(checkpoints());
    attacks
}
