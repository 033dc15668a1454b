//! The admission of members: slots that are given and lost, their prices, and the agreement of the tables of
//! members.

use proptest::prelude::*;
use templar_manifest::{PriceRule, RunId};

use super::*;

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

/// Three slots, of which the first members have `first`.
fn spec(first: u8) -> RegistrationSpec {
    let spec = RegistrationSpec::customary(3, (1..=first).map(key).collect());
    let price = |per_window| PriceRule {
        per_window,
        first: 1_000,
        least: 1,
        most: 1 << 20,
        rise_ppm: 2_000_000,
        decay_ppm: 500_000,
    };
    RegistrationSpec {
        immunity_windows: 2,
        idle_windows: 3,
        merit_windows: 4,
        anchor_windows: 3,
        hashcash: price(2),
        burn: price(1),
        ..spec
    }
}

fn certificate(owner: u8, node: u8, payment: Payment) -> Certificate {
    Certificate { owner: key(owner), node: key(node), anchor: WindowIndex(0), payment }
}

fn burn(owner: u8, amount_micros: u64) -> Certificate {
    certificate(owner, owner, Payment::Burn { amount_micros })
}

fn work(owner: u8, nonce: u64) -> Certificate {
    certificate(owner, owner, Payment::Hashcash { nonce })
}

fn decide(
    members: &Members,
    spec: &RegistrationSpec,
    window: u64,
    asked: &[Certificate],
    paid: &[(u8, u32)],
) -> Decided {
    let run = RunId::default();
    let id = |certificate: &Certificate| Hash::of(format!("{certificate:?}").as_bytes()).into();
    let ranked = asked.iter().map(|one| (members.rank(run, id(one), one), *one)).collect();
    let weights: Vec<Weight> =
        paid.iter().map(|&(miner, weight_ppm)| Weight { miner: key(miner), weight_ppm }).collect();
    let seed = Hash::of(&window.to_le_bytes());
    // Who is paid has contributed.
    let contributed = &paid.iter().map(|(miner, _)| key(*miner)).collect();
    let closing = WindowEnd { window: WindowIndex(window), seed, weights: &weights, contributed };
    members.decide(spec, &closing, &ranked)
}

fn verdict(decided: &Decided, owner: u8) -> Admitted {
    decided.admissions.iter().find(|admission| admission.owner == key(owner)).unwrap().verdict
}

fn owners(members: &Members) -> Vec<PublicKey> {
    members.iter().map(|member| member.owner).collect()
}

#[test]
fn a_newcomer_takes_the_lowest_free_slot_and_prices_follow_who_paid() {
    let spec = spec(1);
    let before = Members::first(&spec, Hash::default());
    let decided = decide(&before, &spec, 0, &[work(7, 1), burn(8, 5_000)], &[]);
    assert_eq!(verdict(&decided, 7), Admitted::Joined { slot: 1, replaced: None });
    assert_eq!(verdict(&decided, 8), Admitted::Joined { slot: 2, replaced: None });
    assert_eq!((decided.burns, decided.replaced), (vec![(key(8), 5_000)], vec![]));
    let members = decided.members;
    assert_eq!(owners(&members), [key(1), key(7), key(8)]);
    let member = members.by_owner(&key(7)).unwrap();
    assert_eq!((member.since, member.merit_nanos), (WindowIndex(1), 0));
    // Doubled by the one who joined, halved by the window.
    assert_eq!((members.hashes(), members.burn_micros()), (1_000, 1_000));
    let idle = decide(&members, &spec, 1, &[], &[]).members;
    assert_eq!((idle.hashes(), idle.burn_micros()), (500, 500));
    assert_ne!(idle, members);
}

#[test]
fn a_certificate_can_be_anchored_to_the_last_windows_only() {
    let spec = spec(1);
    let mut members = Members::first(&spec, Hash::default());
    for window in 0..4 {
        members = decide(&members, &spec, window, &[], &[]).members;
    }
    let anchors: Vec<u64> = (0..6).filter(|window| members.anchor(WindowIndex(*window)).is_some()).collect();
    assert_eq!(anchors, [2, 3, 4]);
    let newest = members.newest_anchor().unwrap();
    assert_eq!((newest.window, newest.seed), (WindowIndex(4), Hash::of(&3u64.to_le_bytes())));
    assert_eq!(members.hashes(), 62, "one price, whatever the anchor");
}

