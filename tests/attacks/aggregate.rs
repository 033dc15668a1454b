//! Bytes that are not the aggregate that a record names.

use templar_blob::MemoryBlobs;
use templar_delta::{Aggregate, AggregateError, AggregateHeader, Delta};
use templar_manifest::*;
use templar_train::{Recipe, outer_step};

use super::{Attack, refused};
use crate::vectors::example;

fn recipe() -> Recipe {
    let genesis = &example().genesis;
    Recipe::new(genesis.id().into(), genesis.payload().clone()).unwrap()
}

/// The aggregate of the example's window, from its deltas.
fn aggregate(recipe: &Recipe) -> Vec<u8> {
    let closed = &example().closed;
    let deltas: Vec<Delta> = closed
        .window
        .body
        .outcomes
        .iter()
        .zip(closed.contributions.iter().zip(&example().deltas))
        .filter(|(outcome, _)| outcome.verdict == Verdict::Aggregated)
        .map(|(_, (contribution, bytes))| recipe.decode_delta(contribution.payload(), bytes).unwrap())
        .collect();
    assert_eq!(deltas.len(), closed.window.body.aggregated());
    let mut parameters = recipe.initial_parameters(&MemoryBlobs::new()).unwrap();
    let bytes = outer_step(recipe, closed.window.header.window, &deltas, &mut parameters).unwrap().into_bytes();
    assert_eq!(BlobId::of(&bytes), closed.window.body.aggregate);
    bytes
}

pub(super) fn attacks() -> Vec<Attack> {
    let recipe = recipe();
    let record = &example().closed.window.body;
    let bytes = aggregate(&recipe);
    let expected =
        AggregateHeader { run: record.run.hash(), window: record.window.0, contributors: record.aggregated() };
    let decode = |bytes: &[u8], expected: AggregateHeader| -> Result<Aggregate, AggregateError> {
        Aggregate::decode(bytes.to_vec(), &recipe.tensors, &recipe.compression, &expected)
    };
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        decode(&changed, expected)
    };
    assert!(decode(&bytes, expected).is_ok());
    let longest = Aggregate::max_bytes(&recipe.tensors, &recipe.compression, expected.contributors).unwrap() as usize;
    let too_long = [&bytes[..], &vec![0; longest + 1 - bytes.len()]].concat();
    let more = AggregateHeader { contributors: expected.contributors + 1, ..expected };
    vec![
        refused("no bytes", decode(&[], expected)),
        refused("a delta", decode(&example().deltas[0], expected)),
        refused("a later version", with(8, 1)),
        refused("an unknown quantiser", with(9, 99)),
        refused("that of another run", decode(&bytes, AggregateHeader { run: Hash::of(b"another"), ..expected })),
        refused("that of another window", decode(&bytes, AggregateHeader { window: 1, ..expected })),
        refused("that of one contributor less than the record aggregates", decode(&bytes, more)),
        refused("longer than any of so many contributors", decode(&too_long, expected)),
        refused("half of it", decode(&bytes[..bytes.len() / 2], expected)),
        refused("a byte less", decode(&bytes[..bytes.len() - 1], expected)),
        refused("a byte behind the end", decode(&[&bytes[..], &[0]].concat(), expected)),
    ]
}
