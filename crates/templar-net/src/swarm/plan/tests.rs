//! Simulations of the plan with invented peers and an invented clock: every byte comes once, although some peers
//! are slow, partial or gone.

use std::collections::BTreeMap;
use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;
use proptest::prelude::*;
use templar_manifest::Hash;

use super::*;
use crate::foreign::ForeignText;
use crate::ranges::{GROUP, GROUP_BYTES, chunks, set};

mod crowd;
mod held;
mod rarest;

const TICK: Duration = Duration::from_millis(20);

fn rules() -> Rules {
    Rules { max_range_bytes: 4 << 20, ranges_per_peer: 2, requests_per_peer: 4, offset: 12_345 }
}

fn nothing() -> Local {
    Local { size: None, here: ChunkRanges::empty() }
}

/// A simulated peer.
#[derive(Debug, Clone)]
struct Actor {
    id: PeerId,
    /// The groups that one of its requests brings in a tick. With 0 it never brings anything.
    speed: u64,
    /// The thousandths of each blob that it has, as a half-open range. `(0, 1000)` is the whole blob.
    has: (u64, u64),
    /// The tick in which it goes away.
    dies: Option<u64>,
}

impl Actor {
    fn new(seed: u8, speed: u64) -> Self {
        Self { id: [seed; 32], speed, has: (0, 1000), dies: None }
    }

    fn have(&self, size: u64) -> Have {
        let groups = size.div_ceil(GROUP_BYTES);
        match self.has {
            (0, 1000) => Have::All,
            (from, to) if from < to => Have::Part(set(&(groups * from / 1000 * GROUP..groups * to / 1000 * GROUP))),
            _ => Have::Nothing,
        }
    }
}

/// A simulated request.
struct Running {
    actor: usize,
    job: Job,
    /// The number of its groups that have come.
    came: u64,
}

struct Game {
    plan: Plan,
    actors: Vec<Actor>,
    sizes: BTreeMap<Hash, u64>,
    running: BTreeMap<LeaseId, Running>,
    /// The number of times that each group came.
    groups: BTreeMap<(Hash, u64), u32>,
    ticks: u64,
}

impl Game {
    fn new(actors: Vec<Actor>, sizes: &[u64]) -> Self {
        let sizes: BTreeMap<Hash, u64> =
            sizes.iter().enumerate().map(|(i, size)| (Hash::of(&i.to_le_bytes()), *size)).collect();
        let mut plan = Plan::new(rules());
        for (id, size) in &sizes {
            plan.register(*id, *size, &[], &nothing());
            for actor in &actors {
                plan.set_have(&actor.id, id, actor.have(*size));
            }
        }
        Self { plan, actors, sizes, running: BTreeMap::new(), groups: BTreeMap::new(), ticks: 0 }
    }

    fn now(&self) -> Time {
        TICK * u32::try_from(self.ticks).unwrap()
    }

    fn count(&mut self, id: Hash, group: u64) {
        *self.groups.entry((id, group)).or_default() += 1;
    }

    fn finish(&mut self, lease: LeaseId) {
        let now = self.now();
        if let Some(running) = self.running.remove(&lease) {
            self.plan.finish(lease, None, now);
            if let Some(size) = self.plan.is_whole(&running.job.id) {
                self.plan.done(&running.job.id, size);
            }
        }
        for voided in self.plan.take_voided() {
            self.finish(voided);
        }
    }