#[test]
fn where_all_slots_are_taken_the_one_worth_least_is_replaced_after_its_immunity() {
    let spec = spec(3);
    let mut members = Members::first(&spec, Hash::default());
    let paid = [(1, 300_000), (2, 100_000), (3, 200_000)];
    for window in 0..2 {
        let decided = decide(&members, &spec, window, &[work(7, 1)], &paid);
        assert_eq!(verdict(&decided, 7), Admitted::NoSlot, "nobody can be replaced before window 2");
        assert_eq!(decided.members.hashes(), members.hashes() / 2, "who did not join does not raise the price");
        members = decided.members;
    }
    let decided = decide(&members, &spec, 2, &[work(7, 1), work(8, 2), burn(9, 1_000)], &paid);
    let replaced: Vec<PublicKey> = decided.replaced.clone();
    // The two with the lowest merits go for the two that work pays for, then the last for the burn; and no
    // newcomer goes.
    assert_eq!(replaced, [key(2), key(3), key(1)]);
    let members = decided.members;
    assert_eq!(members.len(), 3);
    assert!(
        [1, 2, 3].iter().all(|old| members.by_owner(&key(*old)).is_none() && members.by_node(&key(*old)).is_none())
    );
    let again = decide(&members, &spec, 3, &[work(2, 5)], &[]);
    assert_eq!(verdict(&again, 2), Admitted::NoSlot);
    // Of equals the newest goes, never the oldest.
    let mut spec = spec;
    spec.immunity_windows = 0;
    let equals = Members::first(&spec, Hash::default());
    assert_eq!(decide(&equals, &spec, 0, &[work(7, 1)], &[]).replaced, [key(3)]);
    let paid = [(1, 1), (2, 0), (3, 1)];
    assert_eq!(decide(&equals, &spec, 0, &[work(7, 1)], &paid).replaced, [key(2)], "worth least");
    let mut members = decide(&equals, &spec, 0, &[work(7, 1)], &[]).members;
    for (window, owner) in (1..).zip([8, 9, 10]) {
        members = decide(&members, &spec, window, &[work(owner, 1)], &[]).members;
        assert!(members.by_owner(&key(1)).is_some() && members.by_owner(&key(2)).is_some(), "a flood replaces itself");
    }
}

/// Immunity is for those who contribute: a slot that nobody uses can be taken, and one that is used cannot.
#[test]
fn an_idle_member_is_not_immune() {
    let mut spec = spec(3);
    spec.immunity_windows = 100;
    let mut members = Members::first(&spec, Hash::default());
    let busy = [(1, 300_000), (3, 100_000)];
    for window in 0..2 {
        let decided = decide(&members, &spec, window, &[work(7, 1)], &busy);
        assert_eq!(verdict(&decided, 7), Admitted::NoSlot, "nobody is idle before window 3");
        members = decided.members;
    }
    let idle = |members: &Members, owner: u8| members.by_owner(&key(owner)).unwrap().is_idle(&spec, WindowIndex(3));
    let decided = decide(&members, &spec, 2, &[work(7, 1), work(8, 1)], &busy);
    assert_eq!(decided.replaced, [key(2)]);
    let joined = [7, 8].map(|owner| verdict(&decided, owner));
    assert!(joined.contains(&Admitted::NoSlot), "one slot was idle: {joined:?}");
    let unasked = decide(&members, &spec, 2, &[], &busy).members;
    assert_eq!([1, 2, 3].map(|owner| idle(&unasked, owner)), [false, true, false]);
    // One contribution, and it is busy again.
    let again = decide(&unasked, &spec, 3, &[work(7, 1)], &[(2, 0)]);
    assert_eq!(verdict(&again, 7), Admitted::NoSlot);
}

#[test]
fn a_merit_follows_the_weights() {
    let spec = spec(1);
    let mut members = Members::first(&spec, Hash::default());
    let mut merits = Vec::new();
    for window in 0..3 {
        members = decide(&members, &spec, window, &[], &[(1, 400_000)]).members;
        merits.push(members.by_owner(&key(1)).unwrap().merit_nanos);
    }
    assert_eq!(merits, [100_000_000, 175_000_000, 231_250_000]);
    members = decide(&members, &spec, 3, &[], &[]).members;
    assert_eq!(members.by_owner(&key(1)).unwrap().merit_nanos, 173_437_500);
}

#[test]
fn of_more_than_a_window_takes_those_count_that_paid_most() {
    let mut spec = spec(0);
    (spec.slots, spec.burn.per_window) = (10, 2);
    let members = Members::first(&spec, Hash::default());
    let asked: Vec<Certificate> = (10..15).map(|owner| work(owner, 1)).collect();
    let mut by_work = asked.clone();
    by_work.sort_by_key(|one| one.work(RunId::default(), &Hash::default()).unwrap());
    let decided = decide(&members, &spec, 0, &[&asked[..], &[burn(20, 5), burn(21, 7), burn(22, 6)]].concat(), &[]);
    let joined: Vec<PublicKey> = owners(&decided.members);
    assert_eq!(joined, [by_work[0].owner, by_work[1].owner, key(21), key(22)]);
    let crowded = decided.admissions.iter().filter(|admission| admission.verdict == Admitted::Crowded).count();
    assert_eq!(crowded, 4);
    assert!(decided.admissions.is_sorted_by_key(|admission| admission.owner));
    assert_eq!(decided.burns.len(), 2, "who is crowded out burns nothing");
}

