//! The rarest pieces are requested first, among several blobs and among the ranges of one.

use std::ops::Range;

use iroh_blobs::protocol::ChunkRanges;
use proptest::prelude::*;
use templar_manifest::Hash;

use super::super::pick::rarest_of;
use super::super::*;
use super::{TICK, nothing, rules};
use crate::ranges::{GROUP, ranges, set};

const ALL: PeerId = [9; 32];

/// The plan of a node that begins at `offset`, for a blob of this many groups, with the shares of other peers.
fn plan(offset: u64, groups: u64, parts: &[Range<u64>]) -> Plan {
    let (id, size) = (Hash::of(b"blob"), groups * GROUP_BYTES);
    let mut plan = Plan::new(Rules { offset, ranges_per_peer: usize::MAX, requests_per_peer: usize::MAX, ..rules() });
    plan.register(id, size, &[], &Local { size: Some(size), here: ChunkRanges::empty() });
    plan.set_have(&ALL, &id, Have::All);
    for (seed, part) in (1..).zip(parts) {
        plan.set_have(&[seed; 32], &id, Have::Part(set(&(part.start * GROUP..part.end * GROUP))));
    }
    plan
}

/// The ranges, in groups, that are requested from the peer with the whole blob, in order.
fn asked(plan: &mut Plan) -> Vec<Range<u64>> {
    let mut asked = Vec::new();
    while let Some(Job { piece: BlobPiece::Range { left, .. }, .. }) = plan.next(&ALL, TICK) {
        asked.push(left.start / GROUP..left.end.div_ceil(GROUP));
    }
    asked
}

#[test]
fn of_a_blob_what_the_fewest_others_have_is_asked_for_first() {
    // No other peer has the last 500 groups, one has the 500 before them, and two or more have the first 1000.
    let parts = [0..1500, 0..1000, 200..700];
    let havers = |range: &Range<u64>| match range.start {
        0..200 | 700..1000 => 2,
        200..700 => 3,
        1000..1500 => 1,
        _ => 0,
    };
    // The rarest ranges come first, wherever the node begins.
    for offset in (0..2000).map(|place| place * 7919) {
        let mut plan = plan(offset, 2000, &parts);
        let asked = asked(&mut plan);
        assert_eq!(asked.iter().map(|range| range.end - range.start).sum::<u64>(), 2000);
        let order: Vec<u32> = asked.iter().map(havers).collect();
        assert!(order.is_sorted(), "offset {offset}: {order:?}");
        assert!(asked.iter().all(|range| havers(range) == havers(&(range.end - 1..range.end))), "{asked:?}");
    }
}

#[test]
fn of_two_blobs_the_one_that_fewer_have_goes_first() {
    for rare in 0..2_u64 {
        let ids = [0, 1].map(|number: u64| Hash::of(&number.to_le_bytes()));
        let mut plan = Plan::new(rules());
        for (number, id) in (0..).zip(ids) {
            plan.register(id, 1000, &[], &nothing());
            plan.set_have(&ALL, &id, Have::All);
            if number != rare {
                plan.set_have(&[2; 32], &id, Have::All);
            }
        }
        let first = plan.next(&ALL, TICK).unwrap().id;
        assert_eq!(first, ids[usize::try_from(rare).unwrap()]);
        // The other peer has nothing else to give.
        assert_eq!(plan.next(&[2; 32], TICK).unwrap().id, ids[usize::try_from(1 - rare).unwrap()]);
    }
}

fn parts() -> impl Strategy<Value = Vec<Vec<Range<u64>>>> {
    let range = (0..60_u64, 1..20_u64).prop_map(|(start, length)| start..start + length);
    proptest::collection::vec(proptest::collection::vec(range, 0..4), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The result equals a count chunk by chunk.
    #[test]
    fn the_rarest_are_those_with_the_lowest_count(available in parts(), others in parts()) {
        let union = |part: &Vec<Range<u64>>| part.iter().fold(ChunkRanges::empty(), |all, range| all | set(range));
        let available = available.iter().fold(ChunkRanges::empty(), |all, part| all | union(part));
        let others: Vec<ChunkRanges> = others.iter().map(union).collect();
        let has = |set_: &ChunkRanges, chunk: u64| !set_.is_disjoint(&set(&(chunk..chunk + 1)));
        let count = |chunk: u64| others.iter().filter(|other| has(other, chunk)).count();
        let here: Vec<u64> = (0..80).filter(|chunk| has(&available, *chunk)).collect();
        let least = here.iter().map(|chunk| count(*chunk)).min();
        let slow: Vec<u64> = here.into_iter().filter(|chunk| Some(count(*chunk)) == least).collect();
        let fast: Vec<u64> =
            rarest_of(&available, &others.iter().collect::<Vec<_>>()).into_iter().flatten().collect();
        prop_assert_eq!(fast, slow);
        prop_assert!(ranges(&available).all(|range| range.end <= 80));
    }
}