    /// Advances one request by a tick. Returns whether it has ended.
    fn go_on(&mut self, lease: LeaseId) -> bool {
        let (now, Some(running)) = (self.now(), self.running.get_mut(&lease)) else { return false };
        let (speed, job) = (self.actors[running.actor].speed, running.job.clone());
        let size = self.sizes[&job.id];
        running.came += speed;
        let came = running.came;
        match job.piece {
            BlobPiece::Whole if came >= size.div_ceil(GROUP_BYTES) => {
                (0..size.div_ceil(GROUP_BYTES)).for_each(|group| self.count(job.id, group));
                self.plan.came_whole(lease, size);
                true
            }
            BlobPiece::Whole if speed > 0 => !self.plan.advance_whole(lease, came * GROUP_BYTES, now),
            BlobPiece::Proof { start } if speed > 0 => {
                assert_eq!(start, (size.div_ceil(GROUP_BYTES) - 1) * GROUP);
                self.count(job.id, start / GROUP);
                self.plan.proved(lease, size, &set(&(start..chunks(size))));
                true
            }
            BlobPiece::Whole | BlobPiece::Proof { .. } => false,
            BlobPiece::Range { left, .. } => {
                for step in came - speed..came {
                    let first = left.start + step * GROUP;
                    let next = (first + GROUP).min(chunks(size));
                    match self.plan.advance(lease, next, now) {
                        Some(end) if next <= end => {
                            self.count(job.id, first / GROUP);
                            if next == end {
                                return true;
                            }
                        }
                        _ => return true,
                    }
                }
                false
            }
        }
    }

    /// Simulates until every want is settled. Returns the number of ticks.
    fn play(&mut self) -> u64 {
        let everybody: Vec<PeerId> = self.actors.iter().map(|actor| actor.id).collect();
        while self.plan.open_wants().next().is_some() {
            self.ticks += 1;
            assert!(self.ticks < 20_000, "it does not end: {:?}", self.plan);
            for number in 0..self.actors.len() {
                let actor = self.actors[number].clone();
                if actor.dies == Some(self.ticks) {
                    self.plan.dismiss(&actor.id, &ProviderAnswer::Lost(ForeignText::of("died")));
                }
                while let Some(job) = self.plan.next(&actor.id, self.now()) {
                    self.running.insert(job.lease, Running { actor: number, job, came: 0 });
                }
            }
            for voided in self.plan.take_voided() {
                self.finish(voided);
            }
            for lease in self.running.keys().copied().collect::<Vec<_>>() {
                if self.go_on(lease) {
                    self.finish(lease);
                }
            }
            self.plan.fail_exhausted(&everybody);
        }
        self.ticks
    }

    fn everything_came_once(&mut self) {
        for (id, size) in self.sizes.clone() {
            let number = self.plan.by_id[&id];
            let (settled, received) = self.plan.outcome(number).unwrap();
            assert_eq!((settled, received), (Settled::Here { size }, size));
            for group in 0..size.div_ceil(GROUP_BYTES) {
                assert_eq!(self.groups.get(&(id, group)), Some(&1), "group {group} of {size} bytes");
            }
        }
        let total: u64 = self.sizes.values().sum();
        let progress = self.plan.progress();
        assert_eq!((progress.bytes, progress.bytes_here, progress.received), (total, total, total));
        assert_eq!(progress.blobs_here, self.sizes.len() as u64);
    }
}