#[test]
fn a_node_key_trains_for_one_member() {
    let spec = spec(1);
    let members = Members::first(&spec, Hash::default());
    let shared = |owner, nonce| certificate(owner, 50, Payment::Hashcash { nonce });
    let (one, two) = (shared(7, 1), shared(8, 1));
    let seed = Hash::default();
    let [first, second] =
        if one.work(RunId::default(), &seed) < two.work(RunId::default(), &seed) { [7, 8] } else { [8, 7] };
    let decided = decide(&members, &spec, 0, &[one, two], &[]);
    assert_eq!(verdict(&decided, first), Admitted::Joined { slot: 1, replaced: None });
    assert_eq!(verdict(&decided, second), Admitted::NodeTaken);
    assert_eq!(decided.members.by_node(&key(50)).unwrap().owner, key(first));
    assert!(decided.members.by_node(&key(first)).is_none(), "the owner's key does not train");
}

#[test]
fn a_rotation_changes_the_node_key_and_nothing_else() {
    let spec = spec(2);
    let members = Members::first(&spec, Hash::default());
    let rotation = Certificate { anchor: WindowIndex(5), ..certificate(1, 60, Payment::Rotation) };
    let clash = Certificate { anchor: WindowIndex(5), ..certificate(2, 60, Payment::Rotation) };
    let decided = decide(&members, &spec, 5, &[rotation], &[(1, 400_000)]);
    assert_eq!(verdict(&decided, 1), Admitted::Rotated);
    let member = decided.members.by_node(&key(60)).unwrap();
    let expected = Member {
        owner: key(1),
        node: key(60),
        slot: 0,
        since: WindowIndex(0),
        anchor: WindowIndex(5),
        merit_nanos: 100_000_000,
        idle_since: WindowIndex(6),
    };
    assert_eq!(*member, expected);
    assert!(decided.members.by_node(&key(1)).is_none());
    assert_eq!(decided.members.hashes(), members.hashes() / 2, "a rotation is no newcomer");
    let both = decide(&members, &spec, 5, &[rotation, clash], &[]);
    let verdicts = [verdict(&both, 1), verdict(&both, 2)];
    assert!(verdicts.contains(&Admitted::Rotated) && verdicts.contains(&Admitted::NodeTaken), "{verdicts:?}");
}

#[test]
fn an_inbox_names_the_best_of_each_way() {
    let spec = spec(1);
    let members = Members::first(&spec, Hash::default());
    let mut asked: Vec<Certificate> = (10..30).map(|owner| work(owner, 1)).collect();
    asked.extend((30..40).map(|owner| burn(owner, u64::from(owner))));
    asked.extend((40..45).map(|owner| certificate(owner, owner, Payment::Rotation)));
    let id = |one: &Certificate| Hash::of(format!("{one:?}").as_bytes()).into();
    let named =
        Rank::named(asked.iter().map(|one| (members.rank(RunId::default(), id(one), one), *one)).collect(), &spec);
    let count = |way: fn(&Payment) -> bool| named.iter().filter(|one| way(&one.payment)).count();
    let counts = [
        count(|payment| matches!(payment, Payment::Rotation)),
        count(|payment| matches!(payment, Payment::Hashcash { .. })),
        count(|payment| matches!(payment, Payment::Burn { .. })),
    ];
    assert_eq!(counts, [5, 4, 2]);
    assert_eq!(named.last().unwrap().payment, Payment::Burn { amount_micros: 38 });
    assert_eq!(Rank::most_named(&spec), 9);
}

proptest! {
    /// For any requests and merits, the tables agree with each other and slots are never exceeded.
    #[test]
    fn members_are_as_many_as_slots_at_most(
        first in 0u8..4,
        windows in prop::collection::vec(
            (prop::collection::vec((0u8..12, 0u8..12, 0u64..4), 0..6), prop::collection::vec(0u32..300_000, 12)), 1..12),
    ) {
        let spec = spec(first);
        let mut members = Members::first(&spec, Hash::default());
        for (window, (asked, weights)) in windows.into_iter().enumerate() {
            let mut by_owner = BTreeMap::new();
            for (owner, node, way) in asked {
                let is_member = members.by_owner(&key(owner)).is_some();
                let payment = match way {
                    _ if is_member => Payment::Rotation,
                    0 => Payment::Burn { amount_micros: u64::from(node) },
                    way => Payment::Hashcash { nonce: way },
                };
                by_owner.insert(owner, certificate(owner, node, payment));
            }
            let asked: Vec<Certificate> = by_owner.into_values().collect();
            let paid: Vec<(u8, u32)> = (0u8..12).zip(weights).collect();
            let decided = decide(&members, &spec, window as u64, &asked, &paid);
            prop_assert_eq!(decided.admissions.len(), asked.len());
            let before = members.len();
            members = decided.members;
            let joined = decided.admissions.iter().filter(|one| matches!(one.verdict, Admitted::Joined { .. })).count();
            prop_assert_eq!(members.len(), before + joined - decided.replaced.len());
            prop_assert!(members.len() <= 3 && members.of_owner.len() == members.len());
            prop_assert_eq!(members.of_node.len(), members.len());
            for member in members.iter() {
                prop_assert!(member.slot < 3);
                prop_assert_eq!(members.by_owner(&member.owner), Some(member));
                prop_assert_eq!(members.by_node(&member.node), Some(member));
            }
        }
    }
}
