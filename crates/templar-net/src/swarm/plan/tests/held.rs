//! Leases: no other peer gets a leased range. A range is free again at the moment in which its holder fails, not
//! only when the holder's task ends. The next range is requested before the last one has come.

use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;

use super::super::*;
use super::{TICK, nothing, rules};
use crate::foreign::ForeignText;
use crate::ranges::{GROUP, chunks, set};

const SIZE: u64 = 6 << 20;

const DYING: PeerId = [1; 32];

const LIVING: PeerId = [2; 32];

fn id() -> Hash {
    Hash::of(b"blob")
}

/// A plan in which one peer holds as many ranges as it may, and the other has not been asked for anything.
fn held() -> (Plan, Vec<(LeaseId, std::ops::Range<u64>)>) {
    let mut plan = Plan::new(rules());
    plan.register(id(), SIZE, &[], &nothing());
    for peer in [DYING, LIVING] {
        plan.set_have(&peer, &id(), Have::All);
    }
    let proof = plan.next(&DYING, TICK).unwrap();
    plan.proved(proof.lease, SIZE, &set(&(chunks(SIZE) - GROUP..chunks(SIZE))));
    plan.finish(proof.lease, None, TICK);
    let mut leases = Vec::new();
    while let Some(Job { lease, piece: BlobPiece::Range { left, .. }, .. }) = plan.next(&DYING, TICK) {
        leases.push((lease, left));
    }
    assert_eq!(leases.len(), rules().ranges_per_peer);
    // One group of the first range has come.
    assert_eq!(plan.advance(leases[0].0, leases[0].1.start + GROUP, TICK), Some(leases[0].1.end));
    leases[0].1.start += GROUP;
    (plan, leases)
}

/// Returns all ranges that this peer gets at one moment, if it delivers each of them at once.
fn given(plan: &mut Plan, peer: &PeerId) -> ChunkRanges {
    let mut given = ChunkRanges::empty();
    while let Some(Job { lease, piece: BlobPiece::Range { left, .. }, .. }) = plan.next(peer, TICK) {
        assert!(given.is_disjoint(&set(&left)), "{left:?} is asked for twice");
        given |= set(&left);
        plan.advance(lease, left.end, TICK);
        plan.finish(lease, None, TICK);
    }
    given
}

fn wanted() -> ChunkRanges {
    set(&(0..chunks(SIZE) - GROUP))
}

#[test]
fn while_a_peer_holds_a_range_no_other_is_given_it() {
    let (mut plan, leases) = held();
    let came = set(&(leases[0].1.start - GROUP..leases[0].1.start));
    let held = leases.iter().fold(came, |held, (_, left)| held | set(left));
    assert_eq!(given(&mut plan, &LIVING), wanted() - held);
}

#[test]
fn what_a_peer_held_that_failed_is_the_others_at_once() {
    let answer = ProviderAnswer::Lost(ForeignText::of("gone"));
    type End = fn(&mut Plan, &ProviderAnswer);
    let ends: [(&str, End); 3] = [
        ("dismissed", |plan, answer| plan.dismiss(&DYING, answer)),
        ("its connection broke", |plan, _| plan.take_back(&DYING)),
        ("its task ended", |plan, _| assert!(plan.farewell(&DYING, TICK).is_none())),
    ];
    for (name, end) in ends {
        let (mut plan, leases) = held();
        let came = set(&(leases[0].1.start - GROUP..leases[0].1.start));
        end(&mut plan, &answer);
        assert_eq!(given(&mut plan, &LIVING), wanted() - came, "{name}");
        assert_eq!(plan.is_whole(&id()).is_some(), name == "its task ended", "{name}: until the holder has stopped");
        // Its requests are told to stop, and bytes that they still bring are not counted twice.
        let mut told = plan.take_voided();
        told.sort_unstable();
        for (lease, left) in &leases {
            assert_eq!(told.contains(lease), name != "its task ended", "{name}");
            assert_eq!(plan.advance(*lease, left.end, TICK), None, "{name}");
            plan.finish(*lease, None, TICK);
        }
        assert_eq!(plan.is_whole(&id()), Some(SIZE), "{name}");
        assert_eq!(plan.progress().received, SIZE, "{name}");
    }
}

#[test]
fn a_peer_that_failed_is_not_asked_again_and_one_that_lost_its_connection_is() {
    let (mut plan, leases) = held();
    plan.dismiss(&DYING, &ProviderAnswer::Stalled);
    leases.iter().for_each(|(lease, _)| plan.finish(*lease, None, TICK));
    assert_eq!(plan.next(&DYING, TICK), None);
    assert!(!plan.is_useful(&DYING) && plan.is_useful(&LIVING));
    let (mut plan, leases) = held();
    plan.take_back(&DYING);
    leases.iter().for_each(|(lease, _)| plan.finish(*lease, None, TICK));
    assert!(plan.next(&DYING, TICK).is_some());
}

/// A failed request gives its range back, although its peer as a whole has not failed.
#[test]
fn a_range_whose_request_failed_is_given_to_another() {
    let (mut plan, leases) = held();
    let (lease, left) = leases[1].clone();
    plan.finish(lease, Some(ProviderAnswer::Aborted { received: 0 }), TICK);
    assert!(set(&left).is_subset(&given(&mut plan, &LIVING)));
    assert_eq!(plan.next(&DYING, TICK), None, "it is not asked for this blob again");
}

/// Ranges that were requested together end together, so the next one is requested earlier. Otherwise the
/// connection would be idle for a round trip.
#[test]
fn one_more_range_is_asked_for_shortly_before_all_that_a_peer_holds_have_come() {
    let (mut plan, leases) = held();
    let second = TICK + Duration::from_secs(1);
    let until = |plan: &mut Plan, (lease, left): &(LeaseId, std::ops::Range<u64>), thousandths: u64, now| {
        let groups = (left.end - left.start) / GROUP * thousandths / 1000;
        plan.advance(*lease, left.start + groups * GROUP, now).unwrap();
    };
    until(&mut plan, &leases[0], 900, second);
    assert_eq!(plan.next(&DYING, second), None, "the other one has brought nothing yet");
    until(&mut plan, &leases[1], 500, second);
    assert_eq!(plan.next(&DYING, second), None, "the other one takes a second more");
    until(&mut plan, &leases[1], 900, second);
    let third = plan.next(&DYING, second).unwrap();
    assert!(matches!(third.piece, BlobPiece::Range { .. }));
    assert_eq!(plan.next(&DYING, second), None, "one more, and not two");
    // It does not take a range from another peer early, because that peer would bring it as soon.
    given(&mut plan, &LIVING);
    assert_eq!(plan.next(&DYING, second), None);
}