fn actor(seed: u8) -> impl Strategy<Value = Actor> {
    let dies = prop_oneof![Just(None), (1..200_u64).prop_map(Some)];
    (0..6_u64, 0..=1000_u64, 0..=1000_u64, dies).prop_map(move |(speed, a, b, dies)| Actor {
        id: [seed; 32],
        speed,
        has: if a % 3 == 0 { (0, 1000) } else { (a.min(b), a.max(b)) },
        dies,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One honest peer with everything is enough, although others are slow, stalled, partial or die. Only small
    /// blobs can come twice, and only if their holder made no progress.
    #[test]
    fn everything_comes_once(
        others in (actor(1), actor(2), actor(3), actor(4)),
        speed in 1..4_u64,
        sizes in proptest::collection::vec(1..12_000_000_u64, 1..5),
    ) {
        let honest = Actor::new(9, speed);
        let mut game = Game::new(vec![others.0, others.1, others.2, others.3, honest], &sizes);
        game.play();
        game.everything_came_once();
        prop_assert!(game.plan.leases.is_empty());
        prop_assert!(game.plan.peers.values().all(|supply| supply.requests == 0 && supply.ranges == 0));
        for number in game.plan.wants.keys().copied().collect::<Vec<_>>() {
            game.plan.release(number);
        }
        prop_assert!(game.plan.wants.is_empty() && game.plan.by_id.is_empty());
    }
}

#[test]
fn equal_peers_share_the_work_and_the_time() {
    let size = 64 << 20;
    let alone = Game::new(vec![Actor::new(1, 2)], &[size]).play();
    let mut four = Game::new((1..=4).map(|seed| Actor::new(seed, 2)).collect(), &[size]);
    let together = four.play();
    four.everything_came_once();
    assert!(together <= alone / 4 + alone / 20, "{together} ticks of {alone}");
}

#[test]
fn one_slow_peer_does_not_hold_the_end() {
    let size = 64 << 20;
    let fast = Game::new((1..=3).map(|seed| Actor::new(seed, 8)).collect(), &[size]).play();
    // The fourth peer would need a hundred times as long for its ranges.
    let mut actors: Vec<Actor> = (1..=3).map(|seed| Actor::new(seed, 8)).collect();
    actors.push(Actor::new(4, 1));
    let mut with_slow = Game::new(actors.clone(), &[size]);
    let ticks = with_slow.play();
    with_slow.everything_came_once();
    assert!(ticks <= fast + 20, "{ticks} ticks, {fast} without the slow peer");
    // A peer that brings nothing at all costs two seconds, once.
    actors[3].speed = 0;
    let mut with_stalled = Game::new(actors, &[size]);
    let ticks = with_stalled.play();
    with_stalled.everything_came_once();
    assert!(ticks <= fast + 120, "{ticks} ticks, {fast} without the stalled peer");
}

#[test]
fn whoever_says_no_may_still_be_asked_when_nobody_else_is_left() {
    let lacking = Actor { has: (0, 0), ..Actor::new(1, 1) };
    let mut game = Game::new(vec![lacking.clone()], &[1000]);
    let job = game.plan.next(&lacking.id, TICK).unwrap();
    assert_eq!(job.piece, BlobPiece::Whole);
    assert!(!game.plan.fail_exhausted(&[lacking.id]), "it is being asked");
    game.plan.finish(job.lease, Some(ProviderAnswer::NotHere), TICK);
    assert!(game.plan.fail_exhausted(&[lacking.id]));
    let number = game.plan.by_id[&job.id];
    let answers = vec![(lacking.id, ProviderAnswer::NotHere)];
    assert_eq!(game.plan.outcome(number).unwrap().0, Settled::Failed(FetchFailure::NoProvider(answers)));

    // It is not the last hope while another peer has the blob.
    let mut game = Game::new(vec![lacking.clone(), Actor::new(2, 1)], &[1000]);
    assert_eq!(game.plan.next(&lacking.id, TICK), None);
}

#[test]
fn what_is_here_is_not_asked_for() {
    let (id, size) = (Hash::of(b"blob"), 10 * GROUP_BYTES + 5);
    let mut plan = Plan::new(rules());
    // Half of a group does not count, because it could not be verified again.
    let here = set(&(0..3 * GROUP + 8)) | set(&(10 * GROUP..u64::MAX));
    plan.register(id, u64::MAX, &[], &Local { size: Some(size), here });
    plan.set_have(&[1; 32], &id, Have::All);
    let mut asked = ChunkRanges::empty();
    while let Some(Job { piece: BlobPiece::Range { left, .. }, .. }) = plan.next(&[1; 32], TICK) {
        assert!(asked.is_disjoint(&set(&left)));
        asked |= set(&left);
        if asked == set(&(3 * GROUP..10 * GROUP)) {
            return;
        }
    }
    panic!("asked for {asked:?}");
}

#[test]
fn a_failure_that_others_heard_of_is_not_a_later_callers() {
    let (id, mut plan) = (Hash::of(b"blob"), Plan::new(rules()));
    let first = plan.register(id, 1000, &[], &nothing());
    plan.fail_exhausted(&[]);
    assert!(plan.outcome(first).is_some());
    let second = plan.register(id, 1000, &[], &nothing());
    assert!(second != first && plan.outcome(second).is_none());
    plan.release(first);
    plan.set_have(&[1; 32], &id, Have::All);
    let job = plan.next(&[1; 32], TICK).unwrap();
    plan.came_whole(job.lease, 900);
    assert_eq!(plan.outcome(second), Some((Settled::Here { size: 900 }, 900)));
}
